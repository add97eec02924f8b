"""What a search notes of its own course: how each candidate came about, and how the strategy stood.

Nothing is decided by it, so a search goes the same way whether or not anything was noted; only what is written with a
record differs. The times of the driver are taken between two transactions, and shared by the records of the second.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.fitness.left_out import left_out
from evomerge.fitness.scoring import Scoring
from evomerge.record import ItemScore, Record
from evomerge.search.budget import SearchClock
from evomerge.search.candidates import Candidate
from evomerge.search.stage import Progress
from evomerge.store.traces import Trace, TraceTables
from evomerge.strategies.base import Proposal, Strategy
from evomerge.system.stopwatch import Stopwatch
from evomerge.system.text import error_text

log = logging.getLogger(__name__)

BRED = "bred"
"""The key in the progress of the parents of candidates that are outstanding, by number."""

DIGITS = 6
"""Seconds are noted to the microsecond."""

_WAITED = 1e-3  # below that, nobody waited: the driver had to do something else


class CourseNotes:
    """Notes the course of a search.

    Args:
        tables: where it is written.
        progress: how far the search has come.
        clock: the search's clock.
        now: the time of day, in seconds since 1970.
    """

    def __init__(
        self, tables: TraceTables, progress: Progress, clock: SearchClock, now: Callable[[], float] = time.time
    ) -> None:
        self._tables = tables
        self._progress = progress
        self._clock = clock
        self._now = now
        self._driver = Stopwatch()
        self._strategy: Strategy | None = None
        self._numbers: dict[int, int] = {}  # ask of the present strategy -> candidate
        self._bred: Mapping[str, Sequence[int]] = {}  # parents of candidates of earlier sessions
        self._n_told = 0
        self._refused = False
        self._traces: dict[int, Trace] = {}  # of candidates that were told, not written
        self._standings: dict[int, Mapping[str, Any]] = {}  # how the strategy stood, by the number told; not written
        self._last: Mapping[str, Any] = {}  # what was noted last of the strategy

    # --- what the session says ------------------------------------------------------------------------------------

    def begin_stage(self, strategy: Strategy) -> Strategy:
        """Return a stage's strategy, whose time is taken from now on."""
        self._strategy, self._numbers = strategy, {}
        timed: Strategy = self._driver.timed(strategy, "optimizer", "ask", "tell", "dump_state")
        return timed

    def take_up(self, records: Iterable[Record], outstanding: Sequence[Sequence[Any]], data: Mapping[str, Any]) -> None:
        """Go on where an earlier session ended.

        Args:
            records: all candidates on the disk.
            outstanding: number and ask, first of all, of each candidate that was asked and not told.
            data: the progress.
        """
        told = [record.number for record in records if not record.is_consensus]
        self._n_told, self._bred = len(told), data.get(BRED, {})
        # A strategy counts its asks, and each became a candidate: those on the disk are the asks that are left over.
        asks = {ask: number for number, ask, *_ in outstanding}
        free = (ask for ask in range(len(told) + len(asks)) if ask not in asks)
        own = (number for number in told if number >= self._progress.first)
        self._numbers = asks | dict(zip(free, own, strict=False))
        for standing in self._tables.course()[-1:]:
            self._last = {key: value for key, value in standing.items() if key != "candidates"}

    def asked(self, candidate: Candidate, proposal: Proposal) -> None:
        """Note a candidate that was asked for now."""
        self._numbers[proposal.number] = candidate.number
        candidate.asked_at = self._clock.seconds
        known = self._bred.get(str(candidate.number))
        if known is not None:
            candidate.parents = tuple(known)
        elif proposal.parents:
            candidate.parents = tuple(self._numbers[ask] for ask in proposal.parents if ask in self._numbers)
        elif self._progress.elite is not None:
            candidate.parents = (self._progress.elite,)

    def told(self, candidate: Candidate) -> None:
        """Note a candidate whose result the strategy was told now, and how the strategy stands then."""
        waited = self._clock.seconds - candidate.asked_at - candidate.record.seconds
        parts = {**candidate.parts, "wait": waited} if waited >= _WAITED else candidate.parts
        trace = self._trace(candidate.parents, parts)
        self._traces[candidate.number] = replace(trace, estimates=candidate.estimates)
        self._n_told += 1
        self.note_standing()

    def note_standing(self) -> None:
        """Note how the strategy stands, if that is worth noting; see `Strategy.diagnostics`."""
        assert self._strategy is not None, "a stage was begun"
        try:
            found = dict(self._strategy.diagnostics())
            json.dumps(found)
        except Exception as error:  # anybody's code, on which nothing depends
            if not self._refused:
                log.warning("the strategy does not say how it stands, which changes nothing: %s", error_text(error))
            found, self._refused = {}, True
        if not found:
            return
        standing = {"stage": self._progress.stage, **found}
        key = "generation" if "generation" in found else None
        same_stage = self._last.get("stage") == standing["stage"]
        if same_stage and (self._last == standing if key is None else self._last.get(key) == standing[key]):
            return
        if same_stage or self._n_told not in self._standings:  # the end of a stage is worth more than a beginning
            self._standings[self._n_told] = standing
        self._last = standing

    def note_left_out(
        self, scoring: Scoring, number: int, baselines: Iterable[tuple[Record, Sequence[ItemScore]]]
    ) -> None:
        """Note what the estimator makes of each baseline, left out, at the end of the search.

        Args:
            number: that the next candidate would get.
            baselines: those that were scored, with their answers to all search items.
        """
        for record, scores in baselines:
            trace = self._tables.get(record.number) or Trace()
            try:
                found = left_out(scoring, record.number, record.recipe, scores, number)
            except Exception as error:  # anybody's estimator, on which nothing depends here
                log.info("%s is not estimated from some of its answers: %s", record.name, error_text(error))
                found = ()
            if found != trace.estimates:
                self._tables.put(record.number, replace(trace, estimates=found))

    # --- what the journal says --------------------------------------------------------------------------------------

    def write(self, records: Sequence[Record], parts: Mapping[str, float], parents: Sequence[int] = ()) -> None:
        """Write what was noted, in the transaction of the records that are written now.

        Args:
            records: those records.
            parts: what the time of one that no strategy was told went into.
            parents: from which that one was made.
        """
        driver = self._driver.interval().seconds
        shared = {name: seconds / len(records) for name, seconds in driver.items()} if records else {}
        for record in records:
            trace = self._traces.pop(record.number, None) or self._trace(parents, parts)
            rounded = {name: round(one, DIGITS) for name, one in {**trace.parts, **shared}.items()}
            self._tables.put(record.number, trace.with_parts({name: one for name, one in rounded.items() if one > 0.0}))
        for candidates, standing in self._standings.items():
            self._tables.put_course(candidates, standing)
        self._standings = {}

    def writing(self) -> Any:
        """Return a context in which the time of a transaction is taken."""
        return self._driver.section("database")

    def to_data(self, outstanding: Iterable[Candidate]) -> dict[str, Any]:
        """Return what the next session must know, as progress."""
        bred = {str(one.number): list(one.parents) for one in outstanding if one.parents}
        return {BRED: bred} if bred or self._bred else {}

    def _trace(self, parents: Sequence[int], parts: Mapping[str, float]) -> Trace:
        return Trace(
            seconds=round(self._clock.seconds, DIGITS),
            items=self._progress.spent.items,
            at=round(self._now(), 3),
            stage=self._progress.stage,
            parents=tuple(parents),
            parts=parts,
        )
