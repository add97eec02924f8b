import numpy as np
import pytest

from evomerge.estimation.run_estimators import MeanEstimator, ModelEstimator
from evomerge.estimation.run_model import RunModel


def world(seed: int, n_items: int = 200, genes: int = 4):
    """References, and a function from a point to a candidate's answers."""
    rng = np.random.default_rng(seed)
    references = (rng.random((3, n_items)) < 0.5).astype(float)
    easiness = -1.5 + 3.0 * references.mean(axis=0) + rng.normal(0.0, 1.0, n_items)

    def answers(x):
        ability = 1.5 - 6.0 * float(((x - 0.6) ** 2).mean())
        return (rng.random(n_items) < 1.0 / (1.0 + np.exp(-ability - easiness))).astype(float)

    return references, easiness, answers, rng


def run(seed: int, n: int, candidates: int = 60):
    """A run of candidates with n answers each: the fitted model, and error and standard error of each candidate."""
    references, easiness, answers, rng = world(seed)
    n_items, points, rows, found = references.shape[1], [], [], []
    model = RunModel(references)
    for number in range(candidates):
        if number % 10 == 0 and number:
            model.fit(np.array(rows), points)
        x = rng.random(4)
        full = answers(x)
        seen = np.full(n_items, np.nan)
        chosen = rng.choice(n_items, n, replace=False)
        seen[chosen] = full[chosen]
        mean, error = model.predict(x, seen).total(np.full(n_items, 1.0 / n_items))
        found.append((mean - full.mean(), error, full[chosen].mean() - full.mean()))
        points.append(x)
        rows.append(seen)
    return model, easiness, np.array(found)


@pytest.mark.parametrize("estimator", [MeanEstimator(), ModelEstimator()])
@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_all_items_answered_give_the_exact_mean_without_error(estimator, scale) -> None:
    rng = np.random.default_rng(0)
    references = scale * (rng.random((2, 37)) < 0.5)
    row = scale * (rng.random(37) < 0.7)
    estimator.fit(references, np.empty((0, 37)), [])
    guess = estimator.estimate(np.array([0.5]), row)
    assert guess.mean == pytest.approx(row.mean(), abs=1e-12)
    assert guess.error == 0.0


def test_the_ability_is_the_most_likely_one_on_a_grid() -> None:
    references, easiness, answers, rng = world(3)
    model = RunModel(references)
    model._easiness, model._item_variance = easiness, np.zeros_like(easiness)
    row = np.full(len(easiness), np.nan)
    chosen = rng.choice(len(easiness), 25, replace=False)
    row[chosen] = answers(np.full(4, 0.2))[chosen]
    mean, variance = model._prior(None)
    grid = np.linspace(-6, 6, 120_001)
    p = 1.0 / (1.0 + np.exp(-(grid[:, None] + easiness[chosen])))
    y = row[chosen]
    posterior = (y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1) - (grid - mean) ** 2 / (2 * variance)
    prediction = model.predict(None, row)
    assert prediction.ability == pytest.approx(grid[posterior.argmax()], abs=1e-3)
    curvature = (p * (1 - p)).sum(axis=1)[posterior.argmax()] + 1 / variance
    assert prediction.variance == pytest.approx(1 / curvature, rel=1e-3)


def test_items_and_the_landscape_are_learned_from_the_run() -> None:
    model, easiness, _ = run(1, n=60, candidates=120)
    assert np.corrcoef(model._easiness, easiness)[0, 1] > 0.9
    at_top = model.predict(np.full(4, 0.6), np.full(200, np.nan))
    far = model.predict(np.zeros(4), np.full(200, np.nan))
    assert at_top.ability > far.ability + 0.3


@pytest.mark.parametrize("n", [8, 25])
def test_estimates_beat_the_mean_and_their_intervals_cover(n: int) -> None:
    found = np.concatenate([run(seed, n)[2] for seed in range(6)])
    late = found[found[:, 1] > 0]
    assert np.abs(late[:, 0]).mean() < 0.7 * np.abs(late[:, 2]).mean()
    assert 0.83 <= (np.abs(late[:, 0]) < 1.645 * late[:, 1]).mean() <= 0.97


def test_items_that_everyone_or_nobody_solves_do_not_break_the_fit() -> None:
    references = np.array([[1.0] * 10 + [0.0] * 10] * 2)
    rows = np.tile(references[0], (30, 1))
    rows[:, 5:8] = np.nan
    model = RunModel(references)
    model.fit(rows, [np.array([c / 30]) for c in range(30)])
    prediction = model.predict(np.array([0.5]), np.full(20, np.nan))
    assert np.isfinite(prediction.mean).all()
    assert prediction.mean[:10].min() > 0.8 and prediction.mean[10:].max() < 0.2


def test_numbers_outside_of_zero_and_one_are_estimated_too() -> None:
    rng = np.random.default_rng(4)
    hard = rng.normal(-40.0, 5.0, 150)
    references = hard + rng.normal(0.0, 1.0, (3, 150))
    errors, means = [], []
    model, rows, points = RunModel(references), [], []
    for number in range(60):
        if number % 10 == 0 and number:
            model.fit(np.array(rows), points)
        x = rng.random(2)
        full = hard + 4.0 * x[0] + rng.normal(0.0, 1.0, 150)
        seen = np.full(150, np.nan)
        chosen = rng.choice(150, 10, replace=False)
        seen[chosen] = full[chosen]
        mean, error = model.predict(x, seen).total(np.full(150, 1 / 150))
        errors.append((mean - full.mean(), error))
        means.append(full[chosen].mean() - full.mean())
        rows.append(seen)
        points.append(x)
    found = np.array(errors)[20:]
    assert np.abs(found[:, 0]).mean() < 0.5 * np.abs(means[20:]).mean()
    assert (np.abs(found[:, 0]) < 1.645 * found[:, 1]).mean() >= 0.75


def test_a_model_without_references_is_refused() -> None:
    with pytest.raises(ValueError, match="reference"):
        RunModel(np.full((1, 5), np.nan))
    with pytest.raises(ValueError, match="reference"):
        RunModel(np.empty((0, 5)))


def test_the_same_answers_give_the_same_fit() -> None:
    one, two = run(7, 20, 40)[2], run(7, 20, 40)[2]
    assert np.array_equal(one, two)


def test_a_fit_depends_on_its_arguments_alone() -> None:
    """So a search that is continued asks the same, beyond the number of candidates to which the fit is exact, too."""
    references, _, answers, rng = world(5, n_items=60)
    points = [None if number % 50 == 7 else rng.random(4) for number in range(500)]
    rows = np.full((500, 60), np.nan)
    for row, point in zip(rows, points, strict=True):
        asked = rng.choice(60, 6, replace=False)
        row[asked] = answers(np.full(4, 0.5) if point is None else point)[asked]
    went_on, anew = RunModel(references), RunModel(references)
    for n in (3, 190, 300, 500):
        went_on.fit(rows[:n], points[:n])
    anew.fit(rows, points)
    for point in (points[0], np.full(4, 0.6), None):
        one, other = (model.predict(point, rows[0]) for model in (went_on, anew))
        assert np.array_equal(one.mean, other.mean) and one.variance == other.variance
    # Rows without an answer say nothing.
    empty = np.full((2, 60), np.nan)
    anew.fit(np.concatenate([rows[:250], empty, rows[250:]]), [*points[:250], None, points[0], *points[250:]])
    found = anew.predict(points[0], rows[0])
    assert np.array_equal(found.mean, went_on.predict(points[0], rows[0]).mean)
