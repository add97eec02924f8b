"""The process over genomes, against a dense Gaussian process written out here."""

import tracemalloc

import numpy as np
import pytest

from evomerge.estimation.landscape import INDUCING, Landscape, spread_out
from evomerge.estimation.run_model import RunModel

LEVEL = 3.0


def observed(n: int, genes: int, seed: int = 0):
    """Points that gather around a place, as in a search, and noisy abilities on a hill."""
    rng = np.random.default_rng(seed)
    width = np.linspace(0.35, 0.05, n)[:, None]
    points = np.clip(0.6 + width * rng.standard_normal((n, genes)), 0.0, 1.0)
    ability = 1.5 - 6.0 * ((points - 0.7) ** 2).mean(axis=1)
    noise = rng.uniform(0.2, 1.5, n)
    return points, ability + np.sqrt(noise) * rng.standard_normal(n), noise, ability


def dense(landscape: Landscape, points, z, noise, asked):
    """Posterior means at the points, and prior mean and variance at further ones, by n equations for n candidates."""
    kernel = landscape._kernel

    def covariance(x, y):
        squared = ((x[:, None] - y[None]) ** 2).mean(axis=2)
        return kernel.spread**2 * np.exp(-squared / (2.0 * kernel.length**2)) + LEVEL**2

    prior = covariance(points, points) + kernel.nugget**2 * np.eye(len(points))
    total = prior + np.diag(noise)
    cross = covariance(asked, points)
    own = kernel.spread**2 + LEVEL**2 + kernel.nugget**2
    variance = own - np.einsum("an,na->a", cross, np.linalg.solve(total, cross.T))
    return prior @ np.linalg.solve(total, z), cross @ np.linalg.solve(total, z), variance, total


def fitted(n: int, genes: int):
    points, z, noise, ability = observed(n, genes)
    landscape = Landscape(points, LEVEL, 1.0)
    landscape.choose(z, noise)
    landscape.learn(z, noise)
    return landscape, points, z, noise, ability


@pytest.mark.parametrize(("n", "genes"), [(INDUCING, 3), (41, 7), (5, 1)])
def test_as_long_as_candidates_are_few_the_process_is_the_exact_one(n, genes) -> None:
    landscape, points, z, noise, _ = fitted(n, genes)
    asked = np.random.default_rng(1).random((6, genes))
    theta, mean, variance, _ = dense(landscape, points, z, noise, asked)
    assert landscape.smooth(z, noise) == pytest.approx(theta, abs=1e-5)
    found = np.array([landscape.prior(x) for x in asked])
    assert found == pytest.approx(np.column_stack([mean, variance]), abs=1e-5)


def test_the_likelihood_is_that_of_a_normal_distribution() -> None:
    landscape, points, z, noise, _ = fitted(30, 2)
    found, expected = [], []
    for length in (0.1, 0.4):
        for spread in (0.5, 2.0):
            kernel = type(landscape._kernel)(length, spread, 0.2)
            landscape._kernel = kernel
            total = dense(landscape, points, z, noise, points[:1])[3]
            expected.append(-0.5 * z @ np.linalg.solve(total, z) - 0.5 * np.linalg.slogdet(total)[1])
            found.append(landscape._log_likelihood(kernel, landscape._basis(length, points), z, noise))
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("genes", [2, 8])
def test_many_candidates_are_smoothed_nearly_as_by_the_exact_process(genes) -> None:
    landscape, points, z, noise, ability = fitted(4 * INDUCING, genes)
    asked = points[-40:] + 0.02
    theta, mean, variance, _ = dense(landscape, points, z, noise, asked)
    smooth = landscape.smooth(z, noise)
    spread = ability.std()
    assert np.abs(smooth - theta).mean() < 0.1 * spread
    found = np.array([landscape.prior(x) for x in asked])
    assert np.abs(found[:, 0] - mean).mean() < 0.1 * spread
    assert found[:, 1] == pytest.approx(variance, rel=0.2)
    # It is no worse against the truth either.
    assert np.abs(smooth - ability).mean() < 1.03 * np.abs(theta - ability).mean()


def test_candidates_with_one_genome_are_no_trouble() -> None:
    points = np.repeat(np.random.default_rng(0).random((3, 4)), 100, axis=0)
    landscape = Landscape(points, LEVEL, 1.0)
    z = np.repeat([0.0, 1.0, 2.0], 100)
    landscape.choose(z, np.full(300, 0.5))
    landscape.learn(z, np.full(300, 0.5))
    assert landscape.prior(points[0])[0] < 0.3 < 1.7 < landscape.prior(points[-1])[0]


@pytest.mark.parametrize(("n", "most"), [(0, 4), (4, 4), (5, 4), (1000, 7), (10_001, 192)])
def test_a_spread_out_choice_holds_the_latest_and_reaches_back_to_the_first(n, most) -> None:
    chosen = spread_out(n, most)
    assert len(chosen) == min(n, most)
    assert (np.diff(chosen) > 0).all()
    if n > most:
        assert chosen[0] == 0
        assert chosen[-(most - most // 2) :].tolist() == list(range(n - (most - most // 2), n))


def test_a_fit_of_three_thousand_candidates_holds_nothing_of_their_square() -> None:
    rng = np.random.default_rng(0)
    n, n_items = 3000, 60
    references = (rng.random((3, n_items)) < 0.5).astype(float)
    points = rng.random((n, 6))
    answers = np.full((n, n_items), np.nan)
    for row, point in zip(answers, points, strict=True):
        asked = rng.choice(n_items, 4, replace=False)
        row[asked] = rng.random(4) < 0.2 + 0.6 * point[0]
    model = RunModel(references)
    tracemalloc.start()
    try:
        model.fit(answers, list(points))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n * n / 2
    good, bad = (model.predict(np.r_[x, np.full(5, 0.5)], np.full(n_items, np.nan)) for x in (0.9, 0.1))
    assert good.mean.mean() > bad.mean.mean() + 0.25
