"""Every merge method against its reference in float64 and the properties P1 to P10, over odd shapes and contents.

What a method keeps, and its reference, stand in `cases/`; see `method_case.py`. Tensors go the way of a search: a plan,
the method's preparation with a parent cache, then its fused program or its plain arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_family import N_LAYERS, Tensors, merged, place_of
from method_case import MethodCase, Values, all_cases

from evomerge.merge import apply
from evomerge.merge.kernels.torch_engine import TorchEngine
from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.merge.plan import mask_seed
from evomerge.recipe import PASSTHROUGH

CASES = all_cases()
NAMES = ("a", "b", "c")

SHAPES = ((1, 1), (1, 5), (6, 1), (3, 7), (7, 4), (5, 5), (2, 3, 4), (9,), (1,))
CONTENTS = ("random", "low rank", "rank one", "constant", "zero", "equal", "few values", "opposite")
WITHOUT_TIES = ("random",)
"""Contents in which no two entries are of one size, and no sum is 0."""

THOROUGH = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
QUICK = settings(THOROUGH, max_examples=6)
"""Of what the comparison with the reference would mostly show, too."""


@dataclass(frozen=True)
class Drawn:
    """Models for one method: each has a matrix (or another tensor) inside of a layer, a norm and an embedding."""

    base: Tensors
    parents: dict[str, Tensors]
    content: str
    seed: int

    def scaled(self, c: float) -> Drawn:
        """The same with task vectors c times as long (exact for powers of 2 and entries that are far from overflow)."""
        parents = {
            who: {name: (self.base[name].double() + c * (x.double() - self.base[name].double())).to(x.dtype)
                  if x.is_floating_point() else x
                  for name, x in tensors.items()}
            for who, tensors in self.parents.items()
        }  # fmt: skip
        return Drawn(self.base, parents, self.content, self.seed)


def tensor(shape: tuple[int, ...], content: str, generator: torch.Generator) -> torch.Tensor:
    x = torch.randn(shape, generator=generator)
    if content == "zero":
        return torch.zeros(shape)
    if content == "constant":
        return torch.full(shape, 0.5)
    if content == "few values":
        return torch.randint(-2, 3, shape, generator=generator).float() / 4
    if content in ("low rank", "rank one") and len(shape) >= 2:
        k = 1 if content == "rank one" else 2
        left = torch.randn(*shape[:-1], k, generator=generator)
        return left @ torch.randn(*shape[:-2], k, shape[-1], generator=generator)
    return x


@st.composite
def drawn(draw: st.DrawFn, method: str, contents: tuple[str, ...] = CONTENTS, n: int | None = None) -> Drawn:
    spec = find_method(method).spec
    low, high = spec.n_parents
    count = n or draw(st.integers(max(low, 1), min(high or 3, 3)))
    shape, content = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(contents))
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    role = draw(st.sampled_from(("attention", "mlp")))
    turned = ".turned" if len(shape) == 2 and draw(st.booleans()) else ""
    names = {
        "embedding": (5, 3),
        f"layers.{draw(st.integers(0, N_LAYERS - 1))}.{role}.weight{turned}": shape,
        "norm": (4,),
    }
    base = {name: torch.randn(size, generator=generator) for name, size in names.items()}
    deltas = [{name: 0.1 * tensor(size, content, generator) for name, size in names.items()} for _ in range(count)]
    if content == "equal":
        deltas = [deltas[0]] * count
    if content == "opposite" and count > 1:
        deltas[1] = {name: -x for name, x in deltas[0].items()}
    parents = {
        who: {name: base[name] + delta for name, delta in mine.items()}
        for who, mine in zip(NAMES, deltas, strict=False)
    }
    for k, model in enumerate((base, *parents.values())):
        model["other.steps"] = torch.tensor([k, k + 1])
        model["other.mask"] = torch.full((2, 2), float(k))
    return Drawn(base, parents, content, seed)


def parameters_of(method: str, values: Values, n: int) -> dict[str, Any]:
    """A case's values as the parameters of a recipe, for n parents."""
    spec = find_method(method).spec
    return {
        name: dict(zip(NAMES, value, strict=False)) if isinstance(value, tuple) else value
        for name, value in ((k, v[:n] if isinstance(v, tuple) else v) for k, v in values.items())
        if spec.parameter(name) is not None
    }


