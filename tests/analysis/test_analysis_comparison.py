"""Paired differences against independent formulas: scipy's tests, a likelihood maximized by search, simulations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import optimize, stats

from evomerge.analysis import comparison
from evomerge.analysis.comparison import Difference, compare, mcnemar, tango
from evomerge.evaluation.intervals import Z, mean_score, weighted_sum
from evomerge.evaluation.worst import Ratio, worst_difference
from evomerge.record import Score


def binary_pair(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[float], list[float]]:
    first = [1.0] * (both + only_first) + [0.0] * (only_second + neither)
    second = [1.0] * both + [0.0] * only_first + [1.0] * only_second + [0.0] * neither
    return first, second


def score_statistic(b: int, c: int, n: int, d: float) -> float:
    """The score test of p12 - p21 = d, its nuisance parameter found by maximizing the trinomial likelihood."""

    def minus_log_likelihood(p21: float) -> float:
        p12 = p21 + d
        parts = ((b, p12), (c, p21), (n - b - c, 1 - p12 - p21))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in parts if count)

    low, high = max(0.0, -d), (1 - d) / 2
    found = optimize.minimize_scalar(
        minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    p21 = min((low, high, found.x), key=minus_log_likelihood)
    return (b - c - n * d) / math.sqrt(n * (2 * p21 + d - d * d))


@pytest.mark.parametrize(
    ("b", "c", "n"), [(12, 2, 50), (2, 12, 50), (1, 1, 7), (5, 0, 20), (0, 9, 30), (30, 25, 400), (7, 3, 10)]
)
def test_tangos_bounds_are_where_the_score_test_begins_to_reject(b: int, c: int, n: int) -> None:
    low, high = tango(b, c, n)
    assert -1 <= low < (b - c) / n < high <= 1
    assert score_statistic(b, c, n, low) == pytest.approx(Z, abs=1e-5)
    assert score_statistic(b, c, n, high) == pytest.approx(-Z, abs=1e-5)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_two_models_that_never_differ_have_the_interval_that_no_difference_in_n_items_leaves(n: int) -> None:
    # With b = c = 0 the equation is n d^2 = z^2 d (1 - d), so d = z^2 / (n + z^2).
    assert tango(0, 0, n) == pytest.approx((-Z * Z / (n + Z * Z), Z * Z / (n + Z * Z)), abs=1e-12)


def test_tangos_bounds_at_the_ends() -> None:
    # Only the first is right, always: given d the likeliest rest is all "only the second", q = (1 - d) / 2, so the
    # equation is n (1 - d)^2 = z^2 (1 - d^2).
    bound = (20 - Z * Z) / (20 + Z * Z)
    assert tango(20, 0, 20) == pytest.approx((bound, 1.0), abs=1e-12)
    assert tango(0, 20, 20) == pytest.approx((-1.0, -bound), abs=1e-12)


@pytest.mark.parametrize(("b", "c"), [(1, 0), (5, 5), (12, 2), (2, 12), (0, 6), (300, 250), (1200, 1300)])
def test_mcnemars_p_value_is_that_of_the_chi_squared_test(b: int, c: int) -> None:
    assert mcnemar(b, c) == pytest.approx(stats.chi2.sf((b - c) ** 2 / (b + c), 1), rel=1e-9)
    assert mcnemar(0, 0) == 1.0


def level(n: int, q: float) -> float:
    """How often p < 0.05 for two models of which each is alone right with probability q: summed, not drawn."""
    total = 0.0
    for differing in range(n + 1):
        rejected = [b for b in range(differing + 1) if mcnemar(b, differing - b) < 0.05]
        total += float(stats.binom.pmf(differing, n, 2 * q) * stats.binom.pmf(rejected, differing, 0.5).sum())
    return total


@pytest.mark.parametrize("n", [10, 30, 100])
def test_the_test_of_one_binary_task_keeps_its_level_for_any_share_of_differences(n: int) -> None:
    assert max(level(n, q) for q in (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45)) <= 0.057


def test_one_binary_task_is_compared_by_tango_and_mcnemar() -> None:
    first, second = binary_pair(20, 12, 2, 16)
    found = compare({"t": first}, {"t": second}, {"t": 1.0})
    assert (found.difference, found.n) == (pytest.approx(0.2), 50)
    assert (found.low, found.high) == pytest.approx(tango(12, 2, 50))
    assert found.p_value == mcnemar(12, 2)
    assert found.low > 0.0


def test_a_metric_to_be_minimized_turns_the_difference_around() -> None:
    first, second = binary_pair(20, 12, 2, 16)
    up, down = (compare({"t": first}, {"t": second}, {"t": weight}) for weight in (1.0, -1.0))
    assert (down.difference, down.low, down.high) == pytest.approx((-up.difference, -up.high, -up.low))
    assert down.p_value == up.p_value


def test_another_metric_has_students_paired_interval_and_a_permutation_test_near_students() -> None:
    generator = np.random.default_rng(3)
    first = generator.normal(0.3, 1.0, 60)
    second = first + generator.normal(-0.25, 0.8, 60)
    found = compare({"t": first.tolist()}, {"t": second.tolist()}, {"t": 1.0})
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-7)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.02)


def test_several_tasks_are_combined_by_mover_with_their_weights() -> None:
    generator = np.random.default_rng(1)
    a, b = binary_pair(10, 8, 3, 19)
    c, d = generator.normal(0, 1, 30), generator.normal(0, 1, 30)
    weights = {"right": 0.75, "loss": -0.25, "unweighted": 0.0}
    found = compare({"right": a, "loss": c.tolist()}, {"right": b, "loss": d.tolist()}, weights)
    right = mean_score((np.array(a) - np.array(b)).tolist())
    right = type(right)(right.mean, *tango(8, 3, 40), 40)
    expected = weighted_sum([right, mean_score((c - d).tolist())], [0.75, -0.25])
    assert (found.difference, found.low, found.high, found.n) == pytest.approx(
        (expected.mean, expected.low, expected.high, 70)
    )


def several(generator: np.random.Generator, gains: list[float], sizes: list[int]) -> tuple[dict, dict]:
    """Answers of two models to three tasks: two binary, one of quarters; gains are those of the first model."""
    first, second = {}, {}
    for task, (gain, n) in enumerate(zip(gains, sizes, strict=True)):
        difficulty, own, other = generator.random((3, n))
        if task < 2:
            a, b = (0.7 * difficulty + 0.3 * own < 0.5 + gain), (0.7 * difficulty + 0.3 * other < 0.5)
        else:
            a, b = np.round(4 * difficulty + own * 2 + 4 * gain) / 4, np.round(4 * difficulty + other * 2) / 4
        first[str(task)], second[str(task)] = a.astype(float).tolist(), b.astype(float).tolist()
    return first, second


def test_p_is_below_5_percent_exactly_where_the_interval_leaves_0_outside() -> None:
    generator = np.random.default_rng(0)
    outside = 0
    for trial in range(120):
        k = 1 + trial % 3
        sizes = [int(n) for n in generator.choice([1, 2, 5, 10, 30, 100], k)]
        first, second = several(generator, generator.normal(0.0, 0.2, k).tolist(), sizes)
        weights = {task: float(generator.choice([1.0, 0.5, 0.1])) for task in first}
        found = compare(first, second, weights)
        outside += found.low > 0.0 or found.high < 0.0
        assert (found.p_value < 0.05) == (found.low > 0.0 or found.high < 0.0), found
        assert 0.0 < found.p_value <= 1.0 and found.low <= found.difference <= found.high
    assert 12 < outside < 108


def test_a_gain_that_differs_between_tasks_is_no_less_sure_for_that() -> None:
    """Two skills gained, one lost; sign flips over all items count what differs between the tasks as noise."""
    first, second = {}, {}
    for task, (b, c) in {"a": (60, 4), "b": (45, 5), "c": (10, 41)}.items():
        first[task], second[task] = binary_pair(40, b, c, 60)
    found = compare(first, second, dict.fromkeys(first, 1 / 3))
    assert found.low > 0.06 and found.p_value < 0.001
    # By the normal approximation, tasks as fixed strata: the variance of each task's own mean difference.
    gaps = [np.array(first[task]) - np.array(second[task]) for task in first]
    z = sum(g.mean() for g in gaps) / math.sqrt(sum(g.var(ddof=1) / len(g) for g in gaps))
    assert math.log10(found.p_value) == pytest.approx(math.log10(2 * stats.norm.sf(z)), abs=1.0)


def test_differences_that_cancel_over_the_tasks_keep_the_level() -> None:
    """The hypothesis is that the weighted mean is 0, which leaves each task's own difference free."""
    generator = np.random.default_rng(5)
    trials, rejected, held = 400, 0, 0
    for _ in range(trials):
        first, second = {}, {}
        for task, (n, p12, p21) in {"a": (40, 0.3, 0.1), "b": (120, 0.1, 0.3)}.items():
            b, c, rest = generator.multinomial(n, [p12, p21, 1 - p12 - p21])
            first[task], second[task] = binary_pair(int(rest), int(b), int(c), 0)
        found = compare(first, second, {"a": 0.5, "b": 0.5})
        rejected += found.p_value < 0.05
        held += found.low <= 0.0 <= found.high
    assert 0.03 <= rejected / trials <= 0.07 and held == trials - rejected


