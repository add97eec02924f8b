import numpy as np
import pytest

from evomerge.errors import EstimationError
from evomerge.estimation import ESTIMATORS, Mixture, Responses, base, make_estimator, map_ability
from evomerge.estimation.posterior import TEMPER, Posterior
from evomerge.estimation.prior import Atoms, families
from evomerge.estimation.simple import filled

NAMES = [
    "aipw",
    "aipw-ridge",
    "calibrated-mean",
    "gmp-irt",
    "gp-irt",
    "mean",
    "mixture",
    "mp-irt",
    "mp-irt-convex",
    "p-irt",
    "ridge",
    "stratified",
    "weighted",
]


@pytest.fixture(scope="module")
def split(synthetic: tuple) -> tuple[Responses, np.ndarray, np.ndarray]:
    """Calibration models, complete rows of 40 further ones, and ten random answers of each."""
    responses, truth = synthetic
    rng = np.random.default_rng(1)
    calibration = responses.of_models(responses.models[:240])
    Y = (rng.random((40, 120)) < truth["p"][250:290]).astype(float)
    seen = np.full(Y.shape, np.nan)
    items = rng.choice(120, 24, replace=False)
    seen[:, items] = Y[:, items]
    return calibration, Y, seen


@pytest.fixture(scope="module")
def fitted(split: tuple) -> dict[str, base.Estimator]:
    estimators = {}
    for name in NAMES:
        estimators[name] = make_estimator(name)
        estimators[name].fit(split[0])
    return estimators