def has_base(method: str, parameters: Mapping[str, Any]) -> bool:
    found = find_method(method)
    values = {p.name: parameters.get(p.name, p.default) for p in found.spec.parameters}
    return found.uses_base(values)


def built(method: str, models: Drawn, values: Values, **how: Any) -> dict[str, torch.Tensor]:
    parameters = parameters_of(method, values, len(models.parents))
    base = models.base if has_base(method, parameters) else None
    return merged(method, models.parents, base, parameters, seed=models.seed, **how)


def expected(case: MethodCase, method: str, models: Drawn, values: Values) -> dict[str, torch.Tensor]:
    """The reference's result for each merged tensor."""
    spec = find_method(method).spec
    n = len(models.parents)
    given = parameters_of(method, values, n)
    full: dict[str, Any] = {}
    for p in spec.parameters:
        value = given.get(p.name, p.default)
        full[p.name] = (
            tuple(value.values()) if isinstance(value, dict) else (value,) * n if p.per_parent else value
        )  # fmt: skip
    uses_base = has_base(method, given)
    out = {}
    places = {}
    for name, tensor_ in models.base.items():
        place = place_of(name)
        if not place.buffer and tensor_.is_floating_point():
            places[name] = TensorAt(name, place.role, place.layer, N_LAYERS, tuple(tensor_.shape), place.transposed)
    if case.whole is not None:
        wide = [{name: model[name].double() for name in places} for model in (models.base, *models.parents.values())]
        return dict(case.whole(wide[0], wide[1:], full, places))
    assert case.reference is not None
    for name, at in places.items():
        tensor_ = models.base[name]
        seeds = [mask_seed(models.seed, who, name) for who in models.parents]
        parents = [parent[name].double() for parent in models.parents.values()]
        out[name] = case.reference(tensor_.double() if uses_base else None, parents, full, seeds, at)
    return out


def assert_near(
    out: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], case: MethodCase, of: Drawn
) -> None:
    largest = max(float(x.abs().max()) for m in (of.base, *of.parents.values()) for x in m.values() if x.numel())
    for name, want in wanted.items():
        assert out[name].shape == want.shape
        wrong = float((out[name].double() - want.double()).abs().max()) if want.numel() else 0.0
        assert wrong <= case.rtol * max(largest, float(want.abs().max())) + case.atol, (name, wrong)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1).view(torch.uint8)


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(bits(x), bits(other[name])) for name, x in one.items())


def test_every_method_that_merges_weights_has_a_case() -> None:
    assert set(METHODS) - {PASSTHROUGH} == set(CASES)


def value_sets(method: str) -> st.SearchStrategy[Values]:
    return st.sampled_from(({}, *CASES[method].values))


def with_property(name: str) -> list[str]:
    return [method for method, case in CASES.items() if name in case.holds]


@pytest.mark.filterwarnings("ignore:SLERP of opposite")
@pytest.mark.parametrize("method", CASES)
def test_the_result_is_the_references(method: str) -> None:
    case = CASES[method]

    @THOROUGH
    @given(drawn(method, WITHOUT_TIES if case.jumps else CONTENTS), value_sets(method))
    def check(models: Drawn, values: Values) -> None:
        assert_near(built(method, models, values), expected(case, method, models, values), case, models)

    check()


