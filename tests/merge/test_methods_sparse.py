"""Sparse task-vector methods: known answers, edge cases, and the pipeline whose slots they are."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from memory_family import merged
from test_merge_methods import close, merge, random, vector
from tiny_models import recipe, same_bytes

from evomerge.errors import RecipeError
from evomerge.merge.apply import merge_tensor
from evomerge.merge.methods.pipeline import sparsify
from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.merge.sources import Sources

SPARSE = ("ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce", "ram",
          "ramplus_tl", "task_arithmetic")  # fmt: skip


def kept(method: str, tau: torch.Tensor, **values: Any) -> torch.Tensor:
    """What a method makes of one task vector over a base of zeros."""
    return merge(method, torch.zeros_like(tau), [tau], **{"lam": 1.0, **values})


# ---- Breadcrumbs


def test_breadcrumbs_known_answer() -> None:
    row = vector(5, 1, -3, 2, -4, 0.5, 0.1, 0.2, 0.3, 6)
    close(kept("breadcrumbs", row, density=0.3, gamma=0.1), [5, 0, -3, 0, -4, 0, 0, 0, 0, 0])
    close(kept("breadcrumbs", row, density=0.3, gamma=0.1, scope="tensor"), [5, 0, -3, 0, -4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("scope", ["row", "tensor"])
def test_breadcrumbs_removes_nothing_where_gamma_is_less_than_one_entry(scope: str) -> None:
    tau = random(50, 1).view(5, 10)
    for gamma in (0.0, 0.01):  # ⌊0.01 · 50⌋ = 0
        close(kept("breadcrumbs", tau, density=1.0, gamma=gamma, scope=scope), tau)
        assert int((kept("breadcrumbs", tau, density=0.5, gamma=gamma, scope=scope) != 0).sum()) == 25


def test_breadcrumbs_ranks_within_rows_or_the_tensor() -> None:
    tau = torch.stack([vector(1, 2, 3, 4), vector(10, 20, 30, 40)])
    close(kept("breadcrumbs", tau, density=0.5, gamma=0.25), [[0, 2, 3, 0], [0, 20, 30, 0]])
    close(kept("breadcrumbs", tau, density=0.5, gamma=0.25, scope="tensor"), [[0, 0, 3, 4], [10, 20, 0, 0]])


def test_breadcrumbs_keeps_all_that_is_left_where_less_is_left_than_wanted() -> None:
    close(kept("breadcrumbs", vector(4, 3, 2, 1), density=0.9, gamma=0.5), [0, 0, 2, 1])
    close(kept("breadcrumbs", vector(4, 3, 2, 1), density=0.1, gamma=0.0), [0, 0, 0, 0])  # k = 0


# ---- DELLA


def test_della_known_chances() -> None:
    tau = vector(0.1, -0.4, 0.3, -0.2)
    ranks = sparsify.row_ranks(tau)
    mask = sparsify.magprune(ranks, 4, density=0.5, epsilon=0.1, seed=0, rescaled=True)
    dropped = 1 - torch.from_numpy(mask.below)[ranks.long()] / 65536
    torch.testing.assert_close(dropped, torch.tensor([0.6, 0.4, 0.4667, 0.5333]), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(mask.rescale)[ranks.long()], 1 / (1 - dropped))


def test_the_mean_of_della_over_seeds_is_the_task_vector() -> None:
    tau, n = vector(1, -2, 0.5, 4, -0.1), 3000
    ranks, window = sparsify.row_ranks(tau), {"density": 0.5, "epsilon": 0.3, "rescaled": True}
    masks = [sparsify.magprune(ranks, 5, seed=seed, **window) for seed in range(n)]
    draws = torch.stack([sparsify.keep(tau.clone(), mask) for mask in masks]).double()
    chance = 0.2 + 0.6 * torch.tensor([2, 3, 1, 4, 0]) / 4
    error = (draws.mean(0) - tau).abs()
    assert (error < 4 * tau.double().abs() * ((1 - chance) / chance / n).sqrt()).all()
    share = (draws != 0).double().mean(0)
    torch.testing.assert_close(share, chance.double(), atol=4 * math.sqrt(0.25 / n), rtol=0)


def test_della_without_a_window_is_dare() -> None:
    base, parents = random(60, 9).view(4, 15), [random(60, seed).view(4, 15) for seed in range(3)]
    for della, dare in (("della", "dare_ties"), ("della_linear", "dare_linear")):
        for rescale in ("inverse", "l1", "none"):
            values = {"density": (0.3, 0.7, 1.0), "lam": 1.2, "rescale": rescale}
            assert torch.equal(merge(della, base, parents, epsilon=0.0, **values), merge(dare, base, parents, **values))


def test_della_takes_any_window_and_rows_of_one_entry() -> None:
    column = random(4000, 3).view(4000, 1)
    out = kept("della_linear", column, density=0.25, epsilon=0.2)
    assert abs(float((out != 0).float().mean()) - 0.25) < 0.03
    close(out[out != 0], 4 * column[out != 0])
    wide = [kept("della_linear", random(64, 1), density=0.9, epsilon=epsilon) for epsilon in (0.1, 0.5, 1.0)]
    assert torch.equal(wide[0], wide[1])
    assert torch.equal(wide[1], wide[2])


def test_equal_entries_of_a_row_are_ranked_by_place() -> None:
    tau = torch.stack([vector(2, -2, 2, 3), vector(0, 0, 0, 0)])
    assert sparsify.row_ranks(tau).tolist() == [1, 2, 3, 0, 0, 1, 2, 3]
    assert sparsify.row_ranks(torch.ones(())).tolist() == [0]
    assert sparsify.row_ranks(torch.ones(0, 3)).tolist() == []
    assert sparsify.row_ranks(torch.ones(40_000)).dtype == torch.int32


# ---- what is kept of the norm


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties", "breadcrumbs", "della", "della_linear"])
def test_l1_keeps_the_norm_of_the_whole_task_vector(method: str) -> None:
    tau = random(600, 1).view(20, 30)
    out = kept(method, tau, density=0.4, rescale="l1")
    assert 0 < int((out != 0).sum()) < 600
    assert float(out.abs().sum()) == pytest.approx(float(tau.abs().sum()), rel=1e-5)
    plain = kept(method, tau, density=0.4, rescale="none")
    same = plain != 0
    assert torch.equal(out != 0, same)
    torch.testing.assert_close(plain[same], tau[same])
    close(kept(method, torch.zeros(3), rescale="l1"), [0, 0, 0])


def test_a_sum_can_be_divided_by_its_weights() -> None:
    base, parents = torch.zeros(2), [vector(2, -1), vector(4, 3)]
    close(merge("task_arithmetic", base, parents, weight=(1.0, 3.0), normalize=True), [3.5, 2])
    # A parent of which nothing is kept has its weight in the sum, as one with entries would.
    out = merged("dare_linear", {"a": {"x": parents[0]}, "b": {"x": parents[1]}}, {"x": base},
                 {"weight": {"a": 1.0, "b": 3.0}, "density": {"a": 1.0, "b": 0.0}, "normalize": True})  # fmt: skip
    close(out["x"], [0.5, -0.25])


# ---- SCE and RAM


def test_sce_known_answer() -> None:
    close(merge("sce", torch.zeros(3), [vector(1, 2, 0), vector(3, -1, 0)], select_topk=1.0), [7 / 3, 2, 0])


def test_sce_selects_by_variance_and_keeps_all_where_there_is_none() -> None:
    a, b = vector(1, 5, 2, 3), vector(1, 1, 1, 3)  # variances 0, 4, 1/4, 0
    close(merge("sce", torch.zeros(4), [a, b], select_topk=0.5), [0, (25 * 5 + 1 * 1) / 26, 0, 0])
    close(merge("sce", torch.zeros(4), [a, a, a], select_topk=0.5), a)
    close(merge("sce", torch.zeros(4), [a, b], select_topk=0.4), [0, 0, 0, 0])  # k = ⌊0.4 · 2⌋ = 0


def test_sce_weighs_small_task_vectors_as_it_does_large_ones() -> None:
    a, b = vector(1, 0, 1), vector(3, 0, 3)
    for size in (1.0, 1e-4, 1e-12):
        close(merge("sce", torch.zeros(3), [a * size, b * size], select_topk=1.0) / size, [2.8, 0, 2.8])


def test_ram_adds_what_is_unique_and_averages_what_is_shared() -> None:
    a, b, c = vector(1, 2, 0, 1e-6), vector(0, 4, 0, 0), vector(0, 3, -5, 1e-6)
    close(merge("ram", torch.zeros(4), [a, b, c]), [1, 3, -5, 0])


def test_ram_plus_scales_what_is_unique_by_the_overlap() -> None:
    a, b = vector(1, 1, 1, 1, 0, 0), vector(0, 0, 0, 3, 2, 2)
    out = merge("ramplus_tl", torch.zeros(6), [a, b], r=0.5, alpha=0.4)  # ρ = 1/3 and 1/2
    close(out, [1 + 0.5 / 3] * 3 + [2] + [2 * (1 + 0.5 * 0.4)] * 2)
    assert torch.equal(merge("ramplus_tl", torch.zeros(6), [a, b], r=0.0), merge("ram", torch.zeros(6), [a, b]))


# ---- the pipeline

NAMED: dict[str, dict[str, Any]] = {
    "task_arithmetic": {},
    "ties": {"sparsify": "magnitude", "consensus": "sum", "aggregate": "disjoint_mean"},
    "dare_linear": {"sparsify": "random"},
    "dare_ties": {"sparsify": "random", "consensus": "sum", "aggregate": "disjoint_mean"},
    "breadcrumbs": {"sparsify": "outliers", "scope": "row"},
    "breadcrumbs_ties": {"sparsify": "outliers", "scope": "row", "consensus": "sum", "aggregate": "disjoint_mean"},
    "della": {"sparsify": "magprune", "consensus": "sum", "aggregate": "disjoint_mean"},
    "della_linear": {"sparsify": "magprune"},
    "sce": {"sparsify": "variance", "consensus": "sum", "aggregate": "sce"},
    "ram": {"aggregate": "ram", "r": 0.0},
    "ramplus_tl": {"aggregate": "ram"},
    "consensus_ta": {"post": "tall_mask"},
}


def built(of: Any) -> dict[str, torch.Tensor]:
    plan = Sources().plan(of)
    return {task.name: merge_tensor(plan, task).clone() for task in plan.tasks}


@pytest.fixture(scope="module")
def plain_sum(family: SimpleNamespace) -> dict[str, torch.Tensor]:
    """What the pipeline makes of three parents where its slots do nothing."""
    parents = {"math": family.math, "japanese": family.japanese, "code": family.code}
    return built(recipe("pipeline", family.base, parents, parameters={"sparsify": "none"}))


@pytest.mark.parametrize("method", NAMED)
def test_the_slots_of_a_named_method_give_its_bytes(
    method: str, family: SimpleNamespace, plain_sum: dict[str, torch.Tensor]
) -> None:
    parents = {"math": family.math, "japanese": family.japanese, "code": family.code}
    spec = find_method(method).spec
    own = {"weight": {"math": 0.9, "japanese": 0.4, "code": 1.1}, "lambda": 0.7, "density": 0.4, "gamma": 0.1,
           "epsilon": 0.2, "select_topk": 0.3, "r": 0.5, "alpha": 0.6, "threshold": 0.5, "k": 2}  # fmt: skip
    ram = method.startswith("ram")
    own["epsilon"] = 1e-3 if ram else 0.2
    given = {name: value for name, value in own.items() if spec.parameter(name)}
    slots = {**{name: value for name, value in given.items() if name != "epsilon" or not ram}, **NAMED[method]}
    if ram:
        slots["tolerance"] = given["epsilon"]
    named = built(recipe(method, family.base, parents, parameters=given, seed=3))
    assert same_bytes(named, built(recipe("pipeline", family.base, parents, parameters=slots, seed=3)))
    assert not same_bytes(named, plain_sum)


def test_parameters_of_other_slots_sleep(family: SimpleNamespace) -> None:
    parameters = {"sparsify": "magnitude", "gamma": 0.1, "epsilon": 0.1, "r": 0.5}
    with pytest.raises(RecipeError) as error:
        built(recipe("pipeline", family.base, {"math": family.math}, parameters=parameters))
    for text in ("gamma has no meaning with sparsify: magnitude; it counts where sparsify is outliers",
                 "epsilon has no meaning", "r has no meaning with aggregate: sum"):  # fmt: skip
        assert text in str(error.value)


def test_a_trim_over_the_model_may_remove_outliers(family: SimpleNamespace) -> None:
    parameters = {"sparsify": "outliers", "scope": "model", "density": 0.3, "gamma": 0.05}
    out = built(recipe("pipeline", family.base, {"math": family.math}, parameters=parameters))
    plain = built(recipe("task_arithmetic", family.base, {"math": family.math}))
    base = built(recipe("task_arithmetic", family.base, {"math": family.math}, parameters={"lambda": 0.0}))
    moved = {name: (plain[name] - base[name]).view(-1).abs() for name in plain}
    size = torch.cat(list(moved.values()))
    was_kept = torch.cat([(out[name] != base[name]).view(-1) for name in plain])
    n = size.numel()
    assert abs(int(was_kept.sum()) - math.floor(0.3 * n)) <= n // 1000  # a change may be lost in rounding
    order = size.sort(descending=True).values
    removed = math.floor(0.05 * n)
    low, high = order[removed + math.floor(0.3 * n)] * 0.99, order[removed - 1] * 1.01
    assert float(size[was_kept].min()) >= float(low)
    assert float(size[was_kept].max()) <= float(high)


def refused(method: str, **values: Any) -> Sequence[str]:
    spec = find_method(method).spec
    full = {p.name: values.get(p.name, p.default) for p in spec.parameters}
    return find_method(method).problems({p.name: (full[p.name],) if p.per_parent else full[p.name]
                                         for p in spec.parameters})  # fmt: skip


def test_values_out_of_range_are_named() -> None:
    assert refused("breadcrumbs", gamma=-0.1) == ["gamma must be between 0 and 1, but came -0.1"]
    assert refused("della", density=1.5, weight=-1.0)[1] == "density must be between 0 and 1, but came 1.5"
    assert "weight must not be negative" in refused("sce", weight=-1.0)[0]
    assert refused("sce", select_topk=2.0) == ["select_topk must be between 0 and 1, but came 2"]
    assert refused("ram", epsilon=-1e-5) == ["epsilon must be between 0 and 1, but came -1e-05"]
    assert refused("pipeline", tolerance=-1.0) == ["tolerance must be between 0 and 1, but came -1"]
    assert refused("della_linear", weight=-1.0) == []


@pytest.mark.parametrize("method", SPARSE)
def test_what_is_said_of_a_method_fits_its_parameters(method: str) -> None:
    spec = find_method(method).spec
    assert spec.formula
    assert "candidate" in spec.notes
    assert "θ0 + λ" in spec.formula or "as ram" in spec.formula
    assert method in METHODS
