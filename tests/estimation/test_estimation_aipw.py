"""The mean corrected by a predictor: against the formula, with every answer left out in turn, and over many draws."""

import numpy as np
import pytest

from evomerge.errors import EstimationError
from evomerge.estimation import Mixture, Responses, make_estimator
from evomerge.estimation.aipw import TUNED_FROM
from evomerge.estimation.simple import filled

ASKED = np.random.default_rng(0).choice(120, 24, replace=False)


@pytest.fixture(scope="module")
def better(synthetic: tuple) -> tuple[Responses, np.ndarray]:
    """The lower 60 % of models, and complete answers of thirty models that are better than all of them."""
    responses, truth = synthetic
    order = np.argsort(truth["theta"])
    rng = np.random.default_rng(2)
    Y = (rng.random((30, 120)) < truth["p"][order[200:230]]).astype(float)
    return responses.of_models([responses.models[row] for row in order[:180]]), Y


def by_the_formula(y: np.ndarray, f: np.ndarray, held: np.ndarray, items: np.ndarray, w: np.ndarray) -> float:
    """The estimate of one target from its answers and predictions, item by item."""
    w = w / w.sum()
    level, expected = (w * y).sum(), (w * held).sum()
    slope = (w * (held - expected) * y).sum() / (w * (held - expected) ** 2).sum()
    n = len(y)
    factor = min(max((n * slope + TUNED_FROM) / (n + TUNED_FROM), 0.0), 1.0)
    correction = (w * (y - factor * held)).sum()
    total = y.sum()
    for item in set(range(120)) - set(items.tolist()):
        total += factor * f[item] + correction
    assert level == pytest.approx(correction + factor * expected)
    return total / 120


@pytest.mark.parametrize("weighted", [False, True])
def test_the_ridge_is_fitted_again_without_each_answer(better: tuple, weighted: bool) -> None:
    known, Y = better
    estimator = make_estimator("aipw-ridge")
    estimator.fit(known)
    X = filled(known.R).T
    items = np.sort(ASKED)
    w = np.linspace(1.0, 3.0, 120) if weighted else None
    seen = np.full((3, 120), np.nan)
    seen[:, items] = Y[:3, items]
    found = estimator.estimate(seen, weights=w)
    for row, y in enumerate(seen[:, items]):
        best = (np.inf, None, None)
        size = ((X[items] - X[items].mean(0)) ** 2).sum()
        for penalty in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0):

            def fit(train: np.ndarray, answers: np.ndarray, ridge: float = penalty * size):
                centre = X[train].mean(0)
                gap = X[train] - centre
                slope = gap.T @ np.linalg.solve(gap @ gap.T + ridge * np.eye(len(train)), answers - answers.mean())
                return lambda x: answers.mean() + (x - centre) @ slope

            held = np.array([fit(np.delete(items, k), np.delete(y, k))(X[items[k]]) for k in range(len(items))])
            error = np.mean((y - held) ** 2)
            if error < best[0]:
                best = error, fit(items, y)(X), held
        expected = by_the_formula(y, best[1], best[2], items, np.ones(24) if w is None else w[items])
        assert found.mean[row] == pytest.approx(expected, abs=1e-9)


def test_the_posterior_forgets_each_answer(better: tuple) -> None:
    known, Y = better
    items = np.sort(ASKED)
    seen = np.full((2, 120), np.nan)
    seen[:, items] = Y[:2, items]
    estimator = make_estimator("aipw")
    estimator.fit(known)
    found = estimator.estimate(seen)
    mixture = Mixture(calibrate=False)
    mixture.fit(known)

    def predicted(answers: np.ndarray) -> np.ndarray:
        (_, posterior), *_ = mixture.posteriors(np.ones((1, 120), dtype=bool))
        posterior.tell(answers[None])
        return (posterior.weights() @ posterior.atoms.P)[0].astype(float)

    for row in range(2):
        held = []
        for item in items:
            without = seen[row].copy()
            without[item] = np.nan
            held.append(predicted(without)[item])
        expected = by_the_formula(seen[row, items], predicted(seen[row]), np.array(held), items, np.ones(24))
        assert found.mean[row] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["aipw", "aipw-ridge"])
def test_it_is_right_on_average_for_models_better_than_all_known_ones_and_errs_less_than_the_mean(
    name: str, better: tuple
) -> None:
    known, Y = better
    corrected, plain = make_estimator(name), make_estimator("mean")
    off: dict[str, list[np.ndarray]] = {"corrected": [], "plain": []}
    held = []
    corrected.fit(known)
    plain.fit(known)
    rng = np.random.default_rng(1)
    truth = Y.mean(1)
    for _ in range(25):
        seen = np.full(Y.shape, np.nan)
        items = rng.choice(120, 24, replace=False)
        seen[:, items] = Y[:, items]
        found = corrected.estimate(seen)
        off["corrected"].append(found.mean - truth)
        off["plain"].append(plain.estimate(seen).mean - truth)
        low, high = found.interval(0.9)
        held.append((low <= truth) & (truth <= high))
    assert abs(np.mean(off["corrected"])) < 0.012
    assert np.abs(off["corrected"]).mean() < np.abs(off["plain"]).mean()
    assert 0.82 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("name", ["aipw", "aipw-ridge"])
def test_weights_are_checked_and_only_their_ratios_count(name: str, better: tuple) -> None:
    known, Y = better
    estimator = make_estimator(name)
    estimator.fit(known)
    seen = np.where(np.isin(np.arange(120), ASKED), Y[:4], np.nan)
    plain = estimator.estimate(seen)
    alike = estimator.estimate(seen, weights=np.full(120, 7.0))
    assert alike.mean == pytest.approx(plain.mean)
    assert alike.se == pytest.approx(plain.se)
    uneven = estimator.estimate(seen, weights=np.where(np.arange(120) < 60, 1.0, 9.0))
    assert (uneven.se > plain.se).mean() > 0.5, "as many unequal weights tell less"
    with pytest.raises(EstimationError, match="none negative"):
        estimator.estimate(seen, weights=np.full(120, -1.0))


def test_a_predictor_that_says_nothing_leaves_the_mean() -> None:
    rng = np.random.default_rng(0)
    known = Responses(tuple("abcdef"), tuple(f"i{k}" for k in range(50)), np.ones((6, 50)))
    estimator = make_estimator("aipw-ridge")
    estimator.fit(known)
    seen = np.full((3, 50), np.nan)
    seen[:, :20] = rng.random((3, 20)) < 0.6
    assert estimator.estimate(seen).mean == pytest.approx(np.nanmean(seen, 1))
