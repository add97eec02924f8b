"""The registry of estimators; an estimator's module is imported when the estimator is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evomerge.errors import ConfigError, EstimationError
from evomerge.estimation.base import Estimator
from evomerge.system.registry import Registry

GROUP = "evomerge.estimators"
"""The entry-point group in which an installed package offers estimators."""

BUILT_IN = {
    "aipw": "evomerge.estimation.aipw:AIPW",
    "aipw-ridge": "evomerge.estimation.aipw:RidgeAIPW",
    "calibrated-mean": "evomerge.estimation.regression:CalibratedMean",
    "gmp-irt": "evomerge.estimation.mpirt:GMPIRT",
    "gp-irt": "evomerge.estimation.pirt:GPIRT",
    "mean": "evomerge.estimation.simple:Mean",
    "mixture": "evomerge.estimation.mixture:Mixture",
    "mp-irt": "evomerge.estimation.mpirt:MPIRT",
    "mp-irt-convex": "evomerge.estimation.mpirt:convex_mpirt",
    "p-irt": "evomerge.estimation.pirt:PIRT",
    "ridge": "evomerge.estimation.regression:Ridge",
    "stratified": "evomerge.estimation.simple:Stratified",
    "weighted": "evomerge.estimation.simple:Weighted",
}
"""Estimator name to its place, as "module:attribute"."""

ESTIMATORS: Registry[Callable[..., Estimator]] = Registry("estimator", BUILT_IN, group=GROUP)
"""Each is called with its options as keyword arguments and returns an estimator that is not fitted yet."""


def make_estimator(name: str, **options: Any) -> Estimator:
    """Return an estimator that is not fitted yet.

    Args:
        name: a name in `ESTIMATORS`, or "module:Class" or "path/to/file.py:Class".
        options: the estimator's own.

    Raises:
        EstimationError: if there is no estimator of that name, or it cannot be imported.
    """
    try:
        make = ESTIMATORS.find(name)
    except ConfigError as error:
        raise EstimationError(str(error)) from error
    return make(**options)
