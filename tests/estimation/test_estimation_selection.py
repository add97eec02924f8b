import numpy as np
import pytest

from evomerge.errors import EstimationError
from evomerge.estimation import (
    FIXED,
    AskPlan,
    Mixture,
    Responses,
    ask_adaptively,
    ask_by_information,
    choose,
    estimate_from_few,
    fit_irt,
)


@pytest.fixture(scope="module")
def halves(synthetic: tuple) -> tuple[Responses, Responses]:
    responses, _ = synthetic
    return responses.of_models(responses.models[:150]), responses.of_models(responses.models[250:])


def some(halves: tuple[Responses, Responses]) -> tuple[Responses, Responses]:
    """A third of the models, where the quality of an estimate does not matter."""
    return tuple(half.of_models(half.models[: len(half.models) // 3]) for half in halves)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("n", [1, 17, 120])
def test_a_choice_has_n_different_items_and_is_seeded(name: str, n: int, halves: tuple) -> None:
    one, two = (choose(name, halves[0], n, seed=5) for _ in range(2))
    assert np.array_equal(one.items, two.items)
    assert len(set(one.items.tolist())) == n
    assert set(one.items.tolist()) <= set(range(120))
    if one.weights is not None:
        assert one.weights.sum() == pytest.approx(1)
        assert (one.weights[np.setdiff1d(np.arange(120), one.items)] == 0).all()


@pytest.mark.parametrize("n", [0, 121])
def test_more_items_than_the_pool_or_none_are_refused(n: int, halves: tuple) -> None:
    with pytest.raises(EstimationError, match="between 1 and the 120"):
        choose("uniform", halves[0], n)


def test_anchors_of_equal_items_stand_for_their_copies() -> None:
    patterns = np.array([[1, 0, 1, 0, 1, 1], [0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 0]], dtype=float)
    copies = [1, 2, 5]
    R = np.repeat(patterns.T, copies, axis=1)
    choice = choose("anchors", Responses(tuple("abcdef"), tuple(map(str, range(8))), R), 3)
    group = np.repeat([0, 1, 2], copies)
    assert sorted(group[choice.items]) == [0, 1, 2]
    assert {int(group[item]): round(8 * choice.weights[item]) for item in choice.items} == {0: 1, 1: 2, 2: 5}
    more = choose("anchors", Responses(tuple("abcdef"), tuple(map(str, range(8))), R), 6)
    assert len(set(more.items.tolist())) == 6


def test_greedy_items_leave_less_variance_than_random_ones(halves: tuple) -> None:
    R = np.nan_to_num(halves[0].R, nan=0.5)
    gap = R - R.mean(0)
    K = gap.T @ gap / (len(R) - 1)

    def left(items: np.ndarray) -> float:
        part = K[np.ix_(items, items)] + 0.03 * np.eye(len(items))
        cross = K[items].mean(1)
        return float(K.mean() - cross @ np.linalg.solve(part, cross))

    greedy = left(choose("greedy", halves[0], 10).items)
    assert all(greedy < left(choose("uniform", halves[0], 10, seed=seed).items) for seed in range(10))


def test_stratified_items_cover_all_difficulties(halves: tuple) -> None:
    rate = np.nanmean(halves[0].R, 0)
    rank = rate.argsort(kind="stable").argsort()
    tenths = np.bincount(rank[choose("stratified", halves[0], 20).items] // 12, minlength=10)
    assert (tenths >= 1).all()


def test_adaptive_choices_see_only_what_they_ask_for(halves: tuple) -> None:
    calibration, targets = halves
    truth = targets.R
    pool = ~np.isnan(truth)
    mixture = Mixture(calibrate=False)
    mixture.fit(calibration)
    irt = fit_irt(calibration)
    for ask in (lambda a: ask_adaptively(mixture, a, 8, pool), lambda a: ask_by_information(irt, a, 8, pool)):
        asked: list[np.ndarray] = []

        def answer(items: np.ndarray, asked: list = asked) -> np.ndarray:
            asked.append(items)
            return truth[np.arange(len(truth)), items]

        seen = ask(answer)
        assert np.array_equal(np.sort(np.array(asked), 0).T, np.array([np.flatnonzero(~np.isnan(r)) for r in seen]))
        assert not np.isnan(seen[pool & ~np.isnan(seen)]).any()
        assert (~np.isnan(seen) <= pool).all()
        assert len({tuple(column) for column in np.array(asked).T}) > 1  # targets that answer differently part ways


def test_a_small_pool_is_asked_in_full(halves: tuple) -> None:
    calibration, targets = some(halves)
    R = targets.R[:2].copy()
    R[0, 5:] = np.nan
    R[0, :5] = [1, 0, 1, 1, 0]
    few = Responses(targets.models[:2], targets.items, R)
    for select in ("adaptive", "fisher", "uniform"):
        found, seen = estimate_from_few(calibration, few, AskPlan(items=120, select=select))
        assert found.mean == pytest.approx(few.accuracy())
        assert (found.se == 0).all()
        assert (~np.isnan(seen)).sum() == (~np.isnan(R)).sum()


def test_unrevealed_responses_change_nothing(halves: tuple) -> None:
    calibration, targets = some(halves)
    for select in ("adaptive", "fisher", "greedy"):
        found, seen = estimate_from_few(calibration, targets, AskPlan(items=10, select=select))
        changed = np.where(np.isnan(targets.R), np.nan, np.where(np.isnan(seen), 1 - targets.R, targets.R))
        other = Responses(targets.models, targets.items, changed)
        again, _ = estimate_from_few(calibration, other, AskPlan(items=10, select=select))
        assert np.array_equal(found.mean, again.mean)
        assert np.array_equal(found.se, again.se)


def test_adaptive_items_beat_random_ones(halves: tuple) -> None:
    calibration, targets = halves
    truth = targets.accuracy()
    error = {
        select: np.abs(estimate_from_few(calibration, targets, AskPlan(items=8, select=select))[0].mean - truth).mean()
        for select in ("adaptive", "uniform")
    }
    assert error["adaptive"] < error["uniform"]


def test_items_are_matched_by_name(halves: tuple) -> None:
    calibration, targets = halves
    plan = AskPlan(items=10, select="greedy")
    turned = targets.of_items(reversed(targets.items))
    one, two = estimate_from_few(calibration, targets, plan)[0], estimate_from_few(calibration, turned, plan)[0]
    assert np.array_equal(one.mean, two.mean)
    renamed = Responses(targets.models, tuple(f"x{name}" for name in targets.items), targets.R)
    with pytest.raises(EstimationError, match="must have the same items"):
        estimate_from_few(calibration, renamed, plan)


def test_mistakes_of_a_plan_are_refused(halves: tuple) -> None:
    calibration, targets = halves
    with pytest.raises(EstimationError, match="calibration models too"):
        estimate_from_few(calibration, calibration, AskPlan(items=5))
    with pytest.raises(EstimationError, match="between 1 and the 120"):
        estimate_from_few(calibration, targets, AskPlan(items=121))
    with pytest.raises(EstimationError, match="unknown choice of items 'gready'; did you mean 'greedy'"):
        estimate_from_few(calibration, targets, AskPlan(items=5, select="gready"))
    rows = calibration.of_models(calibration.models[:2])
    with pytest.raises(EstimationError, match="not among the 50 targets"):
        estimate_from_few(calibration, targets, AskPlan(items=5), {"nobody": rows})
    with pytest.raises(EstimationError, match="its own parent"):
        estimate_from_few(calibration, targets, AskPlan(items=5), {targets.models[0]: targets})
    empty = Responses(("e",), targets.items, np.full((1, 120), np.nan))
    with pytest.raises(EstimationError, match="nothing to reveal"):
        estimate_from_few(calibration, empty, AskPlan(items=5))
