"""Paired differences against independent formulas: scipy's tests, a likelihood maximized by search, enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from evomerge.analysis.comparison import Difference, compare, mcnemar, sign_flip, tango
from evomerge.evaluation.intervals import Z, mean_score, weighted_sum


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


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (12, 2), (2, 12), (0, 6), (300, 250), (1200, 1300)])
def test_mcnemars_p_value_equals_scipys_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


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


@pytest.mark.parametrize("n", [1, 4, 9, 13])
def test_few_items_are_permuted_exactly(n: int) -> None:
    shares = np.random.default_rng(n).integers(-3, 4, n).astype(float)
    signs = itertools.product((-1, 1), repeat=n)
    expected = np.mean(
        [abs(sum(s * x for s, x in zip(pattern, shares, strict=True))) >= abs(shares.sum()) for pattern in signs]
    )
    assert sign_flip(shares) == pytest.approx(expected)


def test_many_items_are_permuted_at_random_and_agree_with_the_exact_distribution() -> None:
    # Equal steps make the permutation distribution binomial: McNemar's test in other clothes.
    shares = np.repeat([1.0, -1.0], [40, 22])
    assert sign_flip(shares) == pytest.approx(mcnemar(40, 22), abs=0.01)
    assert sign_flip(shares, seed=5) == sign_flip(shares, seed=5)
    assert sign_flip(np.ones(200)) == 1 / 10_000  # never 0
    assert sign_flip(np.zeros(5)) == 1.0


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
