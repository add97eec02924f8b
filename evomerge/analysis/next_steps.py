"""What to do next with a run: at most a few sentences, each with the command or the key that it takes.

They follow from the status alone (the verdict, cautions, how the search ended), and from when the best was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.analysis.advice import SURE
from evomerge.analysis.converging import HARDLY, converging
from evomerge.analysis.lost_skills import listed, lost
from evomerge.record import Record, best_scored
from evomerge.store.status import COMPLETE, FAILED, INTERRUPTED, RUNNING
from evomerge.system.text import command

MOST = 4
"""So many steps are named."""

LATE = 0.1
"""A best that came in this last part of a search shows that the search had not ended climbing."""


@dataclass(frozen=True)
class NextStep:
    """Something to do.

    Attributes:
        text: a sentence without a full stop at the end.
        command: what to type; empty: no single command does it.
    """

    text: str
    command: str = ""

    def to_data(self) -> dict[str, str]:
        """Return `{"text", "command"}`."""
        return {"text": self.text, "command": self.command}


def next_steps(
    status: Mapping[str, Any], records: Sequence[Record], course: Sequence[Mapping[str, Any]] = ()
) -> list[NextStep]:
    """Return what to do next, the most useful first.

    Args:
        status: as `evomerge.analysis.verdict.with_verdict` returns it.
        records: the candidates, in order of proposal.
        course: how the strategy stood, the oldest first, as far as that was noted.
    """
    return list(_steps(status, records, course))[:MOST]


def _steps(
    status: Mapping[str, Any], records: Sequence[Record], course: Sequence[Mapping[str, Any]]
) -> Iterator[NextStep]:
    path, state = status["path"], status["state"]
    if state == RUNNING:
        yield NextStep("follow it in a terminal", command("top", path))
        return
    if state == INTERRUPTED:
        yield NextStep("continue the search where it stopped; nothing recorded is lost", command("resume", path))
    if state == FAILED:
        yield NextStep("mend what the error names, then continue the search", command("resume", path))
    if state != COMPLETE or status.get("best") is None or status.get("choice") is None:
        return
    verdict, kinds = status["verdict"] or {}, {one["kind"] for one in status["warnings"]}
    several = len(status["choice"]["records"]) > 1
    export = NextStep("export the merges of the choice, and compare them on what matters to you", _export(path, True))
    if several and verdict.get("use") is not False:
        yield export
    elif verdict.get("use"):
        yield NextStep("export the best merge", _export(path, False))
    yield from _on_losses(status)
    if several and verdict.get("use") is False:
        yield export
    if "degenerate" in kinds or "cut_answers" in kinds:
        yield NextStep("read what it answered, beside the best parent", command("answers", path))
    if "cut_answers" in kinds or "parent_answers" in kinds:
        yield NextStep("give answers more tokens: `generation: {max_gen_toks: …}` in `evaluation.tasks`, a new search")
    if "limits" in kinds:
        yield NextStep("a larger budget may find a merge that keeps the limits", _more(status))
    elif _climbing(status, records):
        yield NextStep(
            f"the best came among the last tenth of the candidates, so a larger budget may find a better one "
            f"({_n(records)} so far)",
            _more(status),
        )
    elif (wide := converging(course)) is not None and wide.how == HARDLY:
        yield NextStep(
            f"the {wide.width} had hardly shrunk, so a larger budget may find a better one ({_n(records)} so far)",
            _more(status),
        )
    if "noise" in kinds:
        yield NextStep("more test items (`evaluation.split.test`, a new search) would tell a gain from noise")
    if "behind" in kinds and not several:
        yield NextStep("search another space or with another method: no merge of this one was ahead of the best parent")
    if "order" in kinds:
        yield NextStep("more validation items (`evaluation.split.validation`, a new search) would choose better")


def _on_losses(status: Mapping[str, Any]) -> Iterator[NextStep]:
    """Yield how to keep the skills that were lost; none where a floor has allowed it."""
    rows = status["choice"]["records"]
    skills = [one for row in rows for one in row.get("skills", ())] or list(status["skills"])
    n = max(1, len(skills))
    sure = [one for one in lost(skills) if one["p_value"] * n < SURE and not one.get("floor")]
    tasks = list(dict.fromkeys(str(one["task"]) for one in sure))
    if not tasks:
        return
    yield NextStep(
        f"keep {listed(tasks, 3)} with a `floor: {{of_best_parent: 0.95}}` at that entry of `evaluation.tasks`, in a "
        "new search"
    )
    task = command("answers", status["path"], "--task", tasks[0], "--lost")
    yield NextStep("read the answers that it has lost", task)


def _climbing(status: Mapping[str, Any], records: Sequence[Record]) -> bool:
    proposals = [record for record in records if not record.is_consensus]
    best = next((record for record in proposals if record.number == status["best"]["id"]), None)
    if best is None:  # a consensus, which was made at the end: the candidate that it leans on most says when
        best = best_scored(proposals)
    after = sum(record.number > best.number for record in proposals) if best else 0
    return best is not None and len(proposals) >= 1 / LATE and after < LATE * len(proposals)


def _export(path: str, several: bool) -> str:
    return command("export", path, *(["--front"] if several else []), "--out", "merged")


def _more(status: Mapping[str, Any]) -> str:
    """Return the command that goes on with twice the budget."""
    limits = {key: value for key, value in status["budget"].items() if value is not None}
    return command("resume", status["path"], *(f"budget.{key}={_number(2 * value)}" for key, value in limits.items()))


def _number(value: float) -> str:
    return f"{value:g}" if value % 1 else f"{int(value)}"


def _n(records: Sequence[Record]) -> str:
    return f"{len(records):,} candidates" if len(records) != 1 else "1 candidate"
