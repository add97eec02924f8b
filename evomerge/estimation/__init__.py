"""Scores of models on all items from their answers to a few: response matrices, item response theory, estimators.

    responses = read_responses("R.npz")
    estimator = make_estimator("mixture")
    estimator.fit(responses.of_models(known))
    found = estimator.estimate(seen)          # seen: (n_targets, n_items), NaN where not asked
    found.mean, found.se, found.interval(0.9)

torch is not loaded before an IRT model is fitted, and an estimator's module not before the estimator is made.
"""

from evomerge.estimation.base import Estimate, Estimator
from evomerge.estimation.irt import IRT, fit_irt, map_ability
from evomerge.estimation.mixture import Mixture
from evomerge.estimation.reading import read_responses, read_samples
from evomerge.estimation.registry import ESTIMATORS, make_estimator
from evomerge.estimation.responses import Responses
from evomerge.estimation.revealed import AskPlan, estimate_from_few
from evomerge.estimation.selection import ADAPTIVE, FIXED, ItemChoice, ask_adaptively, ask_by_information, choose

__all__ = [
    "ADAPTIVE",
    "ESTIMATORS",
    "FIXED",
    "IRT",
    "AskPlan",
    "Estimate",
    "Estimator",
    "ItemChoice",
    "Mixture",
    "Responses",
    "ask_adaptively",
    "ask_by_information",
    "choose",
    "estimate_from_few",
    "fit_irt",
    "make_estimator",
    "map_ability",
    "read_responses",
    "read_samples",
]
