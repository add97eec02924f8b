"""What merge methods must keep, through the whole way from recipe to tensors (P1 to P10 of the specification).

These are the methods whose parameters are weights, densities and a place on an arc; `test_merge_properties.py` holds
all methods to the same properties, tensor by tensor.
"""

import tempfile
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from documented import write_example
from method_case import ARITHMETIC
from safetensors.torch import load_file
from tiny_models import llama, random_tensors, recipe, same_bytes, tensors_of, write_checkpoint

from evomerge.merge.apply import merge_tensor
from evomerge.merge.methods.registry import find_method
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe

OWN = "my_merge:METHOD"
"""The method of docs/methods.md, from a module of the user's."""
with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
    write_example("methods.md", "my_merge.py", Path(folder))
    patch.syspath_prepend(folder)
    find_method(OWN)  # from now on it is imported

ALL = [*ARITHMETIC, OWN]
WITH_BASE = [name for name in ALL if find_method(name).spec.needs_base]
ORDER_FREE = [name for name in ALL if find_method(name).order_free]
SPARSE = [name for name in ALL if find_method(name).spec.parameter("density")]


def built(of: Recipe) -> dict[str, torch.Tensor]:
    plan = Sources().plan(of)
    return {task.name: merge_tensor(plan, task).clone() for task in plan.tasks}


def mix(method: str, family: SimpleNamespace, **fields: Any) -> Recipe:
    parents = {"math": family.math, "japanese": family.japanese, "code": family.code}
    if find_method(method).spec.n_parents[1] == 2:
        parents.pop("code")
    parameters = {"weight": dict(zip(parents, (0.9, 0.4, 0.7), strict=False)), "density": 0.6, "t": 0.3, "lambda": 1.2}
    known = {p.name for p in find_method(method).spec.parameters}
    given = {**{k: v for k, v in parameters.items() if k in known}, **fields.pop("parameters", {})}
    return recipe(method, family.base, parents, parameters=given, **fields)


def whole(method: str) -> dict[str, float]:
    return {"density": 1.0} if method in SPARSE else {}


@pytest.mark.parametrize("method", [name for name in ALL if find_method(name).spec.n_parents[0] == 1])
def test_p1_one_parent_with_weight_one_is_that_parent(method: str, family: SimpleNamespace) -> None:
    out = built(recipe(method, family.base, {"math": family.math}, parameters={"weight": 1.0, **whole(method)}))
    assert same_bytes(out, tensors_of(family.math))


@pytest.mark.parametrize("method", [name for name in ALL if find_method(name).spec.n_parents[1] is None])
def test_p1_parents_with_weight_zero_do_not_count(method: str, family: SimpleNamespace) -> None:
    parameters = {"weight": {"math": 1.0, "japanese": 0.0}, **whole(method)}
    parents = {"math": family.math, "japanese": family.japanese}
    assert same_bytes(built(recipe(method, family.base, parents, parameters=parameters)), tensors_of(family.math))


@pytest.mark.parametrize(("t", "parent"), [(0.0, "math"), (1.0, "japanese")])
def test_p1_the_ends_of_slerp_are_its_parents(t: float, parent: str, family: SimpleNamespace) -> None:
    out = built(mix("slerp", family, parameters={"t": t}))
    assert same_bytes(out, tensors_of(getattr(family, parent)))


@pytest.mark.parametrize("method", [name for name in ALL if not name.startswith("dare")])
def test_p2_equal_parents_give_that_parent(method: str, family: SimpleNamespace) -> None:
    n = find_method(method).spec.n_parents[1] or 3
    # A sum of task vectors gives the parent back when the weights sum to 1; a mean does so for any weights.
    weight = {"weight": 1.0 / n} if find_method(method).spec.parameter("weight") else {}
    parents = {f"m{i}": family.math for i in range(n)}
    out = built(recipe(method, family.base, parents, parameters={**weight, **whole(method)}))
    expected = tensors_of(family.math)
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ALL)
def test_p3_parents_that_equal_the_base_give_the_base(method: str, family: SimpleNamespace) -> None:
    out = built(recipe(method, family.base, {"a": family.base, "b": family.base}))
    expected = tensors_of(family.base)
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", WITH_BASE)
@pytest.mark.parametrize("nothing", [{"lambda": 0.0}, {"weight": 0.0}, {"density": 0.0}], ids=str)
def test_p4_nothing_added_is_the_base(method: str, nothing: dict[str, float], family: SimpleNamespace) -> None:
    if "density" in nothing and method not in SPARSE:
        pytest.skip("no density")
    assert same_bytes(built(mix(method, family, parameters=nothing)), tensors_of(family.base))