def test_p_is_never_0_and_1_where_nothing_differs() -> None:
    right, wrong = [1.0] * 5000, [0.0] * 5000
    assert 0.0 < compare({"t": right}, {"t": wrong}, {"t": 1.0}).p_value < 1e-300
    both = compare({"t": right, "u": right}, {"t": wrong, "u": wrong}, {"t": 0.5, "u": 0.5})
    assert 0.0 < both.p_value < 1e-300
    same = compare({"t": right, "u": [0.3, 0.4]}, {"t": right, "u": [0.3, 0.4]}, {"t": 0.5, "u": 0.5})
    assert (same.difference, same.p_value) == (0.0, 1.0) and same.low < 0.0 < same.high


@pytest.mark.parametrize("n", [1, 2, 10])
def test_differences_that_are_all_equal_leave_the_doubt_that_so_few_items_leave(n: int) -> None:
    share = Z * Z / (n + Z * Z)  # of items that n items may all fail to show
    found = compare({"f1": [0.75] * n}, {"f1": [0.25] * n}, {"f1": 1.0})
    assert (found.low, found.high) == pytest.approx((0.5 - 1.5 * share, 0.5 + 0.5 * share))
    nothing = compare({"f1": [0.3] * n}, {"f1": [0.3] * n}, {"f1": 1.0})
    assert (nothing.low, nothing.high, nothing.p_value) == (pytest.approx(-share), pytest.approx(share), 1.0)
    tokens = compare({"tokens": [30.0] * n}, {"tokens": [20.0] * n}, {"tokens": -1.0})
    assert tokens.low < -10.0 < tokens.high


