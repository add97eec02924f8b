"""The guard of the entropy: a low entropy does not count that comes from giving one answer to everything.

A model is allowed to give its commonest answer as often as any baseline does on the same items, and a margin more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from evomerge.errors import EvaluationError
from evomerge.evaluation.task import ANSWER, COLLAPSE_MARGIN, ENTROPY, TaskSpec
from evomerge.record import ItemScore, Split

Rows = Mapping[tuple[str, int], Mapping[str, float]]
"""Task and item to the metrics of a model's answer."""


def is_guarded(spec: TaskSpec) -> bool:
    """Return whether a spec pushes the entropy down, so that collapse would pay."""
    pushes = spec.direction == "minimize" and (spec.weight > 0.0 or spec.constraint is not None)
    return spec.metric == ENTROPY and pushes and spec.collapse_margin != 1.0


def margin_of(spec: TaskSpec) -> float:
    """Return how much larger the share of the commonest answer may be than with any baseline."""
    return COLLAPSE_MARGIN if spec.collapse_margin is None else spec.collapse_margin


def collapse(
    spec: TaskSpec, scores: Sequence[ItemScore], baselines: Mapping[str, Rows], split: Split
) -> Iterator[tuple[float, str]]:
    """Yield by how much a guarded spec's commonest answer is too common, in units of the limit, and a sentence.

    Args:
        spec: the spec.
        scores: the model's item scores, of all tasks.
        baselines: name to the baseline's answers on the split.
        split: the split of the items.

    Raises:
        EvaluationError: if no baseline was scored on these items.
    """
    own = [score for score in scores if score.task == spec.name]
    answers = [[rows[spec.name, s.item] for s in own if (spec.name, s.item) in rows] for rows in baselines.values()]
    largest = max((_commonest(found) for found in answers if found), default=None)
    if largest is None:
        raise EvaluationError(
            f"task {spec.name!r}: whether {ENTROPY!r} is low by giving one answer to everything is told by the "
            f"baselines' {split} answers, but none was scored before (collapse_margin: 1 asks for no such guard)"
        )
    margin = margin_of(spec)
    limit, share = largest + margin, _commonest([score.metrics for score in own])
    if share > limit:
        text = (
            f"task {spec.name!r}: {share:.1%} of the answers are the same, but at most {limit:.1%} may be "
            f"({largest:.1%} with a baseline, and a margin of {margin:.1%}): the entropy is low by collapse"
        )
        yield share / limit - 1.0, text


def _commonest(rows: Iterable[Mapping[str, float]]) -> float:
    """Return the share of the commonest answer."""
    counts = Counter(row[ANSWER] for row in rows if ANSWER in row)
    return max(counts.values()) / counts.total() if counts else 0.0
