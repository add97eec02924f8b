"""A run folder, from which results are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.analysis.verdict import with_verdict
from evomerge.recipe import Recipe
from evomerge.record import Record
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status

if TYPE_CHECKING:
    from evomerge.analysis.answers import AnsweredItem


@dataclass(frozen=True)
class Run:
    """A run folder, from which results are read.

    Attributes:
        path: the folder.
    """

    path: Path

    def status(self) -> dict[str, Any]:
        """Return where the run stands and what its scores are worth.

        See `evomerge.store.status.run_status` and `evomerge.analysis.verdict.with_verdict` for the keys.
        """
        with RunDir.open(self.path) as run, run.database.snapshot():
            return with_verdict(run, run_status(run))

    def records(self, *, baselines: bool = False) -> list[Record]:
        """Return the candidates in order of proposal; with `baselines`, the parents and the average first."""
        with RunDir.open(self.path) as run:
            return list(run.database.records(baselines=baselines))

    def answers(
        self,
        *,
        model: str | None = None,
        against: Sequence[str] | None = None,
        tasks: Sequence[str] = (),
        split: str | None = None,
        item: int | None = None,
        which: Sequence[str] = (),
    ) -> list[AnsweredItem]:
        """Return what models answered, side by side; see `evomerge.api.answers`."""
        from evomerge.workflows.answers import answers  # a status reads none

        return answers(self.path, model=model, against=against, tasks=tasks, split=split, item=item, which=which)

    def best(self) -> Recipe | None:
        """Return the winner's recipe; while the search goes on, the best recipe on the search items, or None."""
        with RunDir.open(self.path) as run:
            return run.best()

    def warnings(self, status: Mapping[str, Any] | None = None) -> list[str]:
        """Return warnings to bear in mind when reading the result, one sentence each.

        Args:
            status: what `status` returned; None: `status` is called.
        """
        found = self.status() if status is None else status
        return [str(one["text"]) for one in found["warnings"]]
