"""Where a merge is published, and the other merges of its search that are published with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.analysis.choice import objective_scores
from evomerge.analysis.verdict import objective_of
from evomerge.export.card_scores import table
from evomerge.record import Record, Score, Split
from evomerge.store.run_dir import RunDir
from evomerge.system.figures import fixed
from evomerge.system.text import markdown, markdown_code


@dataclass(frozen=True)
class Publication:
    """Where a merge stands on the Hub.

    Attributes:
        repo_id: the repository, with its account.
        branch: None: `main`.
        related: the section of its card that links the others; "": it is alone.
    """

    repo_id: str
    branch: str | None = None
    related: str = ""

    @property
    def link(self) -> str:
        """Its address."""
        url = f"https://huggingface.co/{self.repo_id}"
        return url if self.branch is None else f"{url}/tree/{self.branch}"


def slug(name: str) -> str:
    """Return the name of a merge as a branch and the end of a repository's name: "candidate-23"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "merge"


def related_section(
    run: RunDir, records: Sequence[Record], places: Mapping[int, Publication], own: int, *, front: bool
) -> str:
    """Return the section of one merge's card that links the others of its search, with their scores.

    Args:
        run: the run.
        records: the merges, the chosen one first.
        places: number of a merge to where it stands.
        own: the number of the merge whose card it is.
        front: whether they are the front or archive with which the search ended.
    """
    if len(records) < 2:
        return ""
    names, split, scores = _scores(run, records)
    rows = []
    for record in records:
        place = places[record.number]
        shown = f"[{markdown(record.name)}]({place.link})"
        what = "the chosen one" if record is records[0] else ""
        shown = f"**{markdown(record.name)}** (this one)" if record.number == own else shown
        where = markdown_code(place.branch or place.repo_id)
        rows.append((shown, where, *scores[record.number], what))
    intro = (
        "The search ended with several merges, none of them better than another in every objective."
        if front
        else "These merges are of the same search."
    )
    branches = any(place.branch is not None for place in places.values())
    how = " Each is a branch of this repository: `from_pretrained(…, revision=BRANCH)`." if branches else ""
    heads = (
        "merge",
        "branch" if branches else "repository",
        *(f"{markdown(name)} ({split} items)" for name in names),
        "",
    )
    return f"## The other merges\n\n{intro}{how}\n\n" + table(heads, rows)


def _scores(run: RunDir, records: Sequence[Record]) -> tuple[list[str], Split, dict[int, list[str]]]:
    """Return the names of the objectives, the split of the scores, and each merge's scores as cells."""
    objectives = objective_of(run)
    for split in (Split.TEST, Split.VALIDATION, Split.SEARCH):
        if all(split in (record.scores or {}) for record in records):
            break
    if objectives is not None and len(objectives.objectives) > 1 and split is not Split.SEARCH:
        names = [one.name for one in objectives.objectives]
        found = {one.number: objective_scores(run, objectives, one) for one in records}
        data = {number: [one[name][str(split)] for name in names] for number, one in found.items()}
        cells = {number: [_cell(None if one is None else Score(**one)) for one in row] for number, row in data.items()}
        return names, split, cells
    return ["score"], split, {one.number: [_cell((one.scores or {}).get(split))] for one in records}


def _cell(score: Score | None) -> str:
    return "–" if score is None else f"{fixed(score.mean, 4)} [{fixed(score.low, 4)}, {fixed(score.high, 4)}]"
