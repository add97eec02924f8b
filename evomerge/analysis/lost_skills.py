"""In words: which skills of a parent a merge has lost, and of which the items are too few to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.record import Caution
from evomerge.system.figures import gain, mean_text

MOST = 5
"""So many lost skills have a sentence of their own; the others are named together."""

MANY = 10
"""From so many tasks on it is said that some are called worse by chance."""

BY_CHANCE = 0.025
"""How often a 95 % interval lies below 0 although nothing is lost."""

DOUBTFUL = 0.10
"""A loss of so many points (of a share) is one that a user wants to have excluded."""

_NAMED, _EXPLAINED = 8, 3  # how many names, or merges with their scores, stand in a sentence

Skill = Mapping[str, Any]
"""As `evomerge.analysis.skills.skill` returns it."""


def lost(skills: Sequence[Skill]) -> list[Skill]:
    """Return the skills that are lost, the largest loss first, shares before metrics with units of their own."""
    return sorted((one for one in skills if one["lost"]), key=lambda one: (not one["share"], one["difference"]))


def kept_in_part(one: Skill) -> bool:
    """Return whether at least half of the parent's score is left of a lost skill, or it is no score of that kind."""
    return one["kept"] is None or one["kept"] >= 0.5


def said_already(one: Skill, found: Mapping[str, Any]) -> bool:
    """Return whether a skill is the whole objective, so that a comparison of the status says the same."""
    return len(found.get("skills") or ()) == 1 and any(
        (row["against"], row["n"]) == (one["best_parent"], one["n"])
        and abs(row["difference"] - (one["difference"] or 0.0)) < 1e-9
        for row in found.get("comparisons", ())
    )


def scores_text(one: Skill) -> str:
    """Return "0.0 % against 97.5 % of words"."""
    mean, other = (mean_text(one[key], one["share"]) for key in ("mean", "parent_mean"))
    return f"{mean} against {other} of {one['best_parent']}"


def difference_text(one: Skill) -> str:
    """Return "-97.5 points [-99.1, -91.3] on 40 test items"."""
    less = ", less is better," if one["direction"] == "minimize" else ""
    return f"{gain(one).strip()}{less} on {one['n']} {one['split']} items"


def loss_text(one: Skill, who: str) -> str:
    """Return "WHO has lost reverse: 0.0 % against 97.5 % of words (-97.5 points [-99.1, -91.3] on 40 test items)"."""
    verb = "is worse at" if kept_in_part(one) else "has lost"
    return f"{who} {verb} {one['task']}: {scores_text(one)} ({difference_text(one)})"


def lost_skills(found: Mapping[str, Any]) -> Iterator[Caution]:
    """Yield one for each lost skill of the winner, or of the merges of a front, at most `MOST` and one for the rest.

    Args:
        found: a status with `skills`; `choice`, where several merges were chosen, of which each is looked at unless
            `who` says that the status is about one merge.
    """
    rows = () if found.get("who") else (found.get("choice") or {}).get("records", ())
    skills = found.get("skills") or ()
    if len(rows) > 1:
        texts = _of_several(rows, str(found["choice"]["kind"]))
    else:
        who = str(found.get("who") or "the best merge")
        texts = [(str(one["task"]), loss_text(one, who)) for one in lost(skills)]
    for _, text in texts[:MOST]:
        yield Caution("lost_skill", text)
    chance = ""
    if texts and len(skills) >= MANY:
        several = f" in {len(rows)} merges" if len(rows) > 1 else ""
        chance = (
            f"of {len(skills)} tasks{several}, {BY_CHANCE * len(skills) * max(1, len(rows)):.1f} are called worse by "
            "chance, on average, where a merge is as good as its parents"
        )
    if len(texts) > MOST:
        rest = [task for task, _ in texts[MOST:]]
        yield Caution("lost_skill", f"and {len(rest)} more: {listed(rest)}" + (f"; {chance}" if chance else ""))
    elif chance:
        yield Caution("lost_skill", chance)


def doubtful_skills(found: Mapping[str, Any]) -> Iterator[Caution]:
    """Yield one that names the skills of which a loss of `DOUBTFUL` cannot be excluded, if there are any."""
    rows = [one for one in doubtful(found.get("skills") or ()) if not said_already(one, found)]
    if not rows:
        return
    each = [f"{one['task']} ({gain(one).strip()} against {one['best_parent']}, on {one['n']})" for one in rows]
    few = each if len(each) <= _EXPLAINED else [str(one["task"]) for one in rows]
    yield Caution(
        "noise",
        f"too few {rows[0]['split']} items to exclude that {round(100 * DOUBTFUL)} points of a skill are lost: "
        f"{listed(few)}",
    )


def doubtful(skills: Sequence[Skill]) -> list[Skill]:
    """Return the skills that are not lost for certain, while a loss of `DOUBTFUL` is within the interval."""
    return [one for one in skills if one["lost"] is False and one["share"] and one["low"] < -DOUBTFUL]


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """Return names with commas, the last ones as a number where there are many."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def _of_several(rows: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[str, str]]:
    """Return for each task that merges of a front or archive have lost its name and a sentence, the commonest first."""
    by_task: dict[str, list[tuple[str, Skill]]] = {}
    for row in rows:
        for one in lost(row["skills"]):
            by_task.setdefault(str(one["task"]), []).append((str(row["name"]), one))
    found = []
    for task, losers in sorted(by_task.items(), key=lambda pair: -len(pair[1])):
        every = [f"{name} ({scores_text(one)})" for name, one in losers]
        several = len(losers) > 1
        verb = "are" if several else "is"
        what = (
            f"{verb} worse at"
            if all(kept_in_part(one) for _, one in losers)
            else "have lost"
            if several
            else "has lost"
        )
        found.append(
            (task, f"{len(losers)} of the {len(rows)} merges of the {kind} {what} {task}: {listed(every, _EXPLAINED)}")
        )
    return found
