"""A plain function on tensors as a merge method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from documented import write_example
from safetensors.torch import load_file

from evomerge import api
from evomerge.errors import RecipeError
from evomerge.genome import ParameterSpace
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.registry import find_method
from evomerge.recipe import ModelSource, Parent, Recipe

NAME = "my_power.py:merge"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The function of the documentation, in a file of the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_example("methods.md", "my_power.py", tmp_path)


def test_the_documented_function_is_short_and_becomes_a_method(own: Path) -> None:
    assert len(own.read_text().splitlines()) <= 20
    method = find_method(NAME)
    spec = method.spec
    assert (spec.name, spec.needs_base, spec.paper) == (NAME, True, "https://example.org")
    assert spec.summary == "Sum of task vectors whose entries are raised to a power"
    assert [parameter.name for parameter in spec.parameters] == ["weight", "power"]
    parents = [Parent(name, ModelSource(name)) for name in "ab"]
    space = ParameterSpace(spec, parents, base=Parent("base", ModelSource("base")), n_layers=2, blocks=1)
    assert "power.layers0-1" in {gene.name for gene in space.genes}


def test_it_computes_what_it_says_with_parents_in_their_order(own: Path) -> None:
    base = torch.tensor([1.0, -1.0])
    parents = [torch.tensor([5.0, -1.0]), torch.tensor([1.0, -10.0])]
    values = {"weight": (1.0, 0.5), "power": 0.5}
    found = find_method(NAME).merge(Inputs(base, parents, values, (1, 2)))
    assert found.tolist() == [3.0, -2.5]


def test_it_merges_models_in_memory_as_on_disk(own: Path, family: SimpleNamespace, tmp_path: Path) -> None:
    parents = tuple(Parent(name, ModelSource(str(getattr(family, name)))) for name in ("math", "japanese"))
    base = Parent("base", ModelSource(str(family.base)))
    recipe = Recipe(NAME, parents, base, {"weight": {"math": 1.0, "japanese": 0.5}, "power": 1.0})
    live = LiveModel(base.source)
    live.write(recipe)
    merged = load_file(api.merge(recipe, tmp_path / "out") / "model.safetensors")
    linear = LiveModel(base.source)
    linear.write(replace(recipe, method="task_arithmetic", parameters={"weight": {"math": 1.0, "japanese": 0.5}}))
    sums = linear.model.state_dict()
    for name, tensor in live.model.state_dict().items():
        assert name not in merged or tensor.equal(merged[name])
        assert torch.allclose(tensor, sums[name], atol=1e-5)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("def merge(base, weight=1): ...", "weight is none of these"),
        ("def merge(base): ...", "it does not take `parents`"),
        ("def merge(parents, tensors): ...", "tensors is none of these"),
        (
            "from evomerge.recipe.method import Parameter\ndef merge(parents, w=Parameter('weight', 1.0)): ...",
            "w is none",
        ),
    ],
)
def test_arguments_that_nobody_gives_are_refused(
    code: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=f"'bad.py:merge' is a function, so it takes `parents`.*{what}"):
        find_method("bad.py:merge")


def test_a_result_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flat.py").write_text("def merge(parents):\n    return parents[0].sum()\n")
    monkeypatch.chdir(tmp_path)
    method = find_method("flat.py:merge")
    assert not method.spec.needs_base
    with pytest.raises(RecipeError, match=r"must return a tensor of the shape \(2,\), but returned \(\)"):
        method.merge(Inputs(None, [torch.ones(2)], {}))