@pytest.mark.filterwarnings("ignore:SLERP of opposite")
@pytest.mark.parametrize("method", CASES)
def test_p5_to_p9_bytes_do_not_depend_on_order_cache_or_run_and_are_finite(method: str) -> None:
    found = find_method(method)

    @QUICK
    @given(drawn(method), value_sets(method), st.sampled_from((None, "bfloat16")))
    def check(models: Drawn, values: Values, dtype: str | None) -> None:
        out = built(method, models, values, dtype=dtype)
        assert out.keys() == models.base.keys()
        for name, x in out.items():
            assert x.shape == models.base[name].shape
            assert x.dtype == (torch.bfloat16 if dtype and x.is_floating_point() and "mask" not in name
                               else models.base[name].dtype)  # fmt: skip
            assert x.isfinite().all(), name
        uses_base = has_base(method, parameters_of(method, values, len(models.parents)))
        donor = models.base if uses_base else models.parents["a"]
        for name in ("other.steps", "other.mask"):
            assert torch.equal(out[name], donor[name])
        assert same(out, built(method, models, values, dtype=dtype, cache="none", backwards=True))
        assert same(out, built(method, models, values, dtype=dtype, again=True))
        if found.order_free and uses_base:  # without a base, the first parent lends what is not merged
            first, *others = models.parents
            for order in ([*reversed(models.parents)], [*others, first])[: len(others)]:
                assert same(out, built(method, models, values, dtype=dtype, order=order))

    check()


@pytest.mark.filterwarnings("ignore:SLERP of opposite")
@pytest.mark.parametrize("method", [name for name in CASES if find_method(name).program is not None])
def test_the_fused_program_gives_the_bits_of_the_plain_arithmetic(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @QUICK
    @given(drawn(method), value_sets(method), st.sampled_from((None, "bfloat16")), st.booleans())
    def check(models: Drawn, values: Values, dtype: str | None, compiled: bool) -> None:
        plain = built(method, models, values, dtype=dtype, fused=False)
        with monkeypatch.context() as patch:
            if not compiled:
                patch.setattr(apply, "engine_for", lambda device: TorchEngine())
            assert same(built(method, models, values, dtype=dtype), plain)

    check()


@pytest.mark.parametrize("method", with_property("P1"))
def test_p1_one_parent_alone_is_the_result(method: str) -> None:
    case = CASES[method]

    @QUICK
    @given(drawn(method, n=1))
    def check(models: Drawn) -> None:
        assert_near(built(method, models, case.holds["P1"]), floats(models.parents["a"]), case, models)

    check()


@pytest.mark.parametrize("method", with_property("P2"))
def test_p2_equal_parents_are_the_result(method: str) -> None:
    case = CASES[method]

    @QUICK
    @given(drawn(method, ("equal",)))
    def check(models: Drawn) -> None:
        assert_near(built(method, models, case.holds["P2"]), floats(models.parents["a"]), case, models)

    check()


@pytest.mark.parametrize("method", with_property("P3"))
def test_p3_parents_that_equal_the_base_give_the_base(method: str) -> None:
    case = CASES[method]

    @QUICK
    @given(drawn(method, ("zero",)))
    def check(models: Drawn) -> None:
        assert_near(built(method, models, case.holds["P3"]), floats(models.base), case, models)

    check()


@pytest.mark.parametrize("method", with_property("P4"))
def test_p4_nothing_added_is_the_base(method: str) -> None:
    case = CASES[method]

    @QUICK
    @given(drawn(method))
    def check(models: Drawn) -> None:
        assert_near(built(method, models, case.holds["P4"]), floats(models.base), case, models)

    check()


@pytest.mark.parametrize("method", with_property("P10"))
def test_p10_scaling_all_task_vectors_scales_the_merged_one(method: str) -> None:
    case = CASES[method]

    @QUICK
    @given(drawn(method, WITHOUT_TIES if case.jumps else CONTENTS), st.sampled_from((0.5, 4.0)))
    def check(models: Drawn, c: float) -> None:
        values, scaled = case.holds["P10"], models.scaled(c)
        small, big = built(method, models, values), built(method, scaled, values)
        wanted = {
            name: base + c * (small[name].double() - base)
            for name, base in ((name, x.double()) for name, x in floats(models.base).items())
        }
        assert_near(big, wanted, case, scaled)

    check()


def floats(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors that are merged."""
    return {name: x for name, x in tensors.items() if x.is_floating_point() and not place_of(name).buffer}