def test_every_estimator_is_listed() -> None:
    assert sorted(ESTIMATORS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_all_answers_give_the_exact_mean_without_error(name: str, fitted: dict, split: tuple) -> None:
    found = fitted[name].estimate(split[1])
    assert found.mean == pytest.approx(split[1].mean(1), abs=1e-12)
    assert (found.se == 0).all()
    low, high = found.interval()
    assert low == pytest.approx(high)


@pytest.mark.parametrize("name", NAMES)
def test_estimates_beat_the_calibration_mean_and_intervals_hold_the_truth(
    name: str, fitted: dict, split: tuple
) -> None:
    calibration, Y, seen = split
    found = fitted[name].estimate(seen)
    truth = Y.mean(1)
    error = np.abs(found.mean - truth).mean()
    assert error < 0.5 * np.abs(np.nanmean(calibration.R) - truth).mean()
    low, high = found.interval(0.9)
    assert ((low <= truth) & (truth <= high)).mean() >= 0.75
    assert found.se.mean() < 4 * error


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_or_all_wrong_is_not_certainty(name: str, value: float, fitted: dict) -> None:
    seen = np.full((1, 120), np.nan)
    seen[0, :6] = value
    found = fitted[name].estimate(seen)
    assert 0 <= found.mean[0] <= 1
    assert found.se[0] > 0.005


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_at_all_is_an_honest_guess(name: str, fitted: dict) -> None:
    found = fitted[name].estimate(np.full((2, 120), np.nan))
    assert np.isfinite(found.mean).all()
    assert (found.se > 0.1).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_pool_bounds_what_is_estimated(name: str, fitted: dict, split: tuple) -> None:
    _, Y, _ = split
    pool = np.zeros(Y.shape, dtype=bool)
    pool[:, :50] = True
    found = fitted[name].estimate(np.where(pool, Y, np.nan), pool=pool)
    assert found.mean == pytest.approx(Y[:, :50].mean(1), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_answers_of_the_wrong_number_or_range_are_refused(name: str, fitted: dict) -> None:
    with pytest.raises(EstimationError, match="one column for each of 120"):
        fitted[name].estimate(np.zeros((1, 7)))
    with pytest.raises(EstimationError, match=r"\[0, 1\]"):
        fitted[name].estimate(np.full((1, 120), 2.0))


@pytest.mark.parametrize("name", NAMES)
def test_one_item_is_enough_to_estimate_its_own_mean(name: str) -> None:
    calibration = Responses(("a", "b", "c", "d"), ("i",), np.array([[1.0], [0.0], [1.0], [0.0]]))
    estimator = make_estimator(name)
    estimator.fit(calibration)
    found = estimator.estimate(np.array([[1.0], [np.nan]]))
    assert found.mean[0] == 1
    assert found.se[0] == 0
    assert found.se[1] > 0


def test_the_mean_has_the_error_of_sampling_without_replacement(fitted: dict, split: tuple) -> None:
    seen = split[2][:1]
    found = fitted["mean"].estimate(seen)
    rate = np.nanmean(seen)
    drawn = (np.nansum(seen) + 2) / 28
    assert found.mean[0] == pytest.approx(rate)
    assert found.se[0] == pytest.approx(np.sqrt(drawn * (1 - drawn) / 24 * 96 / 119))


def test_anchors_of_equal_weight_are_the_mean(fitted: dict, split: tuple) -> None:
    found = fitted["weighted"].estimate(split[2], weights=np.full(120, 3.0))
    assert found.mean == pytest.approx(np.nanmean(split[2], 1))
    with pytest.raises(EstimationError, match="none negative"):
        fitted["weighted"].estimate(split[2], weights=np.full(120, -1.0))


def test_ridge_is_the_textbook_formula(split: tuple) -> None:
    calibration, _, seen = split
    ridge = make_estimator("ridge")
    ridge.fit(calibration)
    items = np.flatnonzero(~np.isnan(seen[0]))
    X, F = filled(calibration.R)[:, items], filled(calibration.R).mean(1)
    m, best = len(F), (np.inf, None)
    for penalty in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
        weight = penalty * m * X.var() * np.eye(len(items))

        def predict(rows: np.ndarray, y: np.ndarray, weight: np.ndarray = weight) -> np.ndarray:
            x, f = X[rows], F[rows]
            gap = x - x.mean(0)
            return f.mean() + (y - x.mean(0)) @ np.linalg.solve(gap.T @ gap + weight, gap.T @ (f - f.mean()))

        every = np.arange(m)
        gap = X - X.mean(0)
        hat = gap @ np.linalg.solve(gap.T @ gap + weight, gap.T) + 1 / m
        error = np.mean(((F - hat @ F) / (1 - np.diag(hat))) ** 2)
        if error < best[0]:
            best = error, predict(every, seen[:, items])
    found = ridge.estimate(seen)
    assert found.mean == pytest.approx(best[1], abs=1e-9)
    assert found.se == pytest.approx(np.sqrt(best[0]), rel=1e-9)


def test_the_calibrated_mean_is_a_fitted_line(split: tuple) -> None:
    calibration, _, seen = split
    estimator = make_estimator("calibrated-mean")
    estimator.fit(calibration)
    items = ~np.isnan(seen[0])
    X = filled(calibration.R)
    slope, intercept = np.polyfit(X[:, items].mean(1), X.mean(1), 1)
    assert estimator.estimate(seen).mean == pytest.approx(intercept + slope * seen[:, items].mean(1))


def test_p_irt_is_tau_times_the_mean_plus_the_rest_from_the_model(fitted: dict, split: tuple) -> None:
    seen = split[2]
    irt = fitted["p-irt"].irt
    theta, _ = map_ability(irt, seen)
    open_items = np.isnan(seen[0])
    tau = 24 / 120
    expected = tau * np.nanmean(seen, 1) + (1 - tau) * irt.probability(theta)[:, open_items].mean(1)
    assert fitted["p-irt"].estimate(seen).mean == pytest.approx(expected)


def test_gp_irt_lies_between_its_two_parts(fitted: dict, split: tuple) -> None:
    found = fitted["gp-irt"].estimate(split[2]).mean
    ends = np.stack([np.nanmean(split[2], 1), fitted["p-irt"].estimate(split[2]).mean])
    assert (found >= ends.min(0) - 1e-9).all()
    assert (found <= ends.max(0) + 1e-9).all()


def merges(synthetic: tuple) -> tuple[np.ndarray, list[Responses]]:
    """Thirty merges whose ability is halfway between two models that differ, with the rows of those."""
    responses, truth = synthetic
    rng = np.random.default_rng(5)
    rows, parents = [], []
    for number in range(30):
        pair = [number * 2, number * 2 + 1]
        theta = truth["theta"][pair].mean()
        p = 1 / (1 + np.exp(-(theta * truth["a"] - truth["b"])))
        rows.append(rng.random(120) < p)
        parents.append(responses.of_models([responses.models[i] for i in pair]))
    return np.array(rows, dtype=float), parents


@pytest.mark.parametrize("name", ["mixture", "p-irt", "mp-irt", "mp-irt-convex", "gmp-irt"])
def test_parents_make_few_answers_worth_more(name: str, fitted: dict, synthetic: tuple) -> None:
    Y, parents = merges(synthetic)
    seen = np.full(Y.shape, np.nan)
    seen[:, :4] = Y[:, :4]
    without = np.abs(fitted[name].estimate(seen).mean - Y.mean(1)).mean()
    informed = np.abs(fitted[name].estimate(seen, parents=parents).mean - Y.mean(1)).mean()
    assert informed < without


@pytest.mark.parametrize("name", ["mixture", "p-irt", "mp-irt", "gmp-irt"])
def test_a_parent_without_responses_is_as_good_as_unknown(name: str, fitted: dict, split: tuple) -> None:
    seen = split[2][:2]
    nothing = Responses(("p",), split[0].items, np.full((1, 120), np.nan))
    plain = fitted[name].estimate(seen).mean
    assert fitted[name].estimate(seen, parents=[nothing, None]).mean == pytest.approx(plain)


def test_parents_are_aligned_by_item_name(fitted: dict, synthetic: tuple) -> None:
    Y, parents = merges(synthetic)
    seen = np.where(np.arange(120) < 5, Y[:1], np.nan)
    turned = parents[0].of_items(reversed(parents[0].items))
    for name in ("mixture", "p-irt", "mp-irt"):
        one = fitted[name].estimate(seen, parents=parents[:1]).mean
        assert fitted[name].estimate(seen, parents=[turned]).mean == pytest.approx(one)


def test_the_posterior_is_bayes_rule() -> None:
    rng = np.random.default_rng(3)
    P = rng.uniform(0.1, 0.9, size=(5, 4)).astype(np.float32)
    atoms = Atoms(P, np.log(np.full(5, 0.2)).astype(np.float32), np.full((5, 2), -1))
    seen = np.array([[1.0, np.nan, 0.0, np.nan]])
    posterior = Posterior(atoms, np.ones((1, 4), dtype=bool))
    posterior.tell(seen)
    weight = (P[:, 0] * (1 - P[:, 2])) ** TEMPER
    weight /= weight.sum()
    found = posterior.estimate()
    assert posterior.weights()[0] == pytest.approx(weight, rel=1e-5)
    assert found.mean[0] == pytest.approx((1 + weight @ (P[:, 1] + P[:, 3])) / 4, rel=1e-5)
    rest = P[:, [1, 3]]
    variance = weight @ rest.sum(1) ** 2 - (weight @ rest.sum(1)) ** 2 + weight @ (rest * (1 - rest)).sum(1)
    assert found.se[0] == pytest.approx(np.sqrt(variance) / 4, rel=1e-4)
    stepwise = Posterior(atoms, np.ones((1, 4), dtype=bool))
    stepwise.tell_one(np.array([0]), np.array([1.0]))
    stepwise.tell_one(np.array([2]), np.array([0.0]))
    assert stepwise.weights() == pytest.approx(posterior.weights(), rel=1e-5)


def test_the_next_item_is_the_one_with_the_least_expected_variance() -> None:
    rng = np.random.default_rng(4)
    P = rng.uniform(0.05, 0.95, size=(30, 6)).astype(np.float32)
    atoms = Atoms(P, np.full(30, -np.log(30), dtype=np.float32), np.full((30, 2), -1))
    F = P.mean(1)
    left = []
    for item in range(6):
        expected = 0.0
        for chance in (P[:, item], 1 - P[:, item]):
            weight = chance / chance.sum()
            expected += chance.mean() * (weight @ F**2 - (weight @ F) ** 2)
        left.append(expected)
    assert Posterior(atoms, np.ones((1, 6), dtype=bool)).next_items()[0] == np.argmin(left)


@pytest.mark.parametrize("rows", [1, 2, 4, 12])
def test_the_default_works_from_a_handful_of_models(rows: int, synthetic: tuple) -> None:
    Y, parents = merges(synthetic)
    responses = synthetic[0]
    errors = []
    for target in range(10):
        names = [*parents[target].models, *(n for n in responses.models[100:120])][:rows]
        estimator = make_estimator("mixture")
        estimator.fit(responses.of_models(names))
        seen = np.where(np.arange(120) % 5 == 0, Y[target : target + 1], np.nan)
        found = estimator.estimate(seen, parents=[parents[target]])
        errors.append(abs(found.mean[0] - Y[target].mean()))
        assert found.se[0] > 0.02
    assert np.mean(errors) < 0.1


def test_a_fit_without_any_response_is_refused() -> None:
    with pytest.raises(EstimationError, match="no calibration model has a response"):
        Mixture().fit(Responses(("m",), ("i",), np.array([[np.nan]])))


def test_a_regression_needs_models() -> None:
    with pytest.raises(EstimationError, match="at least 3 calibration models; got 2"):
        make_estimator("ridge").fit(Responses(("m", "n"), ("i",), np.zeros((2, 1))))


def test_answers_outside_of_the_pool_and_empty_pools_are_refused(fitted: dict) -> None:
    pool = np.ones((1, 120), dtype=bool)
    pool[0, 0] = False
    with pytest.raises(EstimationError, match="not in its pool"):
        fitted["mean"].estimate(np.ones((1, 120)), pool=pool)
    with pytest.raises(EstimationError, match="pool is empty"):
        fitted["mean"].estimate(np.full((1, 120), np.nan), pool=np.zeros((1, 120), dtype=bool))


def test_families_are_authors() -> None:
    assert families(["x/a", "y/b", "x/c", "plain", "x"]).tolist() == [0, 1, 0, 2, 3]


def test_the_level_of_an_interval_is_a_probability(fitted: dict, split: tuple) -> None:
    found = fitted["mean"].estimate(split[2])
    with pytest.raises(EstimationError, match="between 0 and 1"):
        found.interval(90)
    narrow, wide = found.interval(0.5), found.interval(0.99)
    assert (wide[0] <= narrow[0]).all()
    assert (narrow[1] <= wide[1]).all()
