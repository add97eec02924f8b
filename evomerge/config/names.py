"""The registries whose names a configuration uses; each is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from evomerge.system.registry import Registry


def engines() -> Registry[Any]:
    """What runs the forward passes of candidates."""
    from evomerge.evaluation.engines.registry import ENGINES

    return ENGINES


def estimators() -> Registry[Any]:
    """What turns a candidate's answers to some items into an estimate of all."""
    from evomerge.estimation.run_estimators import RUN_ESTIMATORS

    return RUN_ESTIMATORS


def methods() -> Registry[Any]:
    """Merge methods."""
    from evomerge.merge.methods.registry import METHODS

    return METHODS


def optimizers() -> Registry[Any]:
    """What proposes points of the space."""
    from evomerge.optimizers.registry import OPTIMIZERS

    return OPTIMIZERS


def strategies() -> Registry[Any]:
    """What proposes recipes."""
    from evomerge.strategies.registry import STRATEGIES

    return STRATEGIES


REGISTRIES = {one.__name__: one for one in (engines, estimators, methods, optimizers, strategies)}
"""Each by the name that the JSON schema of the declaration has for it."""
