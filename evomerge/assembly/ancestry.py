"""Whether models are of one ancestry, in words: what `evomerge.merge.kinship` measured, judged.

A merge by task vectors makes sense only between models that were trained from the same weights. Thresholds on the
median correlation ρ of weight matrices with the base's: unrelated trainings have ρ = 0, and a fine-tuned model that
moved by r = ‖τ‖/‖θ0‖ has ρ = 1/√(1 + r²). Fine-tuning moves weights by 0.01 to 0.3, so ρ > 0.95; long continued
pre-training, heavy pruning or retraining lies between. docs/ancestry.md has what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.merge.kinship import UNLIKE, Kinship, Likeness, Relation, find_kinship
from evomerge.merge.sources import Sources
from evomerge.recipe import Parent
from evomerge.record import Caution

SAME, DOUBTFUL, FOREIGN = "same", "doubtful", "foreign"
"""The verdicts on an ancestry."""

KIN = 0.9
"""The correlation with its base from which a model counts as made from it: it moved by less than half of its norm."""

MOVED = 0.75
"""‖τ‖/‖θ0‖ from which a model is doubtful whatever the correlation: one that is only scaled, say."""

SLIGHT = 1e-4
"""‖τ‖/‖θ0‖ below which a model hardly differs from its base."""

TWINS = 0.1
"""‖τ_a − τ_b‖ relative to the larger of the two, below which two models hardly differ: a cosine above 0.995."""

BASE = "base"
"""The name of the base among the models of a search."""


@dataclass(frozen=True)
class Ancestry:
    """The verdict on one model.

    Attributes:
        verdict: `SAME`, `DOUBTFUL` or `FOREIGN`.
        reason: what the numbers say, in a few words.
        likelier: the given model that fits better as its base; None: there is none.
    """

    verdict: str
    reason: str
    likelier: str | None = None


def judged(kinship: Kinship) -> dict[str, Ancestry]:
    """Return the verdict on each model but the base.

    With a base, each model is judged by it; without one, by the largest group of models that are related.
    """
    if kinship.base is not None:
        return {name: _by_base(kinship, name, kinship.base) for name in kinship.names if name != kinship.base}
    group = _largest_group(kinship)
    return {name: _by_group(kinship, name, group) for name in kinship.names}


def verdict_of(relation: Relation, *, kin: float = KIN) -> tuple[str, str]:
    """Return the verdict on two models, and why.

    Args:
        relation: what was measured.
        kin: the correlation from which they count as of one ancestry. Between two children of one base, which both
            moved, it is that of one of them squared.
    """
    found = relation.correlation
    if found is None and relation.matrices:
        return DOUBTFUL, "no weight matrix has entries that differ in both"
    if found is None and relation.not_finite:
        return DOUBTFUL, "every weight matrix of the same name and shape holds NaN or Inf"
    if found is None:
        return FOREIGN, "no weight matrix has the same name and shape"
    if relation.alike:
        return SAME, "every sampled entry is equal"
    if relation.alike_rounded:
        return SAME, "every sampled entry is equal but for rounding to 16 bits"
    said = f"correlation of weights {_two(found)}, moved by {percent(relation.distance)}"
    if found < UNLIKE:
        return FOREIGN, said
    if found < kin:
        return DOUBTFUL, f"{said}: long continued training, pruning, or another base"
    if relation.unlike > relation.matrices / 10:
        return DOUBTFUL, f"{said}: {relation.unlike} of {relation.matrices} matrices are unlike"
    if relation.distance > MOVED:
        return DOUBTFUL, f"{said}: its weights are {relation.scale:.2g} times as large"
    return SAME, said


def ancestry_cautions(kinship: Kinship) -> list[Caution]:
    """Return what the user should know about the ancestry of a search's models, the gravest first."""
    return [Caution("ancestry", text) for text in _sentences(kinship)]


