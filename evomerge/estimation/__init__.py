"""Scores of models on all items from their answers to a few: response matrices, item response theory, estimators.

    responses = read_responses("R.npz")
    estimator = make_estimator("mixture")
    estimator.fit(responses.of_models(known))
    found = estimator.estimate(seen)          # (T, N), NaN where not asked
    found.mean, found.se, found.interval(0.9)

torch is loaded when an IRT model is fitted, not before.
"""

from evomerge.estimation import mpirt, pirt, regression, simple  # the estimators register themselves
from evomerge.estimation.base import Estimate, Estimator, estimator_names, make_estimator, register
from evomerge.estimation.irt import IRT, choose_dimension, fit_irt, map_ability
from evomerge.estimation.mixture import Mixture
from evomerge.estimation.reading import read_responses, read_samples, write_npz
from evomerge.estimation.responses import Responses
from evomerge.estimation.revealed import Plan, estimate_from_few
from evomerge.estimation.selection import ADAPTIVE, FIXED, Choice, ask_adaptively, ask_by_information, choose

__all__ = [
    "ADAPTIVE",
    "FIXED",
    "IRT",
    "Choice",
    "Estimate",
    "Estimator",
    "Mixture",
    "Plan",
    "Responses",
    "ask_adaptively",
    "ask_by_information",
    "choose",
    "choose_dimension",
    "estimate_from_few",
    "estimator_names",
    "fit_irt",
    "make_estimator",
    "map_ability",
    "mpirt",
    "pirt",
    "read_responses",
    "read_samples",
    "register",
    "regression",
    "simple",
    "write_npz",
]
