"""Whether a model's answers to a few prompts are cut, empty or repeating beside its parents', by more than chance.

The measures are those that a search takes (`evomerge.evaluation.measures`). A few prompts say little about a share, so
what counts is the pairs: prompts at which the model's answer is bad and a parent's is not, and the other way round. If
model and parent were equally bad, each would be as likely (exact sign test, one-sided, as in McNemar's). The model
counts as worse in a measure only where that is improbable against EVERY parent that answers well itself: a parent half
of whose answers are bad (random weights, a base that never ends) is no measure of a merge, and without others there is
no refusal. Measures are three and looks at most two (a few prompts first, further ones only where the first look bad),
so the level of each test is 5 % divided by 6: merges that are as good as a parent are refused in at most 5 of 100
exports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.evaluation.measures.base import Answered
from evomerge.evaluation.measures.registry import find_measure
from evomerge.system.figures import percentage

MEASURES = {
    "empty_answers": "are empty",
    "repetitive_answers": "repeat themselves",
    "cut_answers": "were cut by the limit of tokens",
}
"""Measure to how answers are called."""

LOOKS = (8, 32)
"""How many prompts are asked first, and how many in all where the answers to those look worse than the parents'."""

LEVEL = 0.05 / (len(MEASURES) * len(LOOKS))
"""One-sided p-value of a pairwise test at and below which a model is worse than a parent."""

SUSPICIOUS = 2
"""By how many bad answers more than each parent's a measure looks bad, so that further prompts are asked."""

BAD_PARENT = 0.5
"""From which share of bad answers on, in any measure, a parent is left out of the comparison."""

Bad = Mapping[str, Sequence[bool]]
"""Measure to whether each answer is bad."""


@dataclass(frozen=True)
class ShortAnswer:
    """What a model answered to a prompt within a limit of tokens.

    Attributes:
        text: the answer.
        cut: whether the limit ended it.
    """

    text: str
    cut: bool


@dataclass(frozen=True)
class Worse:
    """A measure in which a model is worse than each of its parents.

    Attributes:
        measure: its name.
        share: the share of the model's answers that are bad.
        parents: name to the share of each parent's.
        n: to how many prompts.
    """

    measure: str
    share: float
    parents: Mapping[str, float]
    n: int

    @property
    def what(self) -> str:
        """What is worse, without numbers: "repeat themselves more often than the parents'"."""
        return f"{MEASURES[self.measure]} more often than its parents'"

    def __str__(self) -> str:
        """Return "100.0 % of its answers to 8 prompts are empty, 0.0 % of math's, 12.5 % of ja's"."""
        others = ", ".join(f"{percentage(share)} % of {name}'s" for name, share in self.parents.items())
        return f"{percentage(self.share)} % of its answers to {self.n} prompts {MEASURES[self.measure]}, {others}"


def bad_answers(answers: Sequence[ShortAnswer]) -> dict[str, list[bool]]:
    """Return by measure which of some answers are bad."""
    found: dict[str, list[bool]] = {name: [] for name in MEASURES}
    for one in answers:
        item = Answered(dict, [one.text], (), None, len, cut=one.cut)
        for name in MEASURES:
            measure = find_measure(name)
            assert measure is not None, "it is one of evomerge's own"
            found[name].append(measure.function(item)[name] > 0.0)
    return found


def is_bad_parent(bad: Bad) -> bool:
    """Return whether a parent's answers, with the limit of tokens that it had, are too bad to compare with."""
    return any(_share(values) >= BAD_PARENT for values in bad.values())


def is_suspicious(own: Bad, parents: Mapping[str, Bad]) -> bool:
    """Return whether a model has more bad answers than each parent, so that it is worth to ask further prompts."""
    return bool(parents) and any(
        sum(own[name]) >= SUSPICIOUS + max(sum(parent[name]) for parent in parents.values()) for name in MEASURES
    )


def worse_than_parents(own: Bad, parents: Mapping[str, Bad]) -> list[Worse]:
    """Return the measures in which a model is worse than each parent by more than chance; none without parents.

    Args:
        own: of the model; `(n_prompts,)` for each measure.
        parents: name to the same of a parent, on the same prompts.
    """
    return [
        Worse(name, _share(own[name]), {who: _share(parent[name]) for who, parent in parents.items()}, len(own[name]))
        for name in MEASURES
        if parents and all(sign_test(own[name], parent[name]) <= LEVEL for parent in parents.values())
    ]


def sign_test(own: Sequence[bool], other: Sequence[bool]) -> float:
    """Return the one-sided p-value of `own` being true more often: P(B ≥ b), B ~ Binomial(b + c, 1/2).

    Args:
        own: `(n,)`; b counts where it alone is true.
        other: `(n,)` of the same prompts; c counts where it alone is true.
    """
    b = sum(mine and not theirs for mine, theirs in zip(own, other, strict=True))
    n = b + sum(theirs and not mine for mine, theirs in zip(own, other, strict=True))
    return math.fsum(math.comb(n, k) for k in range(b, n + 1)) / 2**n


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
