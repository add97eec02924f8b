"""What the best merge and its parents answered, item by item: what was gained and lost, and in which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from evomerge.analysis.answers import KINDS, AnsweredItem, best_parents
from evomerge.analysis.side_by_side import name_of, side_by_side
from evomerge.record import Record, Split
from evomerge.report.answer_rows import answer_rows, as_many_as_fit, kind_beside
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.style import BEST
from evomerge.system.text import command, json_text, visible

MERGES, BASELINES = 6, 9
"""So many merges of a front, and so many parents with their average, can be chosen from."""

NAME = 80
"""At most so many characters of a name."""

FIRST = 4
"""So many items are shown before more are asked for, with and without scripts."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Lay out the answers of one run."""
    if len(runs) != 1:
        return None
    run = runs[0]
    merges = list(run.chosen)[:MERGES] or [one for one in (run.best,) if one is not None]
    baselines = list(run.baselines)[:BASELINES]
    items = side_by_side(run.run, merges, baselines)
    answered = {name for item in items for name in item.answers}
    shown = [record for record in (*merges, *baselines) if name_of(record) in answered]
    if not items:
        return None
    first = name_of(shown[0])
    beside = {} if shown[0].is_baseline else best_parents(run.run)
    tasks = [task for task in run.entries if any(item.task == task for item in items)]
    tasks += sorted({item.task for item in items} - set(tasks))
    splits = [str(split) for split in reversed(Split) if any(item.split == split for item in items)]
    kinds = [kind_beside(item, first, beside.get(item.task)) for item in items]
    order = sorted(
        range(len(items)),
        key=lambda at: (
            splits.index(items[at].split),
            KINDS.index(kinds[at]),
            tasks.index(items[at].task),
            items[at].item,
        ),
    )
    items, kinds = [items[at] for at in order], [kinds[at] for at in order]
    places = {name_of(record): place for place, record in enumerate(shown)}
    rows, beginnings = answer_rows(items, places, tasks, splits)
    kept = as_many_as_fit(rows, [_rank(item, kind, splits) for item, kind in zip(items, kinds, strict=True)])
    best = {tasks.index(task): places[name] for task, name in beside.items() if name in places and task in tasks}
    data = {
        "models": [{"name": _label(record, merges), "merge": not record.is_baseline} for record in shown],
        "tasks": [
            {"name": visible(task), "less": _direction(items, task) == "minimize", "best": best.get(place)}
            for place, task in enumerate(tasks)
        ],
        "splits": splits,
        "left": [sum(items[at].split == split for at in set(range(len(items))) - set(kept)) for split in splits],
        "beginnings": beginnings,
        "rows": [rows[at] for at in kept],
    }
    left = len(rows) - len(kept)
    return Figure(
        "answers",
        "Answers side by side",
        _lead(items, kinds, shown[0], bool(best)),
        template="answers.html",
        data={
            **data,
            "first": [_readable(rows[at], kinds[at], data) for at in kept[:FIRST]],
            "json": Markup(json_text(data).replace("<", r"\u003c")),
        },
        note=_note(run, left, len(rows), any("p" in one for row in rows for one in row["a"].values())),
    )


def _label(record: Record, merges: Sequence[Record]) -> str:
    name = visible(record.name, most=NAME)
    if record.is_baseline or record != merges[0]:
        return name
    return f"{BEST} ({name})" if len(merges) > 1 else BEST


def _rank(item: AnsweredItem, kind: str, splits: Sequence[str]) -> int:
    """Return how early an item is kept: what was gained or lost on the split that is shown first, then elsewhere."""
    return (0 if item.split == splits[0] else 1) if kind in ("lost", "gained") else 2


def _direction(items: Sequence[AnsweredItem], task: str) -> str:
    return next(item.direction for item in items if item.task == task)


def _lead(items: Sequence[AnsweredItem], kinds: Sequence[str], model: Record, compared: bool) -> str:
    split = items[0].split
    own = [kind for item, kind in zip(items, kinds, strict=True) if item.split == split]
    counts = Counter(own)
    who = model.name if model.is_baseline else f"the {BEST}"
    if not compared:
        judged = f"{counts['right']} of them right" if counts["right"] or counts["wrong"] else "which are not judged"
        return f"{who[0].upper()}{who[1:]} answered {len(own):,} {split} items, {judged}."
    gained, lost = counts["gained"], counts["lost"]
    each = "the best parent of each task" if len({item.task for item in items}) > 1 else "the best parent"
    return (
        f"Of {len(own):,} {split} items the {BEST} gained {gained:,} that {each} has wrong, and lost {lost:,} that "
        f"it has right; both have {counts['wrong']:,} wrong and {counts['right']:,} right."
    )


def _note(run: RunData, left: int, total: int, options: bool) -> str:
    shown = command("answers", run.path, "--full")
    note = f"Long texts are cut in their middle: `{shown}` shows them in full."
    if left:
        note = (
            f"{left:,} of {total:,} items are left out so that the page stays small; what was gained or lost is kept "
            f"before the rest, of which an even sample is left. `{shown} --limit {total}` shows all, in full."
        )
    if options:
        note += " The probability of an option is among the options, from the log-probabilities of their whole texts."
    return note


def _readable(row: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for who has no scripts: the first model beside the best parent."""
    task = data["tasks"][row["t"]]
    names = [0] if task["best"] is None else [0, task["best"]]
    said = (data["beginnings"][row["b"]] if "b" in row else []) + row.get("w", [])
    sides = []
    for place in names:
        answer = row["a"].get(place)
        if answer is None:
            continue
        options = (
            [
                {"text": text, "share": f"{100 * share:.1f} %", "chosen": at == answer["c"]}
                for at, (text, share) in enumerate(zip(row["o"], answer["p"], strict=True))
            ]
            if "p" in answer
            else []
        )
        mark = {1: "right", 0: "wrong"}.get(answer.get("r", -1), "")
        sides.append({**answer, "name": data["models"][place]["name"], "mark": mark, "options": options})
    return {
        "task": task["name"],
        "split": data["splits"][row["s"]],
        "item": row["i"],
        "kind": kind,
        "question": row.get("q"),
        "before": said,
        "target": row.get("g"),
        "sides": sides,
    }
