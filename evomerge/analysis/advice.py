"""One sentence for a person in a hurry: whether to use what a search chose, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.analysis.degeneration import degenerated, telling, worse_text
from evomerge.analysis.lost_skills import Skill, doubtful, kept_in_part, listed, lost, scores_text
from evomerge.evaluation.task import WORST
from evomerge.record import Split
from evomerge.system.figures import gain, percentage

SURE = 0.05
"""What is worse than a parent's (a skill, or a measure of degenerate answers) counts against a merge where its p-value,
times the number of such comparisons, lies below (Bonferroni): of many some are called worse by chance."""

_DOUBTS = {
    "cut_answers": "cut answers",
    "ancestry": "the parents' ancestry",
    "public_items": "the public test set",
    "repeated_items": "repeated items",
}
"""Kinds of cautions that leave a doubt about a gain, and what they are called."""


def advice(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether to use the best merge.

    Args:
        found: as `evomerge.analysis.verdict.with_verdict` returns it, with its `warnings`.

    Returns:
        `use`: True (ahead of the best parent beyond the noise of the test items, behind no baseline, no skill lost),
        False (a skill is lost, or answers are degenerate, beyond what chance does to so many tasks; a limit is broken
        on the items that chose; or a baseline is better), or None (not known, or for the user to weigh); and `text`.
    """
    use, text = _advice(found)
    return {"use": use, "text": text}


def _advice(found: Mapping[str, Any]) -> tuple[bool | None, str]:
    choice = found.get("choice")
    if choice is None or found.get("best") is None:
        return None, "no merge is chosen yet"
    if len(choice["records"]) > 1:
        return _of_several(choice["records"], str(choice["kind"]))
    against = list(_against(found))
    if against:
        return False, f"do not use it as it is: {'; '.join(against)}"
    use, text = _gained(found)
    doubts = [_DOUBTS[kind] for kind in dict.fromkeys(one["kind"] for one in found["warnings"]) if kind in _DOUBTS]
    return use, text + (f"; but read the note on {' and '.join(doubts)}" if use and doubts else "")