def test_tangos_interval_keeps_its_level_for_models_that_mostly_agree() -> None:
    generator = np.random.default_rng(0)
    held, trials, n, p12, p21 = 0, 2000, 100, 0.08, 0.03
    for _ in range(trials):
        b, c, _ = generator.multinomial(n, [p12, p21, 1 - p12 - p21])
        low, high = tango(int(b), int(c), n)
        held += low <= p12 - p21 <= high
    assert 0.93 <= held / trials <= 0.97


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0, 0.0]), ([], [])])
def test_models_that_answered_other_items_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="the same items"):
        compare({"t": first}, {"t": second}, {"t": 1.0})


def test_the_data_has_stable_keys() -> None:
    data = Difference(0.1, -0.1, 0.3, 0.5, 20)
    assert data.to_data() == {"difference": 0.1, "low": -0.1, "high": 0.3, "p_value": 0.5, "n": 20}


@pytest.mark.parametrize(("n", "k"), [(18, 5), (40, 3), (250, 57)])
def test_the_p_value_of_the_worst_task_is_where_its_interval_meets_0(n: int, k: int) -> None:
    """Its ends are no lines in z, and those of many tasks that hold together do not meet at the difference itself."""
    generator = np.random.default_rng(3)
    best = [(generator.random(n) < 0.7).astype(float) for _ in range(k)]
    better, worse = (
        [Ratio(f"task {i}", (generator.random(n) < right).astype(float), own) for i, own in enumerate(best)]
        for right in (0.65, 0.55)
    )
    asked = []

    def difference(first: Sequence[Ratio], second: Sequence[Ratio], z: float) -> Score:
        asked.append(z)
        return worst_difference(first, second, z)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "worst_difference", difference)
        found = comparison.compare_worst(better, worse)
    low, high = 0.0, 38.0
    for _ in range(200):
        middle = (low + high) / 2
        score = worst_difference(better, worse, middle)
        low, high = (middle, high) if score.low > 0.0 or score.high < 0.0 else (low, middle)
    assert found.p_value == pytest.approx(math.erfc(low / math.sqrt(2.0)), rel=1e-6)
    assert len(asked) < 60
