import numpy as np
import pytest

from evomerge.errors import EstimationError
from evomerge.estimation import IRT, Responses, fit_irt, map_ability
from evomerge.estimation.irt import sigmoid


def test_parameters_of_a_2pl_model_are_recovered(synthetic: tuple) -> None:
    responses, truth = synthetic
    irt = fit_irt(responses, dimension=1)
    assert np.corrcoef(irt.b, truth["b"])[0, 1] > 0.95
    assert np.corrcoef(irt.theta[:, 0], truth["theta"])[0, 1] > 0.95
    assert np.corrcoef(irt.a[:, 0], truth["a"])[0, 1] > 0.75
    assert np.abs(irt.probability(irt.theta) - truth["p"]).mean() < 0.05


def test_several_dimensions_fit_the_chances_and_subtract_the_difficulty_once() -> None:
    rng = np.random.default_rng(0)
    theta, a, b = rng.normal(size=(400, 3)), rng.normal(size=(150, 3)), rng.normal(size=150)
    p = sigmoid(theta @ a.T - b)
    R = (rng.random(p.shape) < p).astype(float)
    irt = fit_irt(Responses(tuple(map(str, range(400))), tuple(map(str, range(150))), R), dimension=3)
    assert np.abs(irt.probability(irt.theta) - p).mean() < 0.07
    # A slope of 3 here would be the trap of a difficulty that is subtracted in each dimension.
    assert 0.8 < np.polyfit(b, irt.b, 1)[0] < 1.3


def test_rasch_holds_every_discrimination_at_one(synthetic: tuple) -> None:
    irt = fit_irt(synthetic[0], rasch=True)
    assert np.array_equal(irt.a, np.ones((120, 1)))


def test_a_fit_is_the_same_for_the_same_seed(synthetic: tuple) -> None:
    one, two = (fit_irt(synthetic[0], dimension=2, steps=30, seed=3) for _ in range(2))
    assert np.array_equal(one.a, two.a)
    assert not np.array_equal(one.a, fit_irt(synthetic[0], dimension=2, steps=30, seed=4).a)


def test_items_that_all_or_none_solve_stay_finite() -> None:
    R = np.concatenate([np.ones((20, 1)), np.zeros((20, 1)), np.eye(20)[:, :3]], 1)
    irt = fit_irt(Responses(tuple(map(str, range(20))), tuple("abcde"), R))
    assert np.isfinite(irt.a).all()
    assert np.abs(irt.b).max() < 12
    assert irt.b[0] < irt.b[2] < irt.b[1]


def test_one_item_and_one_model_can_be_fitted() -> None:
    irt = fit_irt(Responses(("m",), ("i",), np.array([[1.0]])))
    assert np.isfinite(irt.probability(irt.theta)).all()


def test_fractions_count_as_parts_of_a_success() -> None:
    half = Responses(tuple(map(str, range(40))), ("i", "j"), np.full((40, 2), 0.5))
    irt = fit_irt(half)
    assert irt.probability(irt.theta) == pytest.approx(0.5, abs=0.02)


def test_map_ability_is_the_maximum_on_a_grid() -> None:
    rng = np.random.default_rng(1)
    irt = IRT(tuple(map(str, range(30))), rng.normal(1, 0.4, size=(30, 1)), rng.normal(size=30), np.zeros((2, 1)))
    Y = (rng.random((5, 30)) < 0.6).astype(float)
    Y[0, :] = 1.0
    Y[1, 4:] = np.nan
    mean, cov = np.array([0.3]), np.array([[0.7]])
    theta, spread = map_ability(irt, Y, mean, cov)
    grid = np.linspace(-6, 6, 24001)
    p = irt.probability(grid[:, None])
    for row in range(5):
        known = ~np.isnan(Y[row])
        y = Y[row, known]
        log = (y * np.log(p[:, known]) + (1 - y) * np.log1p(-p[:, known])).sum(1) - (grid - 0.3) ** 2 / (2 * 0.7)
        best = int(log.argmax())
        assert theta[row, 0] == pytest.approx(grid[best], abs=6e-4)
        step = 200
        curvature = (2 * log[best] - log[best - step] - log[best + step]) / (grid[step] - grid[0]) ** 2
        assert spread[row, 0, 0] == pytest.approx(1 / curvature, rel=0.01)


def test_map_ability_in_two_dimensions_has_no_slope_left() -> None:
    rng = np.random.default_rng(2)
    irt = IRT(tuple(map(str, range(40))), rng.normal(size=(40, 2)), rng.normal(size=40), np.zeros((2, 2)))
    Y = (rng.random((7, 40)) < 0.5).astype(float)
    cov = np.array([[1.0, 0.3], [0.3, 0.5]])
    theta, _ = map_ability(irt, Y, np.zeros(2), cov)
    slope = (Y - irt.probability(theta)) @ irt.a - theta @ np.linalg.inv(cov)
    assert np.abs(slope).max() < 1e-6


def test_without_answers_the_ability_is_the_prior() -> None:
    irt = IRT(("i",), np.ones((1, 1)), np.zeros(1), np.zeros((2, 1)))
    theta, cov = map_ability(irt, np.array([[np.nan]]), np.array([0.4]), np.array([[2.0]]))
    assert theta.item() == pytest.approx(0.4)
    assert cov.item() == pytest.approx(2.0)


def test_fewer_models_than_dimensions_are_refused() -> None:
    with pytest.raises(EstimationError, match="3 dimensions need at least as many models; got 2"):
        fit_irt(Responses(("m", "n"), ("i",), np.zeros((2, 1))), dimension=3)
    with pytest.raises(EstimationError, match="at least 1"):
        fit_irt(Responses(("m", "n"), ("i",), np.zeros((2, 1))), dimension=0)
