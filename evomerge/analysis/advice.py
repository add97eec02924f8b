"""One sentence for a person in a hurry: whether to use what a search chose, and why not."""

from __future__ import annotations

from collections import Counter
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
    "parent_answers": "a parent's answers",
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
        scores = f" ({scores_text(perhaps[0])})" if len(perhaps) == 1 else ""
        within = " within your floor" if all(row.get("floor") for row in perhaps) else ""
        return None, f"look at {names} first, where it is behind a parent{within}{scores}; on the whole it gains {what}"
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
    """Return which merges of a front or archive keep every skill of the parents, and what speaks against the others."""
    behind = [row for row in rows if _for_certain(row["skills"])]
    strange = [row for row in rows if row not in behind and _degenerate_for_certain(row.get("degeneration") or ())]
    fine = [row for row in rows if row not in behind and row not in strange]
    perhaps = [row for row in fine if lost(row["skills"])]
    keepers = [row for row in fine if row not in perhaps]
    if not fine:
        whats = ["has lost a skill of a parent", "is worse at it"] if behind else []
        whats += ["gives degenerate answers"] if strange else []
        losses = f": {_losses(behind)}" if behind else ""
        return False, f"each of the {len(rows)} merges of the {kind} {_or(whats)}{losses}"
    choose = f"choose among the {len(rows)} merges of the {kind}"
    if len(keepers) == len(rows):
        return None, f"{choose}: none of them is seen to have lost a skill of a parent"
    parts = [_kept(keepers)] if keepers else []
    if perhaps:
        names = listed([str(row["name"]) for row in perhaps], 5)
        parts.append(f"{names} {_is(perhaps)} behind a parent at {_losses(perhaps)}, which may be chance")
    if behind:
        has = "has" if len(behind) == 1 else "have"
        parts.append(f"{len(behind)} {has} lost a skill of a parent or {_is(behind)} worse at it: {_losses(behind)}")
    if strange:
        parts.append(f"{len(strange)} {'gives' if len(strange) == 1 else 'give'} degenerate answers")
    return None, f"{choose}: {'; '.join(parts)}"


def _kept(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return "candidate 3 (better at add: 95.0 % against 50.0 % of adder) keeps every skill of the parents"."""
    names = listed([str(row["name"]) + _largest_gain(row["skills"]) for row in rows], 3)
    text = f"{names} {'keeps' if len(rows) == 1 else 'keep'} every skill of the parents"
    untold = [one for row in rows for one in row["skills"] if one["lost"] is None]  # no item is judged for both
    unsure = list(
        dict.fromkeys(str(one["task"]) for one in [*untold, *(d for r in rows for d in doubtful(r["skills"]))])
    )
    return text + (f", though the items of {listed(unsure, 5)} are too few to be sure" if unsure else "")


def _largest_gain(skills: Sequence[Skill]) -> str:
    """Return in brackets where a merge is ahead of the best parent the most, of what is beyond chance."""
    sure = [one for one in skills if one["n"] and one["low"] > 0.0 and one["p_value"] * len(skills) < SURE]
    if not sure:
        return ""
    one = max(sure, key=lambda one: (one["share"], one["difference"]))
    return f" (better at {one['task']}: {scores_text(one)})"


def _losses(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which tasks merges have lost, and how many of them each where they are several, the commonest first."""
    counts = Counter(str(one["task"]) for row in rows for one in lost(row["skills"]))
    return listed([task if len(rows) == 1 else f"{task} ({n})" for task, n in counts.most_common()], 5)


def _or(texts: Sequence[str]) -> str:
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _is(rows: Sequence[Any]) -> str:
    return "is" if len(rows) == 1 else "are"


def _for_certain(skills: Sequence[Skill], *, whole: bool | None = None) -> list[Skill]:
    """Return the skills that are lost beyond chance, also where there are many tasks.

    A skill with a floor is judged by the floor, which is a limit: less than the best parent has was allowed.

    Args:
        skills: those of a merge.
        whole: only those of which less (True) or not less (False) than half is left; None: both.
    """
    sure = [one for one in lost(skills) if one["p_value"] * len(skills) < SURE and not one.get("floor")]
    return [one for one in sure if whole is None or kept_in_part(one) is not whole]


def _degenerate_for_certain(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a merge by which answers are degenerate beyond chance, also where there are many tasks."""
    n = len(telling(rows))
    return [one for one in degenerated(rows) if one["p_value"] * n < SURE]


def _named(name: str, found: Mapping[str, Any]) -> str:
    return f"{name} (the best parent)" if name == found.get("best_parent") else name
