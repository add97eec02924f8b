"""The data-free methods of papers: their known answers and edge cases."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cases.papers import CASES
from method_case import MethodCase
from tiny_models import make, near, recipe, same_bytes, tensors_of

from evomerge.errors import RecipeError
from evomerge.genome import ParameterSpace
from evomerge.merge.apply import merge_tensor
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.kernels.torch_engine import TorchEngine
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.compeft import compress, moments
from evomerge.merge.methods.consensus_ta import consensus
from evomerge.merge.methods.expo import extrapolate
from evomerge.merge.methods.pipeline.sparsify import magnitude
from evomerge.merge.methods.ranks import RankSearch, Spread
from evomerge.merge.methods.registry import find_method
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.merge.plan import check_recipe
from evomerge.merge.sources import Sources
from evomerge.recipe import Group, ModelSource, Recipe


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def merge(method: str, base: torch.Tensor, parents: list[torch.Tensor], **given: Any) -> torch.Tensor:
    found = find_method(method)
    values = {p.name: given.get(p.name.replace("lambda", "lam"), p.default) for p in found.spec.parameters}
    for p in found.spec.parameters:
        if p.per_parent and not isinstance(values[p.name], tuple):
            values[p.name] = (values[p.name],) * len(parents)
    return found.merge(Inputs(base, parents, values, tuple(range(len(parents)))))


def built(of: Recipe) -> dict[str, torch.Tensor]:
    plan = Sources().plan(of)
    return {task.name: merge_tensor(plan, task).clone() for task in plan.tasks}


def close(actual: torch.Tensor, *expected: float) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6, atol=1e-6)


# ---- ExPO and re-basing


def test_expo_known_answer() -> None:
    close(merge("expo", vector(1), [vector(2)], alpha=0.5), 2.5)
    close(extrapolate(vector(1, -2), alpha=0.5), 1.5, -3)


def test_expo_without_a_step_copies_the_parent_and_back_by_one_the_base(family: SimpleNamespace) -> None:
    for alpha, expected in ((0.0, family.math), (-1.0, family.base)):
        of = recipe("expo", family.base, {"math": family.math}, parameters={"alpha": alpha})
        assert same_bytes(built(of), tensors_of(expected))


def test_expo_takes_one_parent(family: SimpleNamespace) -> None:
    with pytest.raises(RecipeError, match="expo takes exactly 1 parent, but came 2"):
        Sources().plan(recipe("expo", family.base, {"a": family.math, "b": family.code}))


def test_rebase_adds_what_the_others_learned_to_the_first_parent() -> None:
    close(merge("rebase", vector(1, 1), [vector(5, 2), vector(2, -1)], weight=(9.0, 0.5)), 5.5, 1.0)


def test_rebase_needs_no_weight_of_the_first_parent_and_copies_it_where_nothing_is_added(
    family: SimpleNamespace,
) -> None:
    parents = {"new": family.japanese, "math": family.math, "code": family.code}
    weight = {"math": 0.5, "code": 0.25}
    without = built(recipe("rebase", family.base, parents, parameters={"weight": weight}))
    named = built(recipe("rebase", family.base, parents, parameters={"weight": {**weight, "new": 7.0}}))
    assert same_bytes(without, named)
    base, new, math_, code = map(tensors_of, (family.base, family.japanese, family.math, family.code))
    for name, x in without.items():
        wanted = new[name].double() + sum(
            w * (other[name].double() - base[name].double()) for w, other in ((0.5, math_), (0.25, code))
        )
        np.testing.assert_allclose(x.numpy(), wanted.numpy(), rtol=1e-6, atol=1e-7)
    nothing = built(recipe("rebase", family.base, parents, parameters={"weight": {"math": 0.0, "code": 0.0}}))
    assert same_bytes(nothing, new)
    with pytest.raises(RecipeError, match=r"weight gives no number for code, but came"):
        Sources().plan(recipe("rebase", family.base, parents, parameters={"weight": {"math": 0.5}}))


# ---- layer swapping


def ends(n_layers: int = 8, **values: Any) -> list[float]:
    method = find_method("layer_swap")
    full = {p.name: values.get(p.name, (1.0, 1.0) if p.per_parent else p.default) for p in method.spec.parameters}
    assert method.values_at is not None

    def share(role: str, layer: int | None) -> float:
        weight = method.values_at(full, TensorAt("x", role, layer, n_layers, (2, 2)))["weight"]  # type: ignore[misc]
        assert isinstance(weight, tuple)
        assert sum(weight) == pytest.approx(1.0)
        return weight[1]

    return [share("embedding", None), *(share("mlp", layer) for layer in range(n_layers)), share("head", None)]


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ({"bottom": 0, "top": 0, "transition": 0}, [0] * 10),
        ({"bottom": 0, "top": 0, "transition": 4}, [0] * 10),
        ({"bottom": 8, "top": 0, "transition": 0}, [1] * 10),
        ({"bottom": 5, "top": 6, "transition": 2}, [1] * 10),
        ({"bottom": 2, "top": 1, "transition": 0}, [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]),
        ({"bottom": 2, "top": 1, "transition": 1}, [1, 1, 1, 0.5, 0, 0, 0, 0.5, 1, 1]),
        ({"bottom": 1, "top": 0, "transition": 2, "mix": 0.25}, [1, 1, 0.25, 0.25, 0, 0, 0, 0, 0, 0]),
        ({"bottom": 1, "top": 1, "transition": 3, "zone": "ramp"}, [1, 1, 0.75, 0.5, 0.25, 0.25, 0.5, 0.75, 1, 1]),
        ({"bottom": 1, "top": 0, "transition": 0, "embedding": "first", "head": "mean"}, [0, 1, *[0] * 7, 0.5]),
        ({"bottom": 0, "top": 1, "transition": 0, "embedding": "others", "head": "first"}, [1, *[0] * 7, 1, 0]),
    ],
)
def test_who_owns_a_layer(values: dict[str, Any], shares: list[float]) -> None:
    assert ends(**values) == shares


def test_layers_are_swapped_tensor_by_tensor_and_equal_parents_give_that_parent(family: SimpleNamespace) -> None:
    parameters = {"bottom": 1, "top": 0, "transition": 0}
    out = built(recipe("layer_swap", None, {"a": family.math, "b": family.japanese}, parameters=parameters))
    a, b = tensors_of(family.math), tensors_of(family.japanese)
    for name, x in out.items():
        lent = b if name.startswith(("model.layers.0.", "model.embed_tokens")) else a
        assert torch.equal(x, lent[name]), name
    same = recipe("layer_swap", None, {"a": family.math, "b": family.math}, parameters=parameters)
    assert same_bytes(built(same), a)


def test_groups_of_layers_give_the_ends_to_different_parents(family: SimpleNamespace) -> None:
    of = recipe(
        "layer_swap",
        None,
        {"a": family.math, "b": family.japanese, "c": family.code},
        parameters={"bottom": 1, "top": 1, "transition": 0, "weight": {"b": 0, "c": 1}},
        groups=(Group({"weight": {"b": 1, "c": 0}}, layers=(0, 1)),),
    )
    out, b, c = built(of), tensors_of(family.japanese), tensors_of(family.code)
    for name, x in out.items():
        assert torch.equal(x, (b if name.startswith("model.layers.0.") else c)[name]), name


def test_mistakes_of_a_layer_swap_are_named(family: SimpleNamespace) -> None:
    wrong = {"bottom": -1, "top": 1.5, "mix": 2.0, "zone": "ramp", "weight": 0.0}
    with pytest.raises(RecipeError, match="top must be a whole number"):
        Sources().plan(recipe("layer_swap", None, {"a": family.math, "b": family.code}, parameters=wrong))
    with pytest.raises(RecipeError) as caught:
        Sources().plan(recipe("layer_swap", None, {"a": family.math, "b": family.code}, parameters={**wrong, "top": 1}))
    for part in ("bottom must be 0 or more", "mix has no meaning with zone: ramp", "nobody owns the ends"):
        assert part in str(caught.value)


# ---- consensus


def test_consensus_known_answer() -> None:
    a, b = vector(1, 0, 0.5, -2), vector(0, 3, 0.5, 2)
    close(merge("consensus_ta", torch.zeros(4), [a, b], k=2), 0, 0, 1, 0)
    close(merge("consensus_ta", torch.zeros(4), [a, b], k=1), 1, 3, 1, 0)
    close(merge("consensus_ta", torch.zeros(4), [a, b], k=0, lam=0.5), 0.5, 1.5, 0.5, 0)
    counts = [consensus(torch.ones(4), [a, b], threshold=(0.4, 0.4), k=k) for k in (0, 1, 2, 3)]
    for kept, expected in zip(counts, ((1, 1, 1, 1), (1, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0)), strict=True):
        close(kept, *expected)


def test_a_task_alone_serves_itself_and_an_untouched_entry_serves_nobody(family: SimpleNamespace) -> None:
    one = {"math": family.math}
    assert same_bytes(built(recipe("consensus_ta", family.base, one, parameters={"k": 1})), tensors_of(family.math))
    assert same_bytes(built(recipe("consensus_ta", family.base, one)), tensors_of(family.base))  # k = 2
    close(merge("consensus_ta", vector(5, 5), [vector(5, 6), vector(5, 6)], k=1, threshold=0.0), 5, 7)


# ---- ComPEFT


def test_compeft_known_answer() -> None:
    tau = vector(1, -2, 3, -4, 0)
    close(merge("compeft", torch.zeros(5), [tau], density=0.4), 0, 0, 2.701851, -2.701851, 0)


def test_compressing_twice_keeps_the_support_and_the_signs() -> None:
    tau = torch.randn(101, generator=torch.Generator().manual_seed(0))
    level = moments(TorchEngine(), tau).std
    assert level == pytest.approx(float(tau.double().std()))
    once = compress(tau, cut=magnitude(tau, 0.3), level=level)
    assert int((once != 0).sum()) == math.floor(0.3 * 101)
    twice = compress(once, cut=magnitude(once, 0.3), level=moments(TorchEngine(), once).std)
    assert torch.equal(once.sign(), twice.sign())
    assert torch.equal(once.sign(), tau.sign() * (once != 0))


# ---- PCB


def test_pcb_keeps_the_stated_number_of_entries() -> None:
    tau = torch.randn(20, generator=torch.Generator().manual_seed(1))
    out = merge("pcb", torch.zeros(20), [tau], density=0.3, weight=1.0, clip=0.0)
    assert int((out != 0).sum()) == 5  # 20 − ⌊20 · 0.7⌋ − 1
    kept = tau.abs().argsort(descending=True)[:5]
    np.testing.assert_allclose(out[kept].numpy(), tau[kept].numpy(), rtol=1e-6)  # alone, β rises with |τ|


def test_pcb_of_equal_parents_without_drop_is_the_parent_but_for_its_least_entry() -> None:
    tau = torch.randn(50, generator=torch.Generator().manual_seed(2))
    out = merge("pcb", torch.zeros(50), [tau, tau], density=1.0, weight=1.0, clip=0.0)
    least = int(tau.abs().argmin())
    assert out[least] == 0
    rest = torch.arange(50) != least
    np.testing.assert_allclose(out[rest].numpy(), tau[rest].numpy(), rtol=1e-5)


def test_pcb_of_many_parents_does_not_overflow() -> None:
    taus = [torch.randn(30, generator=torch.Generator().manual_seed(i)) for i in range(120)]  # e^120 > fp32
    assert merge("pcb", torch.zeros(30), taus, density=0.5).isfinite().all()


def test_pcb_of_a_parent_that_equals_the_base_is_not_nan() -> None:
    base, tau = torch.ones(12), torch.linspace(-1, 2, 12)
    out = merge("pcb", base, [base, base + tau], density=0.5, weight=1.0, clip=0.0)
    assert out.isfinite().all()
    assert (out != base).sum() == 5


# ---- the whole way


def test_in_memory_and_on_disk_the_bytes_are_the_same(family: SimpleNamespace, tmp_path: Path) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    for method in CASES:
        parents = {"math": family.math, "japanese": family.japanese}
        if find_method(method).spec.n_parents[1] == 1:
            del parents["japanese"]
        base = family.base if find_method(method).spec.needs_base else None
        of = recipe(method, base, parents, dtype="bfloat16")
        live.write(of)
        assert same_bytes(built(of), tensors_of(merge_to_disk(of, tmp_path / method))), method
        state = {name: x.detach() for name, x in live.model.state_dict().items()}
        assert all(torch.equal(state[name], x.float()) for name, x in tensors_of(tmp_path / method).items()), method


def test_a_space_of_each_method_makes_recipes_that_pass_every_check(family: SimpleNamespace) -> None:
    for method in CASES:
        parents = {"math": family.math, "japanese": family.japanese}
        if find_method(method).spec.n_parents[1] == 1:
            del parents["japanese"]
        of = recipe(method, family.base, parents)
        space = ParameterSpace(find_method(method).spec, of.parents, n_layers=2, base=of.base, blocks=2)
        check_recipe(space.decode(space.genome(space.start)))


# ---- whole models


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder: Path = tmp_path_factory.mktemp("small")
    base = make(folder / "base", 0, dtype="bfloat16", num_hidden_layers=1, vocab_size=8)
    return SimpleNamespace(
        base=base,
        a=near(folder / "a", base, 1),
        b=near(folder / "b", base, 2, scale=0.05),
        c=near(folder / "c", base, 3),
    )


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("compeft", {"density": {"a": 0.3, "b": 0.07, "c": 0.9}, "weight": {"a": 1.0, "b": -0.5, "c": 0.4}}),
        ("pcb", {"density": 0.13, "clip": 0.01}),
        ("pcb", {"density": 0.4, "weight": {"a": 1.0, "b": 0.0, "c": 1.1}}),
    ],
)
def test_the_scope_of_the_model_is_the_method_on_all_entries_at_once(
    method: str, parameters: dict[str, Any], small: SimpleNamespace
) -> None:
    parents = {"a": small.a, "b": small.b, "c": small.c}
    of = recipe(method, small.base, parents, parameters={**parameters, "scope": "model"}, dtype="float32")
    out = built(of)
    case: MethodCase = CASES[method]
    loaded = [tensors_of(folder) for folder in (small.base, *parents.values())]
    base, *rows = [torch.cat([each[name].double().ravel() for name in out]) for each in loaded]
    values = {p.name: p.default for p in find_method(method).spec.parameters} | parameters
    values = {
        p.name: tuple(values[p.name].values()) if isinstance(values[p.name], dict) else (values[p.name],) * 3
        for p in find_method(method).spec.parameters if p.per_parent
    } | {k: v for k, v in values.items() if not find_method(method).spec.parameter(k).per_parent}  # type: ignore[union-attr]  # fmt: skip
    wanted = case.reference(base, rows, values, [], None)  # type: ignore[arg-type]
    np.testing.assert_allclose(torch.cat([x.ravel() for x in out.values()]).numpy(), wanted.numpy(), atol=2e-5)
    tensor_wise = built(recipe(method, small.base, parents, parameters=parameters, dtype="float32"))
    assert not same_bytes(out, tensor_wise)


def test_the_scope_is_no_matter_of_groups(small: SimpleNamespace) -> None:
    group = Group({"scope": "model"}, roles=("mlp",))
    with pytest.raises(RecipeError, match="scope of pcb holds for the whole model"):
        Sources().plan(recipe("pcb", small.base, {"a": small.a, "b": small.b}, groups=(group,)))


@pytest.mark.parametrize("kind", ["normal", "few values", "signs of zero"])
def test_ranks_over_several_tensors_are_those_of_a_sort(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(n, generator=generator) for n in (1, 50, 700)]
    if kind == "few values":
        parts = [(2 * part).round() for part in parts]
    if kind == "signs of zero":
        parts = [torch.where(part > 0.5, part, -0.0 * part) for part in parts]
    spread = Spread()
    for part in parts:
        spread.add(part)
    ranks = [0, 1, 375, 376, 749, 750]
    search = RankSearch(spread, ranks)
    for part in parts:
        search.add(part)
    ordered = torch.cat(parts).sort().values
    assert spread.n == 751
    assert spread.most == ordered[-1]
    assert search.found() == [float(ordered[rank]) for rank in ranks]
