"""Each method against the paper's formula, written here once more in numpy (float64), and the known answers."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from method_case import ARITHMETIC

from evomerge.merge.kernels.philox import words
from evomerge.merge.kernels.program import Drop
from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.pipeline import sparsify
from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.merge.methods.slerp import slerp

SIZES = (1, 2, 7, 64)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def merge(
    method: str, base: torch.Tensor | None, parents: Sequence[torch.Tensor], seeds: Sequence[int] = (), **values: object
) -> torch.Tensor:
    """Run a method with defaults for what is not given; a per-parent parameter may be one number."""
    spec = find_method(method).spec
    full = {parameter.name: values.pop(parameter.name.replace("lambda", "lam"), parameter.default)
            for parameter in spec.parameters}  # fmt: skip
    assert not values
    for parameter in spec.parameters:
        if parameter.per_parent and not isinstance(full[parameter.name], tuple):
            full[parameter.name] = (full[parameter.name],) * len(parents)
    return find_method(method).merge(Inputs(base, parents, full, seeds or tuple(range(len(parents)))))


def random(n: int, seed: int, ties: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if ties:  # few distinct magnitudes, both signs, zeros
        return torch.randint(-2, 3, (n,), generator=generator).float()
    return torch.randn(n, generator=generator)


def drop_and_rescale(tau: torch.Tensor, *, density: float, seed: int) -> torch.Tensor:
    return sparsify.keep(tau, sparsify.random(density=density, seed=seed, rescaled=True))


def close(actual: torch.Tensor, expected: object) -> None:
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=1e-5, atol=1e-6)


# ---- known answers


def test_task_arithmetic_known_answer() -> None:
    close(merge("task_arithmetic", vector(0, 0), [vector(2, -1), vector(4, 3)], weight=(0.5, 0.25)), [2, 0.25])


def test_ties_known_answers() -> None:
    a, b = vector(1, -2, 3, 0.1), vector(-4, -1, 2, 0.2)
    close(merge("ties", torch.zeros(4), [a, b], density=1.0), [-4, -1.5, 2.5, 0.15])
    close(merge("ties", torch.zeros(4), [a, b], density=0.5), [-4, -2, 2.5, 0])


def test_slerp_known_answers() -> None:
    close(slerp(vector(1, 0), vector(0, 1), t=0.5), [0.70711, 0.70711])
    close(slerp(vector(2, 0), vector(0, 4), t=0.5), [1.41421, 2.82843])


def test_linear_known_answer() -> None:
    close(merge("linear", None, [vector(1, 2), vector(3, 6)], weight=(1.0, 3.0)), [2.5, 5])
    close(merge("linear", None, [vector(1, 2), vector(3, 6)], weight=(1.0, 3.0), normalize=False), [10, 20])


# ---- against independent formulas, at odd sizes, with and without ties


@pytest.mark.parametrize("n", SIZES)
def test_linear_is_the_weighted_mean(n: int) -> None:
    parents = [random(n, seed) for seed in range(3)]
    w = (0.2, -0.3, 1.4)
    close(
        merge("linear", None, parents, weight=w), np.average([p.double().numpy() for p in parents], axis=0, weights=w)
    )


@pytest.mark.parametrize("n", SIZES)
def test_equal_linear_weights_are_task_arithmetic_with_one_nth(n: int) -> None:
    base, parents = random(n, 9), [random(n, seed) for seed in range(3)]
    close(merge("linear", None, parents), merge("task_arithmetic", base, parents, weight=1 / 3))


@pytest.mark.parametrize("n", SIZES)
def test_task_arithmetic_is_the_scaled_sum(n: int) -> None:
    base, parents = random(n, 9), [random(n, seed) for seed in range(3)]
    w, lam = (0.5, -1.0, 1.4), 0.7
    expected = base.double().numpy() + lam * sum(
        wi * (p.double() - base.double()).numpy() for wi, p in zip(w, parents, strict=True)
    )
    close(merge("task_arithmetic", base, parents, weight=w, lam=lam), expected)


def numpy_trim(tau: np.ndarray, density: float) -> np.ndarray:
    # A stable sort by falling magnitude leaves equal entries in the order of their index.
    kept = np.argsort(-np.abs(tau), kind="stable")[: math.floor(density * tau.size)]
    out = np.zeros_like(tau)
    out[kept] = tau[kept]
    return out


def numpy_disjoint(taus: Sequence[np.ndarray], w: Sequence[float], election: str, normalize: bool) -> np.ndarray:
    out = np.zeros_like(taus[0])
    for j in range(out.size):
        column = [tau[j] for tau in taus]
        total = sum(np.sign(x) for x in column) if election == "count" else sum(
            wi * x for wi, x in zip(w, column, strict=True)
        )  # fmt: skip
        sign = 1.0 if total >= 0 else -1.0
        agree = [(wi, x) for wi, x in zip(w, column, strict=True) if x != 0 and np.sign(x) == sign]
        if agree:
            out[j] = sum(wi * x for wi, x in agree) / (sum(wi for wi, _ in agree) if normalize else 1.0)
    return out


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("election", ["sum", "count"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_ties_follows_the_paper(n: int, ties: bool, election: str, normalize: bool) -> None:
    base, w, lam = torch.zeros(n), (1.0, 0.5, 0.75), 1.3
    parents = [random(n, seed, ties) for seed in range(3)]
    for density in (0.0, 0.2, 0.5, 0.99, 1.0):
        trimmed = [numpy_trim(p.double().numpy(), density) for p in parents]
        expected = lam * numpy_disjoint(trimmed, w, election, normalize)
        values = {"weight": w, "density": density, "lam": lam, "election": election, "normalize": normalize}
        close(merge("ties", base, parents, **values), expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [*SIZES, 100])
def test_trim_keeps_exactly_k_and_ties_fall_to_the_lowest_index(n: int, ties: bool) -> None:
    for density in (0.0, 0.01, 0.2, 0.5, 0.8, 1.0):
        tau = random(n, 5, ties)
        expected = numpy_trim(tau.double().numpy(), density)
        np.testing.assert_array_equal(
            sparsify.keep(tau.clone(), sparsify.top(tau, math.floor(density * n))).numpy(), expected
        )
    # All magnitudes equal: nothing but the index can decide.
    level = torch.full((n,), -0.5)
    assert sparsify.keep(level.clone(), sparsify.top(level, n // 2)).nonzero().flatten().tolist() == list(range(n // 2))


@pytest.mark.parametrize("n", SIZES)
def test_slerp_is_the_arc(n: int) -> None:
    a, b = random(n, 1), random(n, 2)
    x, y = a.double().numpy(), b.double().numpy()
    c = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    for t in (0.0, 0.25, 0.5, 1.0):
        expected = (1 - t) * x + t * y
        if abs(c) <= 0.9995:
            omega = np.arccos(c)
            expected = (np.sin((1 - t) * omega) * x + np.sin(t * omega) * y) / np.sin(omega)
        close(slerp(a, b, t=t), expected)


def test_slerp_keeps_an_equal_norm_and_falls_back_to_the_line() -> None:
    a, b = random(64, 1), random(64, 2)
    b *= a.norm() / b.norm()
    assert slerp(a, b, t=0.3).norm().item() == pytest.approx(a.norm().item(), rel=1e-5)
    with pytest.warns(RuntimeWarning, match="SLERP of opposite tensors"):
        close(slerp(a, -a, t=0.25), 0.5 * a.numpy())
    close(slerp(a, torch.zeros(64), t=0.25), 0.75 * a.numpy())
    close(slerp(torch.zeros(3), torch.zeros(3), t=0.5), np.zeros(3))


def test_slerp_does_not_depend_on_the_number_of_threads() -> None:
    a, b = random(300_001, 1), random(300_001, 2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = slerp(a, b, t=0.37)
        torch.set_num_threads(2)
        assert torch.equal(one, slerp(a, b, t=0.37))
    finally:
        torch.set_num_threads(threads)


# ---- DARE


def test_dare_mean_over_seeds_is_the_task_vector() -> None:
    tau, density, n = vector(1, -2, 0.5, 4, -0.1), 0.3, 10_000
    draws = torch.stack([drop_and_rescale(tau.clone(), density=density, seed=seed) for seed in range(n)]).double()
    error = (draws.mean(0) - tau).abs()
    assert (error < 4 * tau.double().abs() * math.sqrt((1 - density) / density / n)).all()
    assert (error > 0).all()


def test_dare_rescales_by_one_over_density() -> None:
    tau = random(64, 0)
    out = drop_and_rescale(tau.clone(), density=0.25, seed=3)
    kept = out != 0
    assert 0 < kept.sum() < 64
    torch.testing.assert_close(out[kept], 4 * tau[kept])


def test_a_smaller_dare_density_keeps_a_subset() -> None:
    tau = torch.ones(500)
    small, large = (drop_and_rescale(tau.clone(), density=density, seed=3) != 0 for density in (0.2, 0.6))
    assert (large | ~small).all()
    assert small.sum() < large.sum()


@pytest.mark.parametrize("n", SIZES)
def test_dare_at_density_one_is_the_method_without_drop(n: int) -> None:
    base, parents = random(n, 9), [random(n, seed) for seed in range(3)]
    w = (0.5, 0.2, 1.4)
    dare, plain = (merge(m, base, parents, weight=w, **d) for m, d in
                   (("dare_linear", {"density": 1.0}), ("task_arithmetic", {})))  # fmt: skip
    assert torch.equal(dare, plain)
    dare, plain = (merge(m, base, parents, weight=w, density=1.0) for m in ("dare_ties", "ties"))
    assert torch.equal(dare, plain)


@pytest.mark.parametrize("n", SIZES)
def test_dare_ties_elects_and_averages_what_the_masks_leave(n: int) -> None:
    parents, w = [random(n, seed) for seed in range(3)], (1.0, 0.5, 2.0)
    for density in (0.0, 0.3, 0.8):
        taus = []
        for seed, parent in enumerate(parents):
            drop = Drop(density, seed)
            mask = words(seed, 0, n).numpy() < (drop.below if density else 0)
            taus.append(np.where(mask, parent.double().numpy() * drop.rescale, 0.0))
        close(
            merge("dare_ties", torch.zeros(n), parents, weight=w, density=density), numpy_disjoint(taus, w, "sum", True)
        )


# ---- inputs


@pytest.mark.parametrize("method", ARITHMETIC)
def test_the_inputs_are_not_changed_and_the_shape_is_kept(method: str) -> None:
    base, parents = random(24, 9).view(2, 3, 4), [random(24, seed).view(2, 3, 4) for seed in range(2)]
    before = [tensor.clone() for tensor in (base, *parents)]
    assert merge(method, base, parents).shape == (2, 3, 4)
    assert all(torch.equal(a, b) for a, b in zip(before, (base, *parents), strict=True))


@pytest.mark.filterwarnings("ignore:SLERP of opposite")
@pytest.mark.parametrize("method", ARITHMETIC)
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4),
        torch.ones(3, 4),
        torch.outer(vector(1, 2, 3), vector(1, -1)),
        torch.ones(1, 1),
        torch.ones(()),
    ],
    ids=["zero", "constant", "rank one", "1x1", "scalar"],
)
def test_nothing_turns_into_nan(method: str, tensor: torch.Tensor) -> None:
    for density in (0.0, 0.5, 1.0):
        has_density = find_method(method).spec.parameter("density") is not None
        values = {"density": density} if has_density else {}
        for base, parents in ((tensor, [tensor, tensor]), (torch.zeros_like(tensor), [tensor, -tensor])):
            assert merge(method, base, parents, **values).isfinite().all()


def test_every_parameter_is_documented_and_its_default_is_legal() -> None:
    for name, method in ((name, find_method(name)) for name in METHODS):
        spec = method.spec
        assert spec.name == name
        assert spec.summary
        assert spec.paper.startswith("https://")
        n = spec.n_parents[0]
        values = {p.name: (p.default,) * n if p.per_parent else p.default for p in spec.parameters}
        assert method.problems(values) == []
        for parameter in spec.parameters:
            assert parameter.doc
            if parameter.choices:
                assert parameter.default in parameter.choices
            elif not isinstance(parameter.default, bool):
                assert parameter.low <= parameter.default <= parameter.high


@pytest.mark.parametrize("method", [name for name in ARITHMETIC if find_method(name).spec.needs_base])
def test_task_vector_weights_may_sum_to_more_than_one(method: str) -> None:
    weight = find_method(method).spec.parameter("weight")
    assert weight is not None
    assert weight.high > 1.0
