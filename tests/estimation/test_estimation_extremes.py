"""Answers of any size: the model of a run neither overflows nor is spoiled by one that exploded."""

import warnings

import numpy as np
import pytest

from evomerge.estimation.run_estimators import ModelEstimator


def some(n_items: int = 20, n_candidates: int = 12) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    draw = np.random.default_rng(0)
    references = draw.normal(0.5, 0.2, (3, n_items))
    answers = draw.normal(0.5, 0.2, (n_candidates, n_items))
    answers[:, draw.permutation(n_items)[: n_items // 2]] = np.nan
    return references, answers, [draw.random(2) for _ in range(n_candidates)]


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e10, 1e100, 1e149])
def test_estimates_of_numbers_of_another_size_are_those_of_scores_in_that_size(size: float) -> None:
    references, answers, points = some()
    asked = np.where(np.arange(20) < 5, 0.7, np.nan)
    plain, scaled = ModelEstimator(), ModelEstimator()
    plain.fit(references, answers, points)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled.fit(references * size, answers * size, points)
        found = scaled.estimate(points[0], asked * size)
    expected = plain.estimate(points[0], asked)
    assert found.mean == pytest.approx(expected.mean * size, rel=0.1)
    assert 0.1 < found.error / (expected.error * size) < 10.0


def test_one_answer_that_exploded_does_not_change_what_is_expected_of_others() -> None:
    references, answers, points = some()
    plain, spoiled = ModelEstimator(), ModelEstimator()
    plain.fit(references, answers, points)
    place = tuple(np.argwhere(~np.isnan(answers))[7])
    answers[place] = 1e149
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spoiled.fit(references, answers, points)
    unasked = np.full(20, np.nan)
    for point in (None, points[3]):
        assert abs(spoiled.estimate(point, unasked).mean - plain.estimate(point, unasked).mean) < 0.2
    whole = np.full(20, 1e100)
    assert spoiled.estimate(None, whole).mean == pytest.approx(1e100), "all was answered: the mean, whatever was fitted"
