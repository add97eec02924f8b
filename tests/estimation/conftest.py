"""Synthetic response matrices whose item parameters are known."""

import numpy as np
import pytest

from evomerge.estimation import Responses
from evomerge.estimation.irt import sigmoid


@pytest.fixture(scope="session")
def synthetic() -> tuple[Responses, dict[str, np.ndarray]]:
    """300 models of 60 authors on 120 items from a 2PL model, one answer in twenty missing."""
    rng = np.random.default_rng(7)
    theta, a, b = rng.normal(size=300), rng.uniform(0.6, 2.0, size=120), rng.normal(size=120)
    p = sigmoid(np.outer(theta, a) - b)
    R = (rng.random(p.shape) < p).astype(float)
    R[rng.random(p.shape) < 0.05] = np.nan
    names = tuple(f"author{row % 60}/model{row}" for row in range(300))
    return Responses(names, tuple(f"item{i}" for i in range(120)), R), {"theta": theta, "a": a, "b": b, "p": p}
