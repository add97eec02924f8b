"""The width of intervals: by how unlike all known models a target's answers are."""

import numpy as np
import pytest

from evomerge.estimation import Mixture, Responses, ask_adaptively
from evomerge.estimation.posterior import Posterior
from evomerge.estimation.widening import Widening, clusters_of, fit_widening, weighted_quantile

N_ITEMS = 160


def families(seed: int) -> tuple[Responses, Responses, Responses]:
    """150 models of six bases by fifty authors; further models of these bases; models of six other bases.

    Models of one base solve and fail items that their abilities do not explain.
    """
    rng = np.random.default_rng(seed)
    slope = np.abs(rng.normal(0.0, 0.6, (N_ITEMS, 3))) + 0.1
    ability, own = rng.normal(0.0, 0.9, (12, 3)), rng.normal(size=(12, N_ITEMS))

    def models(bases: np.ndarray, word: str) -> Responses:
        theta = ability[bases] + 0.3 * rng.normal(size=(len(bases), 3))
        noise = rng.normal(0.0, 0.5, (len(bases), N_ITEMS))
        R = (theta @ slope.T + own[bases] + noise > 0).astype(float)
        names = tuple(f"{word}{row // 3}/model{row}" for row in range(len(bases)))
        return Responses(names, tuple(f"t/{item}" for item in range(N_ITEMS)), R)

    return (
        models(rng.integers(6, size=150), "known"),
        models(rng.integers(6, size=60), "kin"),
        models(rng.integers(6, 12, size=60), "other"),
    )


@pytest.fixture(scope="module")
def worlds() -> list[tuple[Mixture, Responses, Responses, Responses]]:
    found = []
    for seed in range(2):
        known, kin, other = families(seed)
        mixture = Mixture(dimension=3)
        mixture.fit(known)
        found.append((mixture, known, kin, other))
    return found


def estimated(mixture: Mixture, targets: Responses, n: int = 14, parents=None):
    """Estimates, truths, and widths in units of the posterior's own deviation."""
    pool, rows = np.ones(targets.R.shape, dtype=bool), np.arange(targets.n_models)
    seen = ask_adaptively(mixture, lambda items: targets.R[rows, items], n, pool, parents)
    found = mixture.estimate(seen, parents=parents)
    plain = np.concatenate([posterior_of(part, seen[some]) for some, part in mixture.posteriors(pool, parents)])
    return found, targets.R.mean(1), found.se / plain


def posterior_of(posterior: Posterior, seen: np.ndarray) -> np.ndarray:
    posterior.tell(seen)
    return posterior.estimate().se


def test_models_without_kin_get_wider_intervals_which_hold_as_often_as_they_say(worlds) -> None:
    held: dict[str, list[float]] = {"kin": [], "other": [], "other, one factor": []}
    for mixture, _, kin, other in worlds:
        factors = {}
        for name, targets in (("kin", kin), ("other", other)):
            found, truth, factors[name] = estimated(mixture, targets)
            low, high = found.interval(0.9)
            held[name] += ((low <= truth) & (truth <= high)).tolist()
        assert np.median(factors["other"]) > np.median(factors["kin"])
        # What a factor from models without their own author alone gives, as it is for all targets.
        off = [mixture._deviations(fold, None, 14)[0] for fold in mixture._folds if fold.with_kin]
        one = np.quantile(np.concatenate(off), 0.9)
        plain = found.se / factors["other"]
        held["other, one factor"] += (np.abs(found.mean - truth) <= one * plain).tolist()
    share = {name: float(np.mean(values)) for name, values in held.items()}
    assert 0.84 <= share["kin"] <= 0.99
    assert share["other"] >= 0.8
    assert share["other"] >= share["other, one factor"] + 0.05


def test_a_merge_near_its_known_parents_gets_a_narrower_interval(worlds) -> None:
    mixture, known, _, _ = worlds[1]
    rng = np.random.default_rng(0)
    pairs = [known.of_models(known.models[2 * row : 2 * row + 2]) for row in range(60)]
    take = rng.random((60, N_ITEMS)) < 0.5
    R = np.where(take, [pair.R[0] for pair in pairs], [pair.R[1] for pair in pairs])
    merges = Responses(tuple(f"merge/{row}" for row in range(60)), known.items, R)
    told, truth, with_parents = estimated(mixture, merges, parents=pairs)
    _, _, without = estimated(mixture, merges)
    assert (with_parents <= without + 0.4).all() and np.median(with_parents) < 0.9 * np.median(without)
    low, high = told.interval(0.9)
    assert ((low <= truth) & (truth <= high)).mean() >= 0.8


