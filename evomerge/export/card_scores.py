"""The sections of a model card that say how good a merge is, beside its parents, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.record import Score, Split
from evomerge.system.figures import fixed, p_number
from evomerge.system.text import markdown, markdown_code

_OF_THE_SEARCH = ("order", "flattering")
"""Kinds of cautions that concern who reads the search, not who uses the model."""

_HEADINGS = {
    Split.TEST: "test (never seen before the end)",
    Split.VALIDATION: "validation (chose among the finalists)",
    Split.SEARCH: "search (optimized; expect it to flatter)",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_MEANS = ("Mean over items", "The tasks' means over items, added up by their weights,")
"""What scores are, with one task and with several."""


def _said(verdict: Mapping[str, Any]) -> str:
    """Return the verdict, in bold; "" where none is known, or the search chose several merges, of which it speaks."""
    choice = verdict.get("choice")
    if choice is None or len(choice["records"]) > 1 or "verdict" not in verdict:
        return ""
    return f"**Verdict: {markdown(verdict['verdict']['text'])}.**\n\n"


def score_table(
    scores: Mapping[str, Mapping[Split, Score]], tasks: Mapping[str, str], verdict: Mapping[str, Any]
) -> str:
    """Return the table of scores with the verdict above it; the merge is the first of `scores`."""
    splits = [split for split in _HEADINGS if any(split in row for row in scores.values())]
    rows = []
    for place, (name, row) in enumerate(scores.items()):
        shown = f"**{markdown(name)}**" if place == 0 else markdown(name)
        rows.append((shown, *(_score(row.get(split)) for split in splits)))
    measured = "; ".join(f"{markdown_code(task)} ({markdown(metric)})" for task, metric in tasks.items())
    return (
        _said(verdict)
        + (f"Objectives over {measured}. " if measured else "")
        + ("The worst task relative to its best parent (1: as good)" if _is_worst(verdict) else _MEANS[len(tasks) > 1])
        + " with its 95 % confidence interval; n is the number of items.\n\n"
        + table(("model", *(_HEADINGS[split] for split in splits)), rows)
    )


def _is_worst(verdict: Mapping[str, Any] | None) -> bool:
    """Return whether scores are those of the worst task relative to its best parent."""
    return (verdict or {}).get("objective") == "worst"


def task_table(verdict: Mapping[str, Any], title: str) -> str:
    """Return a table of the merge and the baselines task by task; "" where there is one task, or nothing to compare."""
    skills = verdict.get("skills") or ()
    if len(skills) < 2:
        return ""
    rows = []
    for one in skills:
        task, split = one["task"], one["split"]
        models = (verdict["best"], *verdict["baselines"])
        scores = [_short_score(row["tasks"][task][split]) for row in models]
        name = f"{markdown(task)}, {markdown(one['metric'])}" + (" (less is better)" * (one["direction"] == "minimize"))
        n = f"{one['n']}" if split == Split.TEST else f"{one['n']} ({split})"
        change = "–"
        if one["n"]:
            change = f"{_signed(one['difference'])} [{_signed(one['low'])}, {_signed(one['high'])}]"
            change = f"**{change}**" if one["lost"] else change
        p = "–" if one["p_value"] is None else p_number(one["p_value"])
        rows.append((name, n, *scores, markdown(one["best_parent"] or "–"), change, p))
    heads = ("task", "items", f"**{markdown(title)}**", *(markdown(row["name"]) for row in verdict["baselines"]))
    by = {one["best_parent_by"] for one in skills} - {None}
    named = f", which its {' or '.join(sorted(by))} score of the task named" if by else ""
    return (
        "## Tasks\n\nMean over the test items with its 95 % interval. Paired difference: this model minus the parent "
        f"that is best at the task{named}, on the same items; above 0 this model is better, also where less is better. "
        "Each interval and p-value stands for itself, with no correction for the number of tasks; where this model is "
        "worse by more than the interval, it is in bold.\n\n"
        + table((*heads, "best parent", "difference from it", "p"), rows)
    )


def degeneration_table(verdict: Mapping[str, Any], title: str) -> str:
    """Return a table of how answers degenerate beside the best parent's; "" where nothing does."""
    rows = []
    for one in verdict.get("degeneration") or ():
        if not one["best"] and not one["parent"]:
            continue
        change = f"{_signed(one['difference'])} [{_signed(one['low'])}, {_signed(one['high'])}]"
        change = f"**{change}**" if one["share"] and one["low"] > 0.0 else change
        means = (_number(one[key]) for key in ("best", "parent"))
        n = f"{one['n']}" if one["split"] == Split.TEST else f"{one['n']} ({one['split']})"
        what = str(one["measure"]).replace("_", " ")
        rows.append((markdown(one["task"]), what, n, *means, markdown(one["against"]), change))
    if not rows:
        return ""
    return (
        "## How answers end\n\nShares of the answers to the test items that the limit of tokens cut, that are empty, "
        "repeat themselves, or are in a script in which no parent answered; and their mean length in tokens. Paired "
        "difference: this model minus the parent that is best at the task, on the same items, with its 95 % interval; "
        "a share that is larger by more than it is in bold.\n\n"
        + table(
            ("task", "measure", "items", f"**{markdown(title)}**", "best parent's", "best parent", "difference"), rows
        )
    )


