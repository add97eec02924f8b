"""How a search went, beside what it found: when each candidate was done, what its time went into, from which candidates
it was bred, how the strategy stood, which genes were evolved, and how the parents are related.

Nothing is decided by it, so a run without these tables (of an earlier evomerge) is whole: they are made when it is
continued, and readers take a missing table for an empty one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evomerge.record import EarlyEstimate

if TYPE_CHECKING:
    from evomerge.store.database import Database

GENES = "genes"
"""The key in the database of the genes of all stages, in the order of their genomes: a list of what `Gene.to_data`
returns, each with `stage`, the name of its stage, and `stage_number`, from 0."""

KINSHIP = "kinship"
"""The key in the database of how the parents are related; see `evomerge.assembly.ancestry.kinship_data`."""

TRACES_SCHEMA = """
CREATE TABLE IF NOT EXISTS traces (
    candidate INTEGER PRIMARY KEY REFERENCES candidates (number),
    data TEXT NOT NULL                                                              -- JSON
);
CREATE TABLE IF NOT EXISTS course (
    candidates INTEGER PRIMARY KEY,                                                 -- how many the strategy was told
    data TEXT NOT NULL                                                              -- JSON
);
"""


@dataclass(frozen=True)
class Trace:
    """How one candidate came about.

    Attributes:
        seconds: the search's clock when the strategy was told of it, in seconds over all sessions; of one that no
            strategy is told of (a baseline, the consensus), when it was recorded. None: not known.
        items: how many item evaluations the search had spent by then.
        at: when that was, in seconds since 1970.
        stage: the number of its stage, from 0.
        parents: numbers of the candidates from which it was bred: those that its strategy names; of the consensus those
            whose mean it is; of others in a later stage the best candidate of the stages before.
        parts: what time went into: name of a part to seconds; parts that are not known, or took none, are missing.
            `merge`, `prefill`, `decode`, `engine`, `scoring`: of its workers (see `evomerge.execution.worker.PARTS`),
            added up where several shared it. `optimizer` (ask, tell, state) and `database`: of the driver between the
            transaction before and that of this record, in equal parts for the records of it. `wait`: from ask to tell
            without the work on it: for a worker, its turn, the rest of its generation, or its twin.
        estimates: what its score on the search items was taken for from some of them, the fewest first; noted where
            the score on all of them is known as well. Of a candidate: in its race, by what was known then. Of a
            baseline: as if it were the next candidate of the search at its end, by all that is known of everyone else
            (`evomerge.fitness.left_out`).
    """

    seconds: float | None = None
    items: int | None = None
    at: float | None = None
    stage: int = 0
    parents: tuple[int, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    estimates: tuple[EarlyEstimate, ...] = ()

    def with_parts(self, parts: Mapping[str, float]) -> Trace:
        """Return the trace with other parts."""
        return replace(self, parts=parts)

    def to_data(self) -> dict[str, Any]:
        """Return JSON data; what is not known or empty is left out."""
        data = {
            "seconds": self.seconds,
            "items": self.items,
            "at": self.at,
            "stage": self.stage or None,
            "parents": list(self.parents) or None,
            "parts": dict(self.parts) or None,
            "estimates": [[one.n, one.mean, one.error] for one in self.estimates] or None,
        }
        return {name: value for name, value in data.items() if value is not None}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Trace:
        """Return what `to_data` wrote; keys of a later version are left out."""
        return cls(
            data.get("seconds"),
            data.get("items"),
            data.get("at"),
            int(data.get("stage", 0)),
            tuple(data.get("parents", ())),
            dict(data.get("parts", {})),
            tuple(EarlyEstimate(*one) for one in data.get("estimates", ())),
        )


class TraceTables:
    """The tables of traces of one database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, number: int, trace: Trace) -> None:
        """Write how a recorded candidate came about; one transaction, or a part of one that is open."""
        with self._db._transaction():
            self._db._db.execute(
                "INSERT OR REPLACE INTO traces (candidate, data) VALUES (?, ?)", (number, json.dumps(trace.to_data()))
            )

    def put_course(self, candidates: int, state: Mapping[str, Any]) -> None:
        """Write how the strategy stood after it was told so many candidates; JSON data."""
        with self._db._transaction():
            self._db._db.execute(
                "INSERT OR REPLACE INTO course (candidates, data) VALUES (?, ?)", (candidates, json.dumps(dict(state)))
            )

    def all(self) -> dict[int, Trace]:
        """Return the traces by the candidate's number."""
        with self._db._explain_damage():
            return {number: Trace.from_data(json.loads(data)) for number, data in self._rows("traces", "candidate")}

    def get(self, number: int) -> Trace | None:
        """Return the trace of one candidate, if it has one."""
        if not self._has("traces"):
            return None
        row = self._db._one("SELECT data FROM traces WHERE candidate = ?", number)
        with self._db._explain_damage():
            return None if row is None else Trace.from_data(json.loads(row[0]))

    def latest(self, n: int) -> list[Trace]:
        """Return the traces of the candidates with the largest numbers, in their order."""
        if not self._has("traces"):
            return []
        rows = self._db._all("SELECT data FROM traces ORDER BY candidate DESC LIMIT ?", n)
        with self._db._explain_damage():
            return [Trace.from_data(json.loads(data)) for (data,) in rows[::-1]]

    def course(self) -> list[dict[str, Any]]:
        """Return how the strategy stood, the oldest first: what was written, with `candidates`."""
        with self._db._explain_damage():
            return [{**json.loads(data), "candidates": n} for n, data in self._rows("course", "candidates")]

    def _rows(self, table: str, key: str) -> list[Any]:
        return self._db._all(f"SELECT {key}, data FROM {table} ORDER BY {key}") if self._has(table) else []

    def _has(self, table: str) -> bool:
        return self._db._one("SELECT 1 FROM sqlite_master WHERE name = ?", table) is not None