def test_the_distance_is_the_bayes_factor_of_a_blend_against_a_known_model(worlds) -> None:
    mixture, known, _, other = worlds[0]
    posterior = Posterior(mixture.atoms, np.ones((2, N_ITEMS), dtype=bool))
    assert posterior.distance()[0] == pytest.approx(0.0, abs=1e-4)
    answers = np.full((2, N_ITEMS), np.nan)
    answers[:, :40] = np.stack([known.R[7], other.R[0]])[:, :40]
    posterior.tell(answers)
    distance, kin_mass = posterior.distance()
    assert distance[0] < distance[1]
    assert (kin_mass == 0.0).all()
    real = (mixture.atoms.rows[:, 0] >= 0) & (mixture.atoms.rows[:, 1] < 0)
    prior, after = np.exp(mixture.atoms.log_mass.astype(float)), posterior.weights().astype(float)
    factor = np.log(after[:, ~real].sum(1) / after[:, real].sum(1)) - np.log(prior[~real].sum() / prior[real].sum())
    assert distance[1] == pytest.approx(factor[1], rel=1e-4)


def test_the_fitted_factor_holds_near_and_far() -> None:
    rng = np.random.default_rng(0)
    distance = rng.normal(2.0, 3.0, 4000)
    off = np.abs(rng.normal(size=4000)) * np.exp(0.2 + 0.4 * (distance - 2.0) / 3.0)
    found = fit_widening(off[:2000], distance[:2000], np.ones(2000))
    assert found.power == pytest.approx(0.4, abs=0.06)
    inside = off[2000:] <= 1.645 * found.of(distance[2000:])
    far = distance[2000:] > 3.5
    assert inside[far].mean() == pytest.approx(0.9, abs=0.03)
    assert inside[~far].mean() == pytest.approx(0.9, abs=0.03)


def test_a_factor_never_falls_with_the_distance_and_ends_where_nothing_was_measured() -> None:
    rng = np.random.default_rng(1)
    distance = rng.normal(size=500)
    off = np.abs(rng.normal(size=500)) * np.exp(-0.5 * distance)
    assert fit_widening(off, distance, np.ones(500)).power == 0.0
    found = Widening(2.0, 0.3, 1.0, 2.0)
    assert found.of(np.array([1.0])) == pytest.approx(2.0)
    assert found.of(np.array([1e6])) == found.of(np.array([1.0 + 2.0 * 2.5]))


def test_few_models_are_drawn_to_the_usual_factor() -> None:
    ten = fit_widening(np.full(10, 0.1), np.arange(10.0), np.ones(10))
    many = fit_widening(np.full(1000, 0.1), np.arange(1000.0), np.ones(1000))
    assert many.factor < 0.6 < 0.9 < ten.factor < 1.6


def test_the_weighted_quantile_counts_weights() -> None:
    values, weight = np.array([3.0, 1.0, 2.0]), np.array([0.1, 0.6, 0.3])
    assert weighted_quantile(values, weight, 0.6) == 1.0
    assert weighted_quantile(values, weight, 0.61) == 2.0
    assert weighted_quantile(values, weight, 0.95) == 3.0


def test_clusters_are_models_with_the_same_mistakes() -> None:
    rng = np.random.default_rng(3)
    centre = rng.normal(size=(3, 80))
    truth = np.repeat(np.arange(3), 20)
    residual = centre[truth] + 0.7 * rng.normal(size=(60, 80))
    label = clusters_of(residual * rng.uniform(0.5, 2.0, (60, 1)), 3, rng)
    assert len({(a, b) for a, b in zip(truth.tolist(), label.tolist(), strict=True)}) == 3
    assert set(clusters_of(np.zeros((5, 4)), 3, rng).tolist()) <= {0, 1, 2}
