"""The one reader of a run for all that is drawn: figures, the report page, the dashboard.

What is read is of one moment, from a copy in memory, so a search that goes on is neither seen nor held up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.searches import search_found
from evomerge.analysis.skills import Skills
from evomerge.analysis.verdict import objective_of, with_verdict
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import TaskSpec
from evomerge.recipe import Recipe
from evomerge.record import Record, Score, Split, best_scored
from evomerge.report.genes import GeneTable, gene_tables
from evomerge.store.inputs import RunInputs
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.store.traces import GENES, KINSHIP, Trace


class RunData:
    """All that figures show of one run. Open it with `RunData.open`, and close it after the last figure.

    Everything is read when it is first asked for, once.

    Attributes:
        path: the run's folder.
        label: what the run is called where several are shown.
    """

    def __init__(self, run: RunDir, label: str) -> None:
        """Use `open`."""
        self.run = run
        self.path = run.path
        self.label = label

    @classmethod
    def open(cls, path: str | Path, *, label: str | None = None, busy_seconds: float = 60.0) -> RunData:
        """Open a run, which another process may be writing.

        Args:
            path: the folder.
            label: what it is called; None: the name of its configuration.
            busy_seconds: how long to wait for the commit of its writer.

        Raises:
            RunError: if the folder is no run, or it is damaged.
        """
        run = RunDir.open(path, frozen=True, busy_seconds=busy_seconds)
        return cls(run, label or str(run.config.get("name") or run.path.name))

    def close(self) -> None:
        """Free the copy of the database."""
        self.run.close()

    def __enter__(self) -> RunData:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the run ----

    @cached_property
    def status(self) -> Mapping[str, Any]:
        """Where the run stands and what its scores are worth; see `evomerge.analysis.verdict.with_verdict`."""
        return with_verdict(self.run, run_status(self.run))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The composed configuration, with what was changed since."""
        return self.run.config

    @cached_property
    def n_items(self) -> Mapping[Split, int]:
        """How many items each split has, over all tasks; without splits that have none."""
        counts = dict.fromkeys(Split, 0)
        for task in self.run.database.splits().values():
            for split in Split:
                counts[split] += len((task.get(str(split)) or {}).get("items", ()))
        return {split: n for split, n in counts.items() if n}

    @cached_property
    def found(self) -> Mapping[str, Any]:
        """What the search found, beside others; see `evomerge.analysis.searches.search_found`."""
        return search_found(self.run, self.status)

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """Versions and machine of the process that began the run."""
        return self.run.environment

    @cached_property
    def inputs(self) -> RunInputs | None:
        """What the run stands on; see `RunDir.inputs`."""
        return self.run.inputs

    @cached_property
    def objectives(self) -> Objectives | None:
        """What the search improves; None: the run did not come so far."""
        return objective_of(self.run)

    @cached_property
    def skills(self) -> Skills | None:
        """The scores of all records task by task; None: the run did not come so far."""
        return None if self.objectives is None else Skills(self.run, self.objectives)

    @property
    def entries(self) -> Mapping[str, TaskSpec]:
        """The entry that stands for each task: the first one with a weight. In the order of the configuration."""
        return {} if self.skills is None else self.skills.entries

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) else None

    # ---- candidates ----

    @cached_property
    def records(self) -> Sequence[Record]:
        """The candidates in order of proposal, without baselines."""
        return tuple(self.run.database.records())

    @cached_property
    def baselines(self) -> Sequence[Record]:
        """The parents and the plain average, in the order in which they are configured."""
        return tuple(self.run.database.baselines())

    @cached_property
    def traces(self) -> Mapping[int, Trace]:
        """How candidates came about, by number; empty for runs that did not note it."""
        return self.run.database.traces.all()

    @cached_property
    def course(self) -> Sequence[Mapping[str, Any]]:
        """How the strategy stood, the oldest first: `candidates` (told by then), `stage` (from 0), and what it says.

        See `Strategy.diagnostics`. CMA-ES says `step_size`, `axes` (standard deviation along each principal axis, the
        longest first), `generation`, `restarts` and `population`.
        """
        return tuple(self.run.database.traces.course())

    @cached_property
    def best(self) -> Record | None:
        """The chosen candidate; while the search goes on the best so far; None before one was scored."""
        choice = self.run.database.choice()
        return best_scored(self.records) if choice is None else self.record(choice.best)

    @cached_property
    def chosen(self) -> Sequence[Record]:
        """The records with which the search ended, the best first: one, a front, or an archive; none before its end."""
        choice = self.run.database.choice()
        found = [] if choice is None else [self.record(number) for number in choice.records]
        return tuple(record for record in found if record is not None)

    @property
    def best_parent(self) -> Record | None:
        """The parent with the best validation score."""
        name = self.status["best_parent"]
        return next((record for record in self.baselines if record.name == name), None)

    def record(self, number: int) -> Record | None:
        """Return a candidate or baseline by its number; None: there is none."""
        return self._by_number.get(number)

    @cached_property
    def _by_number(self) -> Mapping[int, Record]:
        return {record.number: record for record in (*self.baselines, *self.records)}

    @property
    def best_recipe(self) -> Recipe | None:
        """The recipe of the best candidate."""
        return None if self.best is None else self.best.recipe

    @cached_property
    def genes(self) -> Sequence[Mapping[str, Any]]:
        """The genes of all stages, in the order of genomes.

        `name`, `low`, `high`, `start`, `log`, `kind`, `choices`, `doc`, `when`, `stage` (its name) and `stage_number`
        (from 0). Empty for runs that did not note them.
        """
        found = self.run.database.get_meta(GENES)
        return tuple(found) if isinstance(found, list) else ()

    @cached_property
    def gene_tables(self) -> Sequence[GeneTable]:
        """The genes of each stage with the values that its candidates had; empty for runs that did not note genes."""
        stages = self.config.get("stages")
        names = list(map(str, stages)) if isinstance(stages, Mapping) else []
        return gene_tables(self.genes, self.records, self.traces, names)

    @cached_property
    def best_genes(self) -> GeneTable | None:
        """The genes of the stage from which the best candidate comes; without one of the last stage that has begun."""
        begun = [table for table in self.gene_tables if table.records]
        with_best = [table for table in begun if table.row(self.best) is not None]
        return next(iter(with_best or begun[-1:]), None)

    @cached_property
    def kinship(self) -> Mapping[str, Any] | None:
        """How the parents are related; None: there is one, or it was not noted.

        See `evomerge.assembly.ancestry.kinship_data` for its keys.
        """
        found = self.run.database.get_meta(KINSHIP)
        return found if isinstance(found, dict) else None

    # ---- items ----

    def responses(
        self, task: str, metric: str, split: Split = Split.SEARCH
    ) -> tuple[list[int], list[int], NDArray[np.float64]]:
        """Return candidate numbers, items, and the scores `(n_candidates, n_items)`, NaN where there is none."""
        key = (task, metric, split)
        if key not in self._matrices:
            self._matrices[key] = self.run.database.response_matrix(task, metric, split)
        return self._matrices[key]

    def task_responses(
        self, task: str, split: Split = Split.SEARCH
    ) -> tuple[list[int], list[int], NDArray[np.float64]]:
        """Return what `responses` returns of the metric by which a task counts (see `entries`)."""
        spec = self.entries[task]
        # In a task with several filters, values stand under "metric,filter".
        own = self.responses(task, f"{spec.metric},{spec.filter}", split)
        return own if own[0] else self.responses(task, spec.metric, split)

    @cached_property
    def _matrices(self) -> dict[tuple[str, str, Split], tuple[list[int], list[int], NDArray[np.float64]]]:
        return {}


def score(record: Record | None, split: Split) -> Score | None:
    """Return the score of a record on a split, if it has one."""
    return None if record is None else (record.scores or {}).get(split)


def best_so_far(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Yield each scored candidate with the best one until then."""
    best: Record | None = None
    for record in records:
        if record.fitness is None:
            continue
        if best is None or record.fitness > (best.fitness or 0.0):
            best = record
        yield record, best