def _against(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what speaks against the winner."""
    skills = found.get("skills") or ()
    for sure, verb in (
        (_for_certain(skills, whole=True), "has lost"),
        (_for_certain(skills, whole=False), "is worse at"),
    ):
        if sure:
            each = [f"{one['task']} ({scores_text(one)})" for one in sure]
            yield f"it {verb} {listed(each if len(each) <= 3 else [str(one['task']) for one in sure])}"
    worse = _degenerate_for_certain(found.get("degeneration") or ())
    if worse:
        more = f" (and {len(worse) - 1} more such note{'s' * (len(worse) > 2)})" if len(worse) > 1 else ""
        yield worse_text(worse[0], str(found.get("who") or "the best merge")) + more
    for split, texts in (found["best"].get("broken_limits") or {}).items():
        if split != Split.TEST:
            yield f"it breaks a limit on the {split} items, as every finalist does: {texts[0]}"
    named = {one["best_parent"] for one in _for_certain(skills)} if len(skills) == 1 else set()
    for one in found.get("comparisons", ()):
        if one["high"] < 0 and one["against"] not in named:
            yield f"it is worse than {_named(one['against'], found)}: {gain(one).strip()}"


def _gained(found: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Return what the gain over the best parent says, where nothing speaks against the winner for certain."""
    parent = found["best_parent"]
    if parent is None:
        return None, "no parent was scored, so there is nothing to compare it with"
    one = next((row for row in found.get("comparisons", ()) if row["against"] == parent), None)
    if one is None:
        return None, _without_test(found)
    who = _named(parent, found)
    if one["low"] <= 0.0:
        return None, f"no gain over {who} that the {one['n']} test items could show: {gain(one).strip()}"
    broken = (found["best"].get("broken_limits") or {}).get(Split.TEST)
    if broken:
        return None, f"it breaks a limit on the test items: {broken[0]}; see whether that matters to you"
    skills = found.get("skills") or ()
    perhaps = lost(skills)
    what = f"{gain(one).strip()} over {who}, on {one['n']} test items"
    if perhaps:
        names = listed([str(row["task"]) for row in perhaps])
        return None, f"look at {names} first, where it is behind a parent; on the whole it gains {what}"
    perhaps_worse = list(dict.fromkeys(str(row["task"]) for row in degenerated(found.get("degeneration") or ())))
    if perhaps_worse:
        names = listed(perhaps_worse)
        return None, f"look at its answers to {names} first, which may be degenerate; on the whole it gains {what}"
    unsure = doubtful(skills) if len(skills) > 1 else []
    if unsure:
        names = listed([str(row["task"]) for row in unsure])
        return True, f"use it: {what}; no skill is seen to be lost, but the items of {names} are too few to be sure"
    kept = ", and no skill of a parent is lost" if len(skills) > 1 else ""
    return True, f"use it: {what}{kept}"


def _without_test(found: Mapping[str, Any]) -> str:
    """Return what is known of a winner that is not compared with the best parent on test items."""
    best = found["best"]
    if best.get("test") is not None:
        return f"it is not compared with {_named(found['best_parent'], found)}, which has no test score"
    if found.get("beats_parent") is None:
        return "it has no test score, so it is not known whether it gains anything"
    parent = next(row for row in found["baselines"] if row["name"] == found["best_parent"])
    one, other = best["validation"]["mean"], parent["validation"]["mean"]
    shares = found.get("objective") != WORST and all(-1.0 <= mean <= 1.0 for mean in (one, other))
    scores = f"{percentage(one)} % against {percentage(other)} %" if shares else f"{one:.4g} against {other:.4g}"
    ahead = "ahead of" if found["beats_parent"] else "not ahead of"
    return (
        f"it is {ahead} {_named(found['best_parent'], found)} on the validation items that chose it ({scores}), and "
        "has no test score to show more"
    )


def _of_several(rows: Sequence[Mapping[str, Any]], kind: str) -> tuple[bool | None, str]:
    """Return how many merges of a front or archive lose nothing, and answer as their parents do."""
    behind = [row for row in rows if _for_certain(row["skills"])]
    strange = [row for row in rows if row not in behind and _degenerate_for_certain(row.get("degeneration") or ())]
    fine = [str(row["name"]) for row in rows if row not in behind and row not in strange]
    n, n_bad = len(rows), len(behind) + len(strange)
    has, is_ = ("has", "is") if n_bad == 1 or not fine else ("have", "are")
    whats = [f"{has} lost a skill of a parent", f"{is_} worse at it"] if behind else []
    whats += [f"{'gives' if has == 'has' else 'give'} degenerate answers"] if strange else []
    what = " or ".join([", ".join(whats[:-1]), whats[-1]] if len(whats) > 1 else whats)
    if not fine:
        return False, f"each of the {n} merges of the {kind} {what}"
    if n_bad:
        return None, (
            f"choose among the {n} merges of the {kind}: {n_bad} of them {what}; {listed(fine, 5)} "
            + _not(len(fine), does=bool(strange))
        )
    return None, f"choose among the {n} merges of the {kind}: none of them is seen to have lost a skill of a parent"


def _not(n: int, *, does: bool) -> str:
    return ("does not" if n == 1 else "do not") if does else ("has not" if n == 1 else "have not")


def _for_certain(skills: Sequence[Skill], *, whole: bool | None = None) -> list[Skill]:
    """Return the skills that are lost beyond chance, also where there are many tasks.

    Args:
        skills: those of a merge.
        whole: only those of which less (True) or not less (False) than half is left; None: both.
    """
    sure = [one for one in lost(skills) if one["p_value"] * len(skills) < SURE]
    return [one for one in sure if whole is None or kept_in_part(one) is not whole]


def _degenerate_for_certain(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a merge by which answers are degenerate beyond chance, also where there are many tasks."""
    n = len(telling(rows))
    return [one for one in degenerated(rows) if one["p_value"] * n < SURE]


def _named(name: str, found: Mapping[str, Any]) -> str:
    return f"{name} (the best parent)" if name == found.get("best_parent") else name
