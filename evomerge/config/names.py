"""The registries whose names a configuration uses; each is imported when its function is called."""

from __future__ import annotations

from typing import Any

from evomerge.system.registry import Registry


def engines() -> Registry[Any]:
    """Return the registry of engines, which run the forward passes of candidates."""
    from evomerge.evaluation.engines.registry import ENGINES

    return ENGINES


def estimators() -> Registry[Any]:
    """Return the registry of estimators, which predict the score on all items from answers to some."""
    from evomerge.estimation.run_estimators import RUN_ESTIMATORS

    return RUN_ESTIMATORS


def methods() -> Registry[Any]:
    """Return the registry of merge methods."""
    from evomerge.merge.methods.registry import METHODS

    return METHODS


def optimizers() -> Registry[Any]:
    """Return the registry of optimizers, which propose points of the space."""
    from evomerge.optimizers.registry import OPTIMIZERS

    return OPTIMIZERS


def strategies() -> Registry[Any]:
    """Return the registry of strategies, which propose recipes."""
    from evomerge.strategies.registry import STRATEGIES

    return STRATEGIES


REGISTRIES = {one.__name__: one for one in (engines, estimators, methods, optimizers, strategies)}
"""Registry functions by the name that the declaration's JSON schema has for them."""
