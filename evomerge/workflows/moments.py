"""Reads a run again and again while another process (or thread) writes it, and says what it has come to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from evomerge.analysis.best_course import BestCourse
from evomerge.analysis.best_running import BestRunning
from evomerge.analysis.choice import parent_names
from evomerge.analysis.front_so_far import FrontSoFar
from evomerge.analysis.moment import Limit, Moment, PhaseDone, Works
from evomerge.analysis.verdict import COMBINATION, objective_of
from evomerge.evaluation.task import SUM, WORST
from evomerge.record import Score, Split
from evomerge.store.following import Following, SeenRecord
from evomerge.store.lock import Holder, holder_of
from evomerge.store.run_dir import DATABASE, LOCK, RunDir
from evomerge.store.status import (
    INTERRUPTED,
    PHASE,
    RUNNING,
    UNSCORED,
    mean_rate,
    run_budget,
    time_left,
)
from evomerge.system.memory import process_bytes
from evomerge.system.text import duration

FRESH = 120.0
"""A run of another machine, whose lock cannot be seen, counts as running if it was written in so many seconds."""

_RATE_SECONDS, _RATE_TRACES = 300.0, 50
"""The time, and the most candidates, over which candidates a minute are counted."""

BASELINES, SEARCH, VALIDATION, TEST = "baselines", "search", "validation", "test"


class MomentReader:
    """Looks at one run. An object belongs to the thread that uses it; it holds no lock between two looks.

    Args:
        run: the run, open for reading.
    """

    def __init__(self, run: RunDir) -> None:
        self._run, self._db = run, run.database
        self._following = Following(run.database)
        self._parents = parent_names(run)
        self._course, self._front = BestCourse(), FrontSoFar()
        self._n = {"candidates": 0, "failed": 0, "repeated": 0, BASELINES: 0}
        self._best: SeenRecord | None = None
        self._compares: BestRunning | None = None
        self._compared: tuple[int, ...] = ()  # the scores of baselines that it knows
        self._shown: tuple[Any, ...] | None = None
        self._known: dict[str, Any] = {}

    def look(self, now: float | None = None) -> Moment:
        """Return what the run has come to.

        Args:
            now: seconds since 1970; None: by the clock.

        Raises:
            RunError: if the run cannot be read.
        """
        now = time.time() if now is None else now
        holder = holder_of(self._run.path / LOCK)
        if self._following.changed():
            self._known = self._read()
        known = self._known
        written = _written(self._run)
        ago = 0.0 if written is None else max(0.0, now - written)
        state, doubt = _state(known["state"], holder, ago)
        going = state == RUNNING
        spent = dict(known["spent"])
        searching = going and known["phase"].startswith(SEARCH)
        if searching:
            spent["seconds"] = spent.get("seconds", 0.0) + ago
        left = time_left(known["budget"], spent, known["per_minute"]) if searching else None
        if left is not None and known["per_minute"] and known["budget"].get("seconds") is None:
            left = max(0.0, left - ago)
        return Moment(
            **known["moment"],
            state=state,
            doubt=doubt,
            at=now,
            written=written,
            phase=known["phase"],
            limits=tuple(
                Limit(key, float(spent.get(key, 0)), float(most))
                for key, most in known["budget"].items()
                if most is not None
            ),
            seconds_left=left,
            workers=self._workers(known, holder, now, ago) if going else (),
        )

    # ---- what is read when something was written ----

    def _read(self) -> dict[str, Any]:
        with self._db.snapshot():
            new = self._following.new()
            progress = self._db.progress()
            state = str(self._db.get_meta("state", INTERRUPTED))
            phase = self._db.get_meta(PHASE) or {}
            choice = self._db.choice()
            unscored = self._db.get_meta(UNSCORED, {})
            error = self._db.get_meta("error")
            scores = {split: self._following.scores(split) for split in (Split.VALIDATION, Split.TEST)}
            traces = self._following.latest_traces(_RATE_TRACES)
        for one in new:
            self._note(one)
        spent, budget = progress.get("spent", {}), run_budget(self._run)
        report = progress.get("workers")
        chosen = None if choice is None else choice.best
        compares = self._comparing(scores)
        split, score, number, name = self._standing(chosen, scores)
        shown = (number, split, self._compared)
        if compares is not None and shown != self._shown:
            self._shown = shown
            self._against, self._tasks = compares.against(number, split), compares.tasks(number, split)
        name_of_phase = str(phase.get("name", "")) or (SEARCH if self._n["candidates"] else BASELINES)
        moment = {
            "name": str(self._run.config.get("name") or self._run.path.name),
            "path": str(self._run.path),
            "error": None if error is None else str(error),
            "parts": self._parts(name_of_phase, phase, budget, scores, unscored, state == "complete"),
            "candidates": self._n["candidates"],
            "failed": self._n["failed"],
            "repeated": self._n["repeated"],
            "per_minute": _rate(report, traces, spent),
            "best": name,
            "fitness": None if self._best is None else self._best.fitness,
            "split": split,
            "score": score,
            "limited": self._best is not None and self._best.result is not None and self._best.result.violation > 0.0,
            "against": self._against if compares is not None else (),
            "tasks": self._tasks if compares is not None else (),
            "goals": compares.goals(self._front.points) if compares is not None else (),
            "front": len(self._front),
            "hypervolume": None if compares is None else self._front.hypervolume(compares.reference()),
            "course": self._course.values,
            "lost": int((report or {}).get("lost", 0)),
            "worst": self._db.get_meta(COMBINATION, SUM) == WORST,
        }
        return {
            "moment": moment,
            "state": state,
            "phase": name_of_phase,
            "spent": spent,
            "budget": budget,
            "per_minute": moment["per_minute"],
            "report": report,
        }

    def _note(self, one: SeenRecord) -> None:
        """Count a record, and see whether it is the best."""
        if one.number < 0:
            self._n[BASELINES] += 1
            return
        self._n["candidates"] += 1
        self._n["failed"] += one.failed
        self._n["repeated"] += one.same_as is not None
        if one.fitness is None:
            return
        if one.result is None or one.result.violation == 0.0:
            self._course.add(one.fitness)
        if one.result is not None:
            self._front.add(one.result)
        if self._best is None or one.fitness > (self._best.fitness or 0.0):
            self._best = one

    def _comparing(self, scores: Mapping[Split, Mapping[int, Score]]) -> BestRunning | None:
        """Return what compares, made anew while baselines are scored; None before it is known what is searched for."""
        known = (self._n[BASELINES], *(sum(number < 0 for number in own) for own in scores.values()))
        if self._compares is None or self._compared != known:
            objectives = objective_of(self._run)
            self._compares = None if objectives is None else BestRunning(self._run, objectives)
            self._compared = known
        return self._compares

    def _standing(
        self, chosen: int | None, scores: Mapping[Split, Mapping[int, Score]]
    ) -> tuple[Split, Score | None, int | None, str | None]:
        """Return the split on which the best merge is shown, its score there, its number and name."""
        if chosen is not None:
            record = self._db.record(chosen)
            for split in (Split.TEST, Split.VALIDATION):
                if record is not None and chosen in scores[split]:
                    return split, scores[split][chosen], chosen, record.name
        best = self._best
        return (Split.SEARCH, None, None, None) if best is None else (Split.SEARCH, best.score, best.number, best.name)

    def _parts(
        self,
        phase: str,
        begun: Mapping[str, Any],
        budget: Mapping[str, float | None],
        scores: Mapping[Split, Mapping[int, Score]],
        unscored: Mapping[str, Mapping[str, str]],
        complete: bool,
    ) -> tuple[PhaseDone, ...]:
        """Return the parts with how far each has come."""
        totals = {str(begun.get("name", "")).partition(":")[0]: begun.get("total")}
        out = {split: sum(str(split) in texts for texts in unscored.values()) for split in scores}
        validated = sum(number >= 0 for number in scores[Split.VALIDATION])
        done = {
            BASELINES: self._n[BASELINES],
            SEARCH: self._n["candidates"],
            VALIDATION: validated + out[Split.VALIDATION],
            TEST: len(scores[Split.TEST]) + out[Split.TEST],
        }
        order = list(done)
        here = order.index(phase.partition(":")[0]) if phase.partition(":")[0] in order else 0
        most = budget.get("candidates")
        totals[SEARCH] = None if most is None else int(most)
        found = []
        for place, name in enumerate(order):
            total = totals.get(name)
            past = complete or place < here
            found.append(PhaseDone(name, done[name], done[name] if past and name != SEARCH else total))
        return tuple(found)

    # ---- what changes while nothing is written ----

    def _workers(self, known: Mapping[str, Any], holder: Holder, now: float, ago: float) -> tuple[Works, ...]:
        report = known["report"]
        memory = process_bytes(holder.pid) if holder.here and holder.pid is not None else None
        if report is None:
            word = {BASELINES: "a baseline", VALIDATION: "a finalist", TEST: "test items"}.get(known["phase"])
            candidate = word or f"candidate {self._n['candidates']}"
            device = None if self._best is None else self._best.device or None
            return (
                Works("here" if holder.here else str(holder.host or "there"), "busy", candidate, ago, device, memory),
            )
        late = max(0.0, now - float(report["at"]))
        here = holder.host
        return tuple(
            Works(
                f"worker {one['id']}",
                str(one["state"]),
                None if one["candidate"] is None else _model(one["candidate"], self._parents),
                float(one["for_seconds"]) + late,
                " ".join(str(part) for part in (one["device"], _elsewhere(one["node"], here)) if part),
                process_bytes(one["pid"]) if holder.here and one["pid"] and not _elsewhere(one["node"], here) else None,
                one["done"],
            )
            for one in report["workers"]
        )


def _model(number: int, parents: list[str]) -> str:
    """Return what a job's model is called; baselines have negative numbers, in the order of the parents."""
    if number >= 0:
        return f"candidate {number}"
    place = -1 - number
    return parents[place] if place < len(parents) else "a baseline"