def search_kinship(parents: Sequence[Parent], base: Parent | None, sources: Sources) -> Kinship | None:
    """Return how the models of a search are related; None: there is only one.

    Raises:
        CheckpointError: if a model cannot be read.
    """
    models = [(parent.name, sources.open(parent.source)) for parent in parents]
    if base is not None:
        models.append((BASE, sources.open(base.source)))
    return find_kinship(models, None if base is None else BASE) if len(models) > 1 else None


def pairs_of(kinship: Kinship) -> Iterator[dict[str, Any]]:
    """Yield what was measured of each pair of models, as JSON data with the verdict on them.

    The keys are those of `Relation` and `Likeness`, with shares in place of counts of equal tensors. `cosine`,
    `pearson`, `sign_agreement` and `delta_difference` are of task vectors: None without a base, or of a pair with it.
    """
    for (one, other), relation in kinship.relations.items():
        kin = KIN if other == kinship.base else KIN**2
        likeness = kinship.likeness.get((one, other))
        yield {
            "a": one,
            "b": other,
            "verdict": verdict_of(relation, kin=kin)[0],
            **_measured(relation),
            "cosine": None if likeness is None else likeness.cosine,
            "pearson": None if likeness is None else likeness.pearson,
            "sign_agreement": None if likeness is None else likeness.sign_agreement,
            "delta_difference": None if likeness is None else likeness.difference,
        }


def kinship_data(kinship: Kinship) -> dict[str, Any]:
    """Return how the parents of a search are related, as JSON data.

    Returns:
        `base`: the name of the base among the models, or None. `parents`: names of the others, in order. `models`: for
        each parent `name`, `verdict` ("same", "doubtful", "foreign"), `reason` in words and `likelier_base` (a name or
        None). `pairs`: what `pairs_of` yields, for each pair of parents, and of each parent with the base as `b`.
    """
    found = judged(kinship)
    return {
        "base": kinship.base,
        "parents": list(found),
        "models": [
            {"name": name, "verdict": one.verdict, "reason": one.reason, "likelier_base": one.likelier}
            for name, one in found.items()
        ],
        "pairs": list(pairs_of(kinship)),
    }


