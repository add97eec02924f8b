"""What is new in a run since one looked last, for those who watch it: new records alone, without their recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evomerge.record import Result, Score, Split, State
from evomerge.store.database import Database, read_result, read_score
from evomerge.store.traces import Trace

_PAGE = 500


@dataclass(frozen=True)
class SeenRecord:
    """What one who watches knows of a record.

    Attributes:
        number: as in `Record`; so are the others.
        score: on the search items.
    """

    number: int
    name: str
    state: State
    fitness: float | None
    result: Result | None
    same_as: int | None
    score: Score | None
    device: str | None

    @property
    def failed(self) -> bool:
        """Whether it has no score because it could not be built or scored."""
        return self.state in (State.FAILED, State.INVALID)


class Following:
    """Reads what is new in a database that another process, or another thread, writes.

    A look costs one question where nothing was written since the last one, and holds no lock when it returns.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._version: int | None = None
        self._known: set[int] = set()

    def changed(self) -> bool:
        """Return whether anything was written since this was asked last; true the first time."""
        (version,) = self._db._one("PRAGMA data_version")
        before, self._version = self._version, int(version)
        return before != self._version

    def new(self) -> list[SeenRecord]:
        """Return the records that were not returned before, in order of number."""
        numbers = {row[0] for row in self._db._all("SELECT number FROM candidates")} - self._known
        wanted = sorted(numbers)
        found: list[SeenRecord] = []
        for start in range(0, len(wanted), _PAGE):
            found += self._read(wanted[start : start + _PAGE])
        self._known |= numbers
        return found

    def scores(self, split: Split) -> dict[int, Score]:
        """Return the scores on the validation or test items by record, of which there are few."""
        rows = self._db._all("SELECT candidate, mean, low, high, n FROM scores WHERE split = ?", str(split))
        return {number: read_score(*rest) for number, *rest in rows}

    def latest_traces(self, n: int) -> list[Trace]:
        """Return how the last candidates came about, the oldest first; none in runs that did not note it."""
        return self._db.traces.latest(n)

    def _read(self, numbers: list[int]) -> list[SeenRecord]:
        marks = ", ".join("?" * len(numbers))
        rows = self._db._all(
            "SELECT c.number, c.name, c.state, c.fitness, c.objectives, c.violation, c.same_as, "
            "c.device, s.mean, s.low, s.high, s.n FROM candidates c "
            "LEFT JOIN scores s ON s.candidate = c.number AND s.split = 'search' "
            f"WHERE c.number IN ({marks}) ORDER BY c.number",
            *numbers,
        )
        with self._db._explain_damage():
            return [_seen(*row) for row in rows]


def _seen(
    number: int, name: str, state: str, fitness: float | None, objectives: str | None, violation: float | None,
    same_as: int | None, device: str | None, *score: Any,
) -> SeenRecord:  # fmt: skip
    result, found = read_result(objectives, violation, None), None if score[-1] is None else read_score(*score)
    return SeenRecord(number, name, State(state), fitness, result, same_as, found, device)
