"""Quantile tables: the kept set is a stable sort's by magnitude, for every density; and the cache that keeps them."""

import logging
import math

import numpy as np
import pytest
import torch

from evomerge.errors import RecipeError
from evomerge.merge import cache as prepared
from evomerge.merge import quantiles
from evomerge.merge.cache import ParentCache, budget_bytes
from evomerge.merge.kernels import parallel
from evomerge.merge.kernels.engine import KernelEngine
from evomerge.merge.kernels.numba_engine import NumbaEngine
from evomerge.merge.kernels.torch_engine import TorchEngine, trimmed
from evomerge.merge.quantiles import Deltas, QuantileTable, cuts, make_table

DENSITIES = (0.0, 1e-4, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.77, 0.9, 0.999, 1.0)
N = 20_000


def few_values() -> torch.Tensor:
    return torch.randint(-3, 4, (N,), generator=torch.Generator().manual_seed(1)).float() * 0.01


def drawn(scale: float = 1.0) -> torch.Tensor:
    return torch.randn(N, generator=torch.Generator().manual_seed(2)) * scale


TASK_VECTORS = {
    "normal": drawn(),
    "of bf16": drawn(0.02).bfloat16().float(),
    "few values": few_values(),
    "one value": torch.full((N,), -0.5),
    "zeros": torch.zeros(N),
    "mostly zeros": torch.where(drawn() > 2, drawn(0.1), 0.0),
    "subnormal": drawn(1e-41),
    "wide": drawn().exp2().pow(20) * drawn().sign(),
    "one bin, many values": (1.0 + torch.arange(N) % 1500 * 2.0**-23) * drawn().sign(),
    "two values side by side": torch.where(drawn() > 0, 1.0, 1.0 + 2.0**-23),
    "one large": torch.cat([torch.full((N - 1,), 1e-3), torch.tensor([7.0])]),
}


def sort_reference(tau: torch.Tensor, k: int) -> np.ndarray:
    """The tensor with all but the k largest magnitudes set to 0, ties broken by the lowest index."""
    values = tau.numpy()
    kept = np.argsort(-np.abs(values), kind="stable")[:k]
    out = np.zeros_like(values)
    out[kept] = values[kept]
    return out


def deltas(tau: torch.Tensor) -> Deltas:
    return Deltas(tau.numel(), lambda: (torch.zeros_like(tau), [tau]))


@pytest.fixture(params=[NumbaEngine, TorchEngine])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KernelEngine:
    monkeypatch.setattr(parallel, "CHUNK", 2048)
    return request.param()  # type: ignore[no-any-return]