def _short_score(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "–"
    return f"{_number(score['mean'])} [{_number(score['low'])}, {_number(score['high'])}]"


def objective_table(verdict: Mapping[str, Any], title: str) -> str:
    """Return a table of the chosen merges and the baselines, objective by objective; "" if there is one objective."""
    objectives, choice = verdict.get("objectives") or (), verdict.get("choice")
    if choice is None or len(objectives) < 2:
        return ""
    own = (verdict.get("best") or {}).get("id")
    rows = [
        (
            f"**{markdown(title)}** ({markdown(row['name'])})" if row["id"] == own else markdown(row["name"]),
            row["objectives"],
        )
        for row in choice["records"]
    ]
    rows += [(markdown(row["name"]), row["objectives"]) for row in verdict["baselines"]]
    names = [one["name"] for one in objectives]
    heads = [
        markdown(one["name"]) + (" (less is better)" if one["direction"] == "minimize" else "") for one in objectives
    ]
    cells = [(who, *(_score(_read(found[name]["test"])) for name in names)) for who, found in rows]
    return "## Objectives\n\nOn the test items:\n\n" + table(("model", *heads), cells)


def _read(score: Mapping[str, Any] | None) -> Score | None:
    return None if score is None else Score(**score)


def worth_text(verdict: Mapping[str, Any]) -> str:
    """Return the paragraphs below the scores: gains on the same items, the luck of the choice, what not to report."""
    parts = []
    compared = verdict.get("comparisons") or ()
    if compared:
        rows = [
            (
                markdown(one["against"]) + (" (best parent)" if one["against"] == verdict.get("best_parent") else ""),
                f"{_signed(one['difference'])} [{_signed(one['low'])}, {_signed(one['high'])}]",
                p_number(one["p_value"]),
            )
            for one in compared
        ]
        parts.append(
            f"Paired difference on the same {compared[0]['n']} test items: this model minus the other, with its 95 % "
            "interval and the two-sided p-value of the same question (p < 0.05 where the interval leaves 0 outside). "
            f"Each comparison stands for itself{_named_by(verdict)}.\n\n" + table(("against", "difference", "p"), rows)
        )
    adjusted = (verdict.get("best") or {}).get("adjusted")
    if adjusted:
        low, high = _number(adjusted["low"]), _number(adjusted["high"])
        parts.append(
            f"As the best of {len(verdict['finalists']) + 1} finalists its validation score flatters; with the choice "
            f"repeated on resampled items it is {_number(adjusted['mean'])} [{low}, {high}]."
        )
    said = [one["text"] for one in verdict.get("warnings") or () if one["kind"] not in _OF_THE_SEARCH]
    parts += [f"Note: {markdown(text)}." for text in said]
    return "".join(f"\n\n{part}" for part in parts)


def _named_by(verdict: Mapping[str, Any]) -> str:
    split = verdict.get("best_parent_by")
    return "" if split is None else f"; the best parent was named by its {split} score, not by the test"


def _signed(value: float) -> str:
    return f"{value:+.4g}" if abs(value) >= 1000 else fixed(value, 4, signed=True)


def _score(score: Score | None) -> str:
    if score is None:
        return "–"
    return f"{_number(score.mean)} [{_number(score.low)}, {_number(score.high)}] (n = {score.n})"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1000 else fixed(value, 4, limits=(0.0, 1.0))
