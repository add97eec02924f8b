"""Estimates of models from a few of their recorded responses: what `evomerge estimate` and the benchmarks run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.errors import EstimationError, unknown_name
from evomerge.estimation.base import Estimate, Parents
from evomerge.estimation.irt import fit_irt
from evomerge.estimation.mixture import Mixture, default_dimension
from evomerge.estimation.registry import make_estimator
from evomerge.estimation.responses import Floats, Responses
from evomerge.estimation.selection import (
    ADAPTIVE,
    FIXED,
    ItemChoice,
    Items,
    ask_adaptively,
    ask_by_information,
    check_number,
    choose,
)


@dataclass(frozen=True)
class AskPlan:
    """How to estimate: how many items are asked, which items, and which estimator is used.

    Attributes:
        items: how many answers of each target are revealed.
        select: "adaptive", "fisher" or a name in `FIXED`.
        estimator: a name in `ESTIMATORS`.
        seed: of every draw.
    """

    items: int
    select: str = "adaptive"
    estimator: str = "mixture"
    seed: int = 0


def estimate_from_few(
    calibration: Responses, targets: Responses, plan: AskPlan, parents: Mapping[str, Responses] | None = None
) -> tuple[Estimate, Floats]:
    """Fit on `calibration`, reveal `plan.items` answers of each target, and estimate its mean over its recorded items.

    Items are chosen by calibration responses and answers already revealed; nothing else of a target is used, except
    which of its items are recorded. If a target lacks items of a fixed choice, it answers fewer items.

    Args:
        calibration: models with known responses.
        targets: models to estimate, over the same items (in any order).
        plan: how to estimate.
        parents: target to the rows of its parents; the parents of targets without an entry are unknown.

    Returns:
        The estimates, and the `(n_targets, n_items)` answers that were revealed (NaN elsewhere), in the calibration's
        order of items.

    Raises:
        EstimationError: if items do not match, a target is among the calibration models, or the plan is wrong.
    """
    if set(targets.items) != set(calibration.items):
        only = sorted(set(targets.items) ^ set(calibration.items))[:3]
        raise EstimationError(f"targets and calibration models must have the same items; only one of them has {only}")
    both = sorted(set(targets.models) & set(calibration.models))
    if both:
        raise EstimationError(
            f"{len(both)} targets are calibration models too, {both[0]!r} first: an estimate would have seen the truth"
        )
    check_number(plan.items, calibration.n_items)
    truth = targets.of_items(calibration.items).scores
    pool = ~np.isnan(truth)
    for row, name in enumerate(targets.models):
        if not pool[row].any():
            raise EstimationError(f"no response of target {name!r} is recorded: there is nothing to reveal")
    known = _parents_of(targets.models, calibration.items, parents)
    estimator = make_estimator(plan.estimator)
    estimator.fit(calibration, seed=plan.seed)

    weights = None
    if plan.select in FIXED:
        choice: ItemChoice = choose(plan.select, calibration, plan.items, seed=plan.seed)
        seen = np.full(truth.shape, np.nan)
        seen[:, choice.items] = truth[:, choice.items]
        weights = choice.weights
    elif plan.select in ADAPTIVE:
        rows = np.arange(len(truth))

        def answer(items: Items) -> Floats:
            return np.where(items >= 0, truth[rows, items], np.nan)

        if plan.select == "fisher":
            irt = fit_irt(calibration, dimension=default_dimension(calibration.n_models), seed=plan.seed)
            seen = ask_by_information(irt, answer, plan.items, pool)
        else:
            guide = estimator if isinstance(estimator, Mixture) else Mixture(calibrate=False)
            if guide is not estimator:
                guide.fit(calibration, seed=plan.seed)
            seen = ask_adaptively(guide, answer, plan.items, pool, known)
    else:
        raise EstimationError(unknown_name("choice of items", plan.select, [*FIXED, *ADAPTIVE]))
    return estimator.estimate(seen, pool=pool, parents=known, weights=weights), seen


def _parents_of(
    targets: Sequence[str], items: Sequence[str], parents: Mapping[str, Responses] | None
) -> Parents | None:
    if not parents:
        return None
    unknown = sorted(set(parents) - set(targets))
    if unknown:
        raise EstimationError(f"parents are given for {unknown[0]!r}, which is not among the {len(targets)} targets")
    found = []
    for name in targets:
        rows = parents.get(name)
        if rows is not None and name in rows.models:
            raise EstimationError(f"target {name!r} is named as its own parent")
        found.append(None if rows is None else rows.of_items(items))
    return found