def _elsewhere(node: str | None, here: str | None) -> str | None:
    """Return the machine of a worker, if it is another one than the search's."""
    return None if node is None or node == here else node


def _rate(report: Mapping[str, Any] | None, traces: list[Any], spent: Mapping[str, float]) -> float | None:
    """Return candidates a minute: of the last minutes where that is known, else since the beginning."""
    if report is not None and report.get("jobs_per_minute"):
        return float(report["jobs_per_minute"])
    clock = [one.seconds for one in traces if one.seconds is not None]
    if clock:
        last = [seconds for seconds in clock if seconds >= max(clock) - _RATE_SECONDS]
        if len(last) > 1 and max(last) > min(last):
            return 60.0 * (len(last) - 1) / (max(last) - min(last))
    return mean_rate(spent)


def _written(run: RunDir) -> float | None:
    try:
        return (run.path / DATABASE).stat().st_mtime
    except OSError:
        return None


def _state(recorded: str, holder: Holder, ago: float) -> tuple[str, str | None]:
    """Return the state of a run, and what cannot be told of it from here."""
    if recorded != RUNNING or holder.held:
        return recorded, None
    if holder.held is None:
        state = RUNNING if ago < FRESH else INTERRUPTED
        return state, f"its lock cannot be read; written {duration(ago)} ago"
    if holder.pid is not None and not holder.here:
        # Locks of another machine are not seen on every file system.
        state = RUNNING if ago < FRESH else INTERRUPTED
        return state, f"written by {holder}, whose lock is not seen here; written last {duration(ago)} ago"
    if holder.pid is not None:
        return INTERRUPTED, f"its process is gone without a word ({holder})"
    return INTERRUPTED, None
