"""What to bear in mind when reading a result: one sentence each, the gravest kind first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.analysis.degeneration import degenerate
from evomerge.analysis.limits import limit_cautions
from evomerge.analysis.lost_skills import doubtful_skills, lost_skills, said_already
from evomerge.analysis.parent_answers import parent_answer_cautions
from evomerge.analysis.repeats import repeats_warnings
from evomerge.evaluation import unsafe_code
from evomerge.evaluation.task import WORST
from evomerge.record import Caution, Split
from evomerge.system.figures import gain, percentage
from evomerge.system.text import cut

SAID = "cautions"
"""The key in the database of what was said before the first candidate: `Caution.to_data` of each."""

ROUNDING = 1e-12
"""What sums in another order may add to a score."""


def cautions(found: Mapping[str, Any]) -> list[Caution]:
    """Return what a status calls for, the gravest kind first (see `Caution`).

    Args:
        found: as `evomerge.analysis.verdict.with_verdict` returns it; `said` is what was said before the search, `who`
            what the merge is called (None: "the best merge").
    """
    said = [Caution(**one) for one in found.get("said", ())]
    if found.get("degeneration"):  # all answers are known, and say more than a few did
        said = [one for one in said if one.kind != "parent_answers"]
    # What is known of the result replaces what was said of the same before the search.
    every = dict.fromkeys([*_of_result(found), *said])
    return sorted(every, key=lambda one: one.rank)


def _of_result(found: Mapping[str, Any]) -> Iterator[Caution]:
    who = str(found.get("who") or "the best merge")
    yield from lost_skills(found)
    yield from degenerate(found)
    yield from parent_answer_cautions(found.get("parent_answers") or ())
    if found.get("code_tasks") is not None:
        yield Caution("unsafe_code", code_warning(found["code_tasks"]))
    for task in found.get("public_tasks", ()):
        yield Caution("public_items", public_warning(task))
    yield from limit_cautions(found)
    yield from _unscored(found)
    best = found.get("best")
    if best is not None and found.get("beats_parent") is False:
        parent = next(row for row in found["baselines"] if row["name"] == found["best_parent"])
        one, other = best["validation"]["mean"], parent["validation"]["mean"]
        yield Caution(
            "behind",
            f"{who} is not ahead of {parent['name']}, the best parent, on the validation items: "
            f"{_short(one, found)} against {_short(other, found)}",
        )
    yield from doubtful_skills(found)
    if best is None or best.get("test") is None:
        return
    yield from (Caution("repeated_items", text) for text in repeats_warnings(found.get("repeated_items", {})))
    test = best["test"]
    compared = found.get("comparisons", ())
    lost = {one["best_parent"] for one in found.get("skills", ()) if one["lost"] and said_already(one, found)}
    for one in compared:
        if one["against"] in lost:
            continue  # the objective is a single skill
        if one["high"] < 0:
            text = f"{who} is worse than {one['against']}: {gain(one).strip()} on the test items"
            yield Caution("behind", text)
        elif abs(one["difference"]) <= ROUNDING:
            text = f"no difference from {one['against']} on the {one['n']} test items (paired): {gain(one).strip()}"
            yield Caution("noise", text)
        elif one["difference"] < 0:
            yield Caution(
                "noise",
                f"{who} is behind {one['against']}: {gain(one).strip()} on the {one['n']} test items "
                "(paired), which may be noise",
            )
        elif one["low"] <= 0:
            yield Caution(
                "noise",
                f"the gain over {one['against']} is within the noise: {gain(one).strip()} on the {one['n']} test items "
                "(paired); more test items would tell",
            )
    overlapping = [b["name"] for b in found["baselines"] if b.get("test") and test["low"] <= b["test"]["high"]]
    if overlapping and not compared:
        yield Caution(
            "noise",
            f"the test interval of {who} overlaps that of {', '.join(overlapping)}: the gain may be noise; "
            "more test items would tell",
        )
    others = found.get("finalists", ())
    if len(others) > 1 and all(one["low"] <= 0 for one in others):
        yield Caution(
            "order",
            f"the order of the {len(others) + 1} finalists is noise: on the {others[0]['n']} validation items the "
            "winner cannot be told from any other (paired 95 % intervals); more validation items would choose better",
        )
    if best.get("search") and best["search"]["mean"] > test["high"]:
        text = "the search score lies above the test interval: it is the best of many noisy scores, so trust the test"
        yield Caution("flattering", text)


def _short(mean: float, found: Mapping[str, Any]) -> str:
    if found.get("objective") == WORST:
        return f"{mean:.3f} of its best parent in its worst task"
    return f"{percentage(mean)} %" if -1.0 <= mean <= 1.0 else f"{mean:.4g}"


def _unscored(found: Mapping[str, Any]) -> Iterator[Caution]:
    """Yield one for each model of the result that could not be scored on a split, and what follows from that."""
    rows = found.get("unscored", ())
    baselines = {row["name"] for row in found["baselines"]}
    best = found.get("best")
    for split in map(str, Split):
        here = [row for row in rows if row["split"] == split and row["name"] in baselines]
        if here:
            names = ", ".join(row["name"] for row in here)
            yield Caution(
                "unscored",
                f"{names} could not be scored on the {split} items, so nothing is compared with "
                f"{'it' if len(here) == 1 else 'them'} there: {_why(here[0])}",
            )
    if best is None:
        return
    for row in rows:
        if row["id"] == best["id"] and row["split"] == str(Split.TEST):
            who = found.get("who") or "the best merge"
            text = f"{who} could not be scored on the test items, so its test score is not known: {_why(row)}"
            yield Caution("unscored", text)
    out = [row for row in rows if row["split"] == str(Split.VALIDATION) and row["name"] not in baselines]
    if not out:
        return
    if best.get("validation") is None:
        yield Caution(
            "unscored",
            "no finalist could be scored on the validation items, so the best on the search items was chosen, whose "
            f"score flatters: {_why(out[0])}",
        )
    else:
        named = out[0]["name"] if len(out) == 1 else f"{len(out)} finalists"
        text = f"{named} could not be scored on the validation items and could not be chosen: {_why(out[0])}"
        yield Caution("unscored", text)


def _why(row: Mapping[str, Any]) -> str:
    return cut(str(row["error"]), 300)


def public_warning(task: str) -> str:
    """Return the sentence for a search on a public benchmark's own evaluation items."""
    return (
        f"search items come from the public test set of {task}: do not report its benchmark score for the merge; use "
        "`validation:`/`test:` tasks, or a task with its own train split"
    )


def code_warning(tasks: Sequence[str]) -> str:
    """Return the sentence for a search in which tasks may run code that the models write."""
    return unsafe_code.warning(tasks)
