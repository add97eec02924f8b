"""All kept answers of a run to the same items, side by side: of its merges, its parents and their average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evomerge.analysis.answers import PARENT, AnsweredItem, answered_items
from evomerge.record import Record, Split
from evomerge.store.run_dir import RunDir


def side_by_side(run: RunDir, merges: Sequence[Record], baselines: Sequence[Record]) -> list[AnsweredItem]:
    """Return the items to which answers of merges are kept, on every split, the test items first.

    Args:
        run: the run.
        merges: the models to look at, the most important first; none: the baselines are looked at.
        baselines: those that they stand beside.

    Returns:
        The items of a split by the names of the tasks and their numbers. Answers are by the names of `name_of`, in
        the order of the models; models whose answers are not kept are left out.
    """
    kept = set(run.database.answers.kept())
    found: list[AnsweredItem] = []
    with run.database.snapshot():
        for split in reversed(Split):
            own, others = (
                [name_of(one) for one in records if (one.number, split) in kept or (one.same_as, split) in kept]
                for records in (merges, baselines)
            )
            if not merges:
                own, others = others[:1], others[1:]
            rows: dict[tuple[str, int], AnsweredItem] = {}
            for name in own:
                for row in answered_items(run, [name, *others], split=split):
                    key = (row.task, row.item)
                    rows[key] = row if key not in rows else _joined(rows[key], row)
            for key in sorted(rows):
                answers = rows[key].answers
                ordered = {name: answers[name] for name in (*own, *others) if name in answers}
                found.append(replace(rows[key], answers=ordered))
    return found


def name_of(record: Record) -> str:
    """Return what `answered_items` calls a record without doubt."""
    return f"{PARENT}{record.name}" if record.is_baseline else str(record.number)


def _joined(one: AnsweredItem, other: AnsweredItem) -> AnsweredItem:
    return replace(one, answers={**other.answers, **one.answers})
