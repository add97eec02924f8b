"""Items that are asked more than once: intervals take items as independent, and a test item as one that nobody saw.

A benchmark may hold the same question twice. A repeated test item adds to n and to no knowledge; one that is a search
or validation item as well was seen by the search. A run records a hash of each item's prompt, options and target
(`evomerge.store.inputs`), by which both are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.record import Split
from evomerge.store.inputs import RunInputs

_ASKED = ("prompt", "options", "target")
_HASH = 16  # digits of one item, as `evomerge.evaluation.contents` writes them one after the other


def repeated_items(inputs: RunInputs | None) -> dict[str, dict[str, int]]:
    """Return, for each task with such items, `n` test items, `repeated` (asked before among them) and `seen` ones.

    Args:
        inputs: what the run stands on; None: it did not record that, and nothing is known.
    """
    found = {}
    for task, splits in ({} if inputs is None else inputs.items).items():
        asked = {split: list(_asked(splits.get(str(split), {}))) for split in Split}
        test = asked[Split.TEST]
        before = {*asked[Split.SEARCH], *asked[Split.VALIDATION]}
        counts = {"n": len(test), "repeated": len(test) - len(set(test)), "seen": sum(one in before for one in test)}
        if counts["repeated"] or counts["seen"]:
            found[task] = counts
    return found


def repeats_warnings(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each task of `repeated_items`."""
    for task, one in found.items():
        parts = []
        if one["seen"]:
            parts.append(f"{one['seen']} of the {one['n']} test items are search or validation items as well")
        if one["repeated"]:
            parts.append(f"{one['repeated']} of the {one['n']} test items repeat another one")
        what = " and ".join(parts)
        yield f"{task}: {what} (same prompt, options and target), so its test score is less sure than shown"


def _asked(split: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    columns = [split.get(aspect, "") for aspect in _ASKED]
    for start in range(0, min(map(len, columns)), _HASH):
        yield tuple(column[start : start + _HASH] for column in columns)