def percent(share: float) -> str:
    """Return a share with two digits that count: 12 %, 0.034 %."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _sentences(kinship: Kinship) -> Iterator[str]:
    found = judged(kinship)
    base = "this base" if kinship.base == BASE else f"{kinship.base}"
    yield from _of_verdicts(kinship, found, base)
    for name in found:
        if kinship.base is not None:
            yield from _of_base(name, kinship.relations[(name, kinship.base)], base)
    for (one, other), relation in kinship.relations.items():
        if other != kinship.base:
            # Task vectors from a foreign base are alike, since they share that base.
            foreign = FOREIGN in (found[one].verdict, found[other].verdict)
            yield from _of_pair(one, other, relation, None if foreign else kinship.likeness.get((one, other)))
    for name, tensors in kinship.not_finite.items():
        yield f"{name} holds NaN or Inf in {_few(tensors)}"
    if kinship.base is not None:
        for name, verdict in found.items():
            if verdict.verdict != FOREIGN:
                yield from _of_outliers(name, kinship.relations[(name, kinship.base)], base)


def _of_verdicts(kinship: Kinship, found: Mapping[str, Ancestry], base: str) -> Iterator[str]:
    for name, one in found.items():
        fits = f"; {one.likelier} fits better as its base" if one.likelier is not None else ""
        if one.verdict == FOREIGN and kinship.base is not None:
            yield f"{name} was not fine-tuned from {base} ({one.reason}){fits}"
        elif one.verdict == FOREIGN:
            yield f"{name} was not made from the same weights as the other parents ({one.reason})"
        elif one.verdict == DOUBTFUL and kinship.base is not None:
            yield f"it is doubtful that {name} was fine-tuned from {base} ({one.reason}){fits}"
        elif one.verdict == DOUBTFUL:
            yield f"it is doubtful that {name} was made from the same weights as the other parents ({one.reason})"


def _of_base(name: str, relation: Relation, base: str) -> Iterator[str]:
    if relation.alike:
        yield f"{name} is {base} itself, as far as was sampled: all entries of {relation.tensors} tensors are equal"
    elif relation.alike_rounded:
        yield f"{name} is {base} itself, but for rounding to 16 bits"
    elif relation.matrices and relation.distance < SLIGHT:
        yield f"{name} hardly differs from {base}: its weights moved by {percent(relation.distance)}"


def _of_outliers(name: str, relation: Relation, base: str) -> Iterator[str]:
    if relation.outliers:
        tensor, ratio = relation.outliers[0]
        more = len(relation.outliers) - 1
        rest = f", and {more} more {'is' if more == 1 else 'are'} far out" if more else ""
        yield f"{name}: {tensor} moved {ratio:.0f} times as far from {base} as the median of its matrices{rest}"


def _of_pair(one: str, other: str, relation: Relation, likeness: Likeness | None) -> Iterator[str]:
    if relation.alike:
        yield f"{one} and {other} are the same model, as far as was sampled"
    elif relation.alike_rounded:
        yield f"{one} and {other} are the same model, but for rounding to 16 bits"
    elif likeness is not None and likeness.difference is not None and likeness.difference < TWINS:
        yield f"{one} and {other} hardly differ: by {percent(likeness.difference)} of their task vectors"
    elif relation.matrices and relation.distance < SLIGHT:
        yield f"{one} and {other} hardly differ: by {percent(relation.distance)} of the weights"


def _by_base(kinship: Kinship, name: str, base: str) -> Ancestry:
    relation = kinship.relations[(name, base)]
    verdict, reason = verdict_of(relation)
    others = [other for other in kinship.names if other not in (name, base)]
    best = max(others, key=lambda other: _closeness(kinship, name, other), default=None)
    if best is None:
        return Ancestry(verdict, reason)
    mine, theirs = _closeness(kinship, name, base), _closeness(kinship, name, best)
    if verdict != SAME and theirs >= UNLIKE and theirs > mine + 0.1:
        return Ancestry(verdict, reason, best)
    return Ancestry(verdict, reason)


def _largest_group(kinship: Kinship) -> list[str]:
    """Return the largest group of related models, of equal ones that with the earliest model."""
    waiting, groups = list(kinship.names), []
    while waiting:
        group = [waiting.pop(0)]
        for name in group:
            near = [other for other in waiting if _closeness(kinship, name, other) >= UNLIKE]
            group += near
            waiting = [other for other in waiting if other not in near]
        groups.append(group)
    return max(groups, key=len)


def _by_group(kinship: Kinship, name: str, group: Sequence[str]) -> Ancestry:
    others = [other for other in kinship.names if other != name]
    if not others:
        return Ancestry(SAME, "there is no other model to compare it with")
    mine = [other for other in others if other in group] or others
    nearest = max(mine, key=lambda other: _closeness(kinship, name, other))
    verdict, reason = verdict_of(kinship.between(name, nearest), kin=KIN**2)
    # Where nobody is related to anybody, all are foreign; who is not in the group is foreign to it.
    verdict = verdict if name in group or len(group) == 1 else FOREIGN
    return Ancestry(verdict, f"to {nearest}: {reason}")


def _closeness(kinship: Kinship, one: str, other: str) -> float:
    relation = kinship.between(one, other)
    return relation.correlation if relation.correlation is not None else -1.0


def _measured(relation: Relation) -> dict[str, Any]:
    return {
        "correlation": relation.correlation,
        "distance": relation.distance if relation.matrices and math.isfinite(relation.distance) else None,
        "scale": relation.scale if relation.matrices and math.isfinite(relation.scale) else None,
        "equal_tensors": relation.equal / relation.tensors if relation.tensors else None,
        "equal_rounded": relation.rounded / relation.tensors if relation.tensors else None,
        "tensors": relation.tensors,
        "missing": relation.missing,
        "matrices": relation.matrices,
        "unlike": relation.unlike,
        "outliers": [{"tensor": name, "ratio": ratio} for name, ratio in relation.outliers],
    }


def _two(number: float) -> str:
    return f"{number:.2f}".replace("-0.00", "0.00")


def _few(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