@pytest.mark.parametrize("method", ORDER_FREE)
def test_p5_the_order_of_parents_does_not_change_a_byte(method: str, family: SimpleNamespace) -> None:
    first = mix(method, family)
    results = [built(Recipe(first.method, tuple(order), first.base, first.parameters))
               for order in permutations(first.parents)]  # fmt: skip
    assert all(same_bytes(results[0], other) for other in results[1:])


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_p6_names_and_shapes_are_the_bases_and_the_dtype_is_the_recipes(
    method: str, dtype: str | None, family: SimpleNamespace
) -> None:
    out, base = built(mix(method, family, dtype=dtype)), tensors_of(family.base)
    assert out.keys() == base.keys()
    for name, tensor in out.items():
        assert tensor.shape == base[name].shape
        assert tensor.dtype == (base[name].dtype if dtype is None else getattr(torch, dtype))


@pytest.mark.filterwarnings("ignore:SLERP of opposite")
@pytest.mark.parametrize("method", ALL)
def test_p7_degenerate_tensors_give_finite_values(method: str, tmp_path: Path) -> None:
    config = llama(num_hidden_layers=1, vocab_size=8)
    fills = {"base": 0.0, "a": 0.0, "b": 1.0, "c": -1.0}
    base = random_tensors(config, 0)
    for name, fill in fills.items():
        write_checkpoint(tmp_path / name, {k: torch.full_like(v, fill) for k, v in base.items()}, config)
    for pair in (("a", "b"), ("b", "c"), ("a", "a")):
        parents = {f"{i}{name}": tmp_path / name for i, name in enumerate(pair)}
        assert all(t.isfinite().all() for t in built(recipe(method, tmp_path / "base", parents)).values())


@pytest.mark.parametrize("method", ALL)
def test_p8_the_same_recipe_gives_the_same_bytes_in_any_tensor_order(method: str, family: SimpleNamespace) -> None:
    of = mix(method, family, seed=7)
    plan = Sources().plan(of)
    backwards = {task.name: merge_tensor(plan, task).clone() for task in reversed(plan.tasks)}
    torch.rand(3)  # the global generator has no part in it
    assert same_bytes(built(of), backwards)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_p8_another_seed_or_parent_or_tensor_has_another_mask(method: str, family: SimpleNamespace) -> None:
    one, other = built(mix(method, family, seed=0)), built(mix(method, family, seed=1))
    assert not same_bytes(one, other)
    base = tensors_of(family.base)
    parents = {"a": family.math, "b": family.math}
    alone = [built(recipe(method, family.base, {name: path}, parameters={"density": 0.5})) for name, path in
             parents.items()]  # fmt: skip
    assert not same_bytes(*alone)
    kept = [(alone[0][f"model.layers.{i}.mlp.up_proj.weight"] != base[f"model.layers.{i}.mlp.up_proj.weight"])
            for i in range(2)]  # fmt: skip
    assert not torch.equal(*kept)


@pytest.mark.parametrize("method", ALL)
def test_p9_integer_tensors_and_masks_are_copied_from_the_base(method: str, custom_family: SimpleNamespace) -> None:
    sources = {
        name: ModelSource(str(getattr(custom_family, name)), trust_remote_code=True) for name in ("base", "a", "b")
    }
    of = Recipe(method, (Parent("a", sources["a"]), Parent("b", sources["b"])), Parent("base", sources["base"]))
    out, base = built(of), tensors_of(custom_family.base)
    for name in ("steps", "causal_mask"):
        assert torch.equal(out[name], base[name])
        assert out[name].dtype == base[name].dtype
        assert not torch.equal(out[name], tensors_of(custom_family.a)[name])
    assert not torch.equal(out["lm_head.weight"], base["lm_head.weight"])


@pytest.mark.parametrize("method", WITH_BASE)
@pytest.mark.parametrize("c", [0.5, 4.0])
def test_p10_scaling_all_task_vectors_scales_the_merged_one(
    method: str, c: float, tmp_path: Path, family: SimpleNamespace
) -> None:
    base = load_file(family.base / "model.safetensors")
    for name in ("math", "japanese", "code"):
        tensors = load_file(getattr(family, name) / "model.safetensors")
        scaled = {k: base[k].double() + c * (v.double() - base[k].double()) for k, v in tensors.items()}
        write_checkpoint(tmp_path / name, {k: v.float() for k, v in scaled.items()}, llama())
    small = built(mix(method, family))
    big = built(mix(method, SimpleNamespace(**{**vars(family), **{n: tmp_path / n for n in
                                                                  ("math", "japanese", "code")}})))  # fmt: skip
    for name, tensor in big.items():
        # Rounding the scaled parents can swap near-equal magnitudes at the trim's threshold: allow single entries.
        wrong = ((tensor - base[name]) - c * (small[name] - base[name])).abs() > 1e-5 * c
        assert wrong.float().mean() <= 0.01