@pytest.fixture(params=[0, 3000, quantiles.VALUES], ids=["bins", "some values", "values"])
def values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many values are at most counted one by one."""
    monkeypatch.setattr(quantiles, "VALUES", request.param)
    return int(request.param)


@pytest.mark.parametrize("what", TASK_VECTORS)
def test_the_kept_set_is_that_of_a_sort(what: str, engine: KernelEngine, values: int) -> None:
    tau = TASK_VECTORS[what]
    table = make_table(engine, [deltas(tau)])
    assert table.n == N
    assert (table.low[1:] >= table.high[:-1]).all()
    for density in DENSITIES:
        k = math.floor(density * N)
        [[cut]] = cuts(engine, [deltas(tau)], [table], [k])
        np.testing.assert_array_equal(trimmed(tau, cut).numpy(), sort_reference(tau, k), err_msg=f"{density}")


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1025])
def test_small_and_odd_sizes_for_every_k(n: int, engine: KernelEngine, values: int) -> None:
    for tau in (drawn()[:n], few_values()[:n]):
        table = make_table(engine, [deltas(tau)])
        for k in sorted({*range(min(n, 8) + 1), n // 2, n - 1, n}):
            [[cut]] = cuts(engine, [deltas(tau)], [table], [k])
            np.testing.assert_array_equal(trimmed(tau, cut).numpy(), sort_reference(tau, k))


@pytest.mark.parametrize("tau", [few_values(), drawn()], ids=["few values", "normal"])
def test_one_ranking_over_several_tensors(tau: torch.Tensor, engine: KernelEngine, values: int) -> None:
    pieces = tau.split([1, 6_000, 999, 5_000, N - 12_000])
    parts = [deltas(piece) for piece in pieces]
    table = make_table(engine, parts)
    for density in DENSITIES:
        k = math.floor(density * N)
        (found,) = cuts(engine, parts, [table], [k])
        kept = torch.cat([trimmed(piece, cut) for piece, cut in zip(pieces, found, strict=True)])
        np.testing.assert_array_equal(kept.numpy(), sort_reference(tau, k))


def test_a_table_is_small_and_answers_without_a_pass_where_a_group_is_whole(engine: KernelEngine, values: int) -> None:
    table = make_table(engine, [deltas(TASK_VECTORS["normal"])])
    assert len(table.low) <= quantiles.GROUPS + quantiles.FREQUENT
    assert table.n_bytes == 20 * len(table.low)

    def never() -> tuple[torch.Tensor, list[torch.Tensor]]:
        raise AssertionError("the tensors were read again")

    for k in table.at_least[[0, 5, -1]].tolist():
        [[cut]] = cuts(engine, [Deltas(N, never)], [table], [k])
        tau = TASK_VECTORS["normal"]
        assert int((trimmed(tau, cut) != 0).sum()) == k


def test_a_group_of_several_frequent_values_comes_to_count_the_most_frequent(
    engine: KernelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantiles, "VALUES", 0)
    rare, often, third = 1.0, 1.0 + 2.0**-22, 1.0 + 2.0**-20  # all in one group
    index = torch.arange(N)
    tau = torch.where(index % 4 == 0, rare, torch.where(index % 16 == 15, third, often))  # only the rare one is noted
    table = make_table(engine, [deltas(tau)])
    for count in range(3):
        for k in (1, 1000, 1250, 1251, 9000, 15_000, 15_001, N - 1):
            [[cut]] = cuts(engine, [deltas(tau)], [table], [k])
            np.testing.assert_array_equal(trimmed(tau, cut).numpy(), sort_reference(tau, k), err_msg=f"{count} {k}")
        assert table.value.tolist() == [torch.tensor(often).view(torch.int32).item()]


def test_several_parents_are_ranked_in_one_reading(engine: KernelEngine, values: int) -> None:
    taus = [TASK_VECTORS[what] for what in ("normal", "few values", "zeros", "of bf16")]
    tables = [make_table(engine, [deltas(tau)]) for tau in taus]
    loads = []

    def load() -> tuple[torch.Tensor, list[torch.Tensor]]:
        loads.append(1)
        return torch.zeros(N), taus

    ks = [N // 3, N // 5, N // 2, N // 7]
    found = cuts(engine, [Deltas(N, load)], tables, ks)
    for tau, [cut], k in zip(taus, found, ks, strict=True):
        np.testing.assert_array_equal(trimmed(tau, cut).numpy(), sort_reference(tau, k))
    assert len(loads) <= 1 + len(taus)  # the survey, and where a tie ends


# ---- the cache


def test_the_budget() -> None:
    assert budget_bytes("none") == 0
    assert budget_bytes(1.5) == budget_bytes("1.5") == 3 << 29
    assert 0 < budget_bytes("auto") <= prepared.AUTO_SHARE * prepared.free_memory() * 1.5
    for wrong in ("some", "-1", -1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="cache must be none, auto or a size in GiB"):
            budget_bytes(wrong)


def table_of(n: int) -> QuantileTable:
    return QuantileTable(np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int32))


def test_what_fits_is_made_once_and_what_does_not_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    cache, made = ParentCache(1000 / (1 << 30)), []

    def get(name: str, n: int) -> None:
        cache.get(("t", (1,), name), lambda: made.append(name) or table_of(n), lambda t: t.n_bytes, what="the tables")

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            get("a", 50)
            get("b", 50)
    assert made == ["a", "b", "b", "b"]
    assert cache.used == 1000
    assert caplog.text.count("too small to keep the tables") == 1
    assert "slower" in caplog.text


def test_the_latest_cuts_are_kept_and_no_more() -> None:
    cache = ParentCache("none")
    for number in range(1000):
        assert cache.recent(("cuts", number), lambda number=number: number) == number
        assert cache.recent(("cuts", number), lambda: -1) == number
    assert len(cache._recent._kept) == 64
