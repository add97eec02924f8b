"""Items that better models fail more often are found, and chance is not taken for one."""

import numpy as np
import pytest

from evomerge.estimation import Responses
from evomerge.estimation.discrimination import adjusted, discriminations
from evomerge.estimation.irt import sigmoid


def world(n_models: int = 300, n_items: int = 200, wrong: int = 8, family: int = 1, seed: int = 0) -> Responses:
    """A Rasch world in which the keys of the first items are wrong; `family` copies of each model by one author."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=n_models // family)
    R = (rng.random((len(theta), n_items)) < sigmoid(theta[:, None] - rng.normal(size=n_items))).astype(float)
    R[:, :wrong] = 1.0 - R[:, :wrong]
    R = np.repeat(R, family, axis=0)
    names = tuple(f"author{row // family}/model{row}" for row in range(len(R)))
    return Responses(names, tuple(f"t/{item}" for item in range(n_items)), R)


def test_the_correlation_is_that_of_an_item_with_the_mean_of_the_others() -> None:
    responses = world(n_models=80, n_items=30)
    R = responses.R.copy()
    R[np.random.default_rng(3).random(R.shape) < 0.1] = np.nan
    found = discriminations(Responses(responses.models, responses.items, R))
    for item in range(30):
        there = ~np.isnan(R[:, item])
        rest = np.nanmean(np.delete(R, item, axis=1), axis=1)
        assert found.r[item] == pytest.approx(np.corrcoef(R[there, item], rest[there])[0, 1])
        assert found.right[item] == pytest.approx(np.nanmean(R[:, item]))
        assert found.models[item] == there.sum()


def test_wrong_keys_are_named_the_most_negative_first_and_hardly_any_other() -> None:
    found = discriminations(world())
    named = found.negative()
    assert {one.item for one in named} >= {f"t/{item}" for item in range(8)}
    assert len(named) <= 9
    values = [one.discrimination for one in named]
    assert values == sorted(values)
    assert max(values) < 0
    assert all(one.q <= 0.05 for one in named)
    assert found.tested == 200


def test_items_without_any_discrimination_are_not_named_by_chance() -> None:
    named, below = 0, 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        responses = world(n_models=200, n_items=100, wrong=0, seed=seed)
        R = responses.R.copy()
        R[:, :50] = rng.random((200, 50)) < 0.5
        found = discriminations(Responses(responses.models, responses.items, R))
        named += len(found.negative())
        below += int((found.r < 0).sum())
    assert below > 150, "half of the items that tell nothing lie below zero"
    assert named <= 3


def test_copies_of_one_model_are_one_witness() -> None:
    alone = discriminations(world(n_models=12, n_items=60, wrong=0, family=1, seed=5))
    copied = discriminations(world(n_models=240, n_items=60, wrong=0, family=20, seed=5))
    assert copied.r == pytest.approx(alone.r, nan_ok=True)
    assert copied.p == pytest.approx(alone.p, nan_ok=True)


def test_the_p_value_is_students() -> None:
    """One product a model: the test of their sum, by hand. Quantiles of t with 11 degrees of freedom from a table."""
    from evomerge.estimation.discrimination import _lower_tail

    freedom = np.array([11.0, 11.0, 5.0, 30.0])
    assert _lower_tail(np.array([-1.796, -2.718, -2.015, 1.697]), freedom) == pytest.approx(
        [0.05, 0.01, 0.05, 0.95], abs=2e-4
    )
    responses = world(n_models=12, n_items=40, wrong=1, seed=1)
    found = discriminations(responses)
    x, rest = responses.R[:, 0], responses.R[:, 1:].mean(1)
    product = (x - x.mean()) / x.std() * (rest - rest.mean()) / rest.std()
    t = product.sum() / np.sqrt((product**2).sum())
    assert found.p[0] == pytest.approx(_lower_tail(np.array([t]), np.array([11.0]))[0])


def test_few_models_and_equal_answers_are_not_tested() -> None:
    few = discriminations(world(n_models=9))
    assert few.tested == 0
    assert few.negative() == []
    responses = world(n_models=40, n_items=20, wrong=0)
    R = responses.R.copy()
    R[:, 3] = 1.0
    R[:, 4] = np.nan
    found = discriminations(Responses(responses.models, responses.items, R))
    assert np.isnan(found.p[[3, 4]]).all()
    assert found.tested == 18


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    assert adjusted(p) == pytest.approx([0.02, np.nan, 0.04, 0.04, 0.02], nan_ok=True)
    assert adjusted(np.full(3, np.nan)) == pytest.approx(np.full(3, np.nan), nan_ok=True)
