"""What the run's estimator makes of a model that it does not know: each baseline, left out and asked like a candidate.

Baselines answer every search item, so their full scores are known, and without a further answer one can see what the
estimator would have said of them from those few that a candidate is asked: it is fitted to everyone else, the other
baselines and all candidates. It knows no genome of a baseline, and has one reference less than in the search, so it
does rather worse than for a candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.fitness.scoring import Scoring
from evomerge.record import EarlyEstimate, ItemScore

if TYPE_CHECKING:
    from evomerge.recipe import Recipe


def left_out(
    scoring: Scoring, baseline: int, recipe: Recipe, scores: Sequence[ItemScore], number: int
) -> tuple[EarlyEstimate, ...]:
    """Return what a baseline is estimated at by all that is known but its answers, the fewest items first.

    Args:
        scoring: of the search, which stays as it is.
        baseline: its number.
        recipe: of the baseline.
        scores: its answers to all search items.
        number: of the candidate in whose place it is asked; those before are known.

    Returns:
        Empty where candidates answer every item at once.

    Raises:
        EvaluationError: if no other baseline answered every item, or its answers cannot be judged.
    """
    if not scoring.learns:
        return ()
    other = scoring.without(baseline)
    answers = {(score.task, score.item): score for score in scores}
    other.enter_alone(number, recipe, None)
    while questions := other.next_questions():
        for _, items in questions:
            asked = other.all_items if items is None else [(task, one) for task in items for one in items[task]]
            other.answer(number, [answers[key] for key in asked])
    return tuple(estimate for verdict in other.verdicts() for estimate in verdict.estimates)
