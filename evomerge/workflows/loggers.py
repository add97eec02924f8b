"""The rows of a run, brought to loggers: while it is searched, and afterwards.

What a logger gets follows from the run folder alone, so rows that it missed (a crash, a network that was gone) are sent
when the run is continued, or by `evomerge log`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.analysis.choice import parent_names
from evomerge.analysis.skills import Skills
from evomerge.analysis.verdict import objective_of, with_verdict
from evomerge.errors import ConfigError, EvomergeError, RunError
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.objective import Objectives
from evomerge.loggers.delivery import PATIENCE, Delivery
from evomerge.loggers.ledger import rows_sent
from evomerge.loggers.registry import logger_problems
from evomerge.loggers.row import LogRow, RunFacts, Summary, row_key
from evomerge.record import Record, Score, Split, State
from evomerge.store.run_dir import BEST, RunDir
from evomerge.store.status import run_status
from evomerge.store.traces import GENES, Trace
from evomerge.system.secrets import hide, is_secret_place, looks_secret
from evomerge.system.text import command, cut
from evomerge.workflows import Note

log = logging.getLogger("evomerge")

MOST_GENES = 32
"""A search with more genes sends none of them: so many charts show nothing."""

MOST_ERROR = 500
"""Most characters of why a candidate failed."""

STOPPED, AFTERWARDS = 5.0, 3600.0
"""Seconds that loggers may take at the end of a search that was stopped, and for `evomerge log`."""

TURN = 10.0
"""Seconds that `evomerge log` waits for another process that sends the same run to the same place."""


def facts_of(run: RunDir, objectives: Objectives | None) -> RunFacts:
    """Return what is known of a run from its first moment on, without secrets."""
    config = _without_secrets(run.config)
    folder, seed = run.path.absolute(), config.get("seed")
    models, tasks = config.get("models") or {}, (config.get("evaluation") or {}).get("tasks") or ()
    found = () if objectives is None else objectives.objectives
    return RunFacts(
        name=folder.name,
        group=folder.parent.name,
        project=str(config.get("name") or "evomerge"),
        folder=str(run.path),
        config=config,
        seed=seed if isinstance(seed, int) else None,
        parents=tuple(models.get("parents") or ()) if isinstance(models, Mapping) else (),
        tasks=tuple(dict.fromkeys(str(one.get("name")) for one in tasks if isinstance(one, Mapping))),
        objectives={one.name: one.direction for one in found},
    )


def _without_secrets(data: Any, place: str = "") -> Any:
    if isinstance(data, Mapping):
        return {str(key): _without_secrets(value, f"{place}.{key}") for key, value in data.items() if key != "loggers"}
    if isinstance(data, (list, tuple)):
        return [_without_secrets(value, f"{place}[{i}]") for i, value in enumerate(data)]
    if isinstance(data, str):
        secret = looks_secret(data) or (is_secret_place(place) and "${" not in data)
        return "(a secret, not sent)" if secret else hide(data)
    return data


class LogRows:
    """Makes the rows of one run, which must be asked for in the order in which the records came."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.objectives = objective_of(run)
        self._limited = self.objectives is not None and (
            any(spec.constraint is not None or spec.floor is not None for spec in self.objectives.specs)
            or bool(self.objectives.guarded)
        )
        self._genes: Sequence[Mapping[str, Any]] = ()
        self._skills: dict[Split, Skills] = {}
        self._best: float | None = None
        self._failed = 0
        self._parents: dict[str, float] = {}

    def row(self, record: Record, split: Split, trace: Trace | None) -> LogRow:
        """Return the row of a record on a split."""
        result = record.result if split is Split.SEARCH else None
        trace = trace or Trace()
        self._take_in(record, split)
        tasks = self._tasks(record, split)
        named = () if self.objectives is None else self.objectives.term_names
        fits = result is not None and result.violation == 0.0
        error = None if record.error is None else _said(record.error)
        counts = split is Split.SEARCH and not record.is_baseline  # others come earlier or later in another session
        return LogRow(
            number=record.number,
            name=record.name,
            split=str(split),
            state=str(record.state),
            error=error,
            score=(record.scores or {}).get(split),
            fitness=record.fitness if fits else None,
            objectives={} if result is None else self._own_units(result.objectives),
            tasks=tasks,
            measures={}
            if result is None
            else {name: value for name, value in result.measures.items() if name not in named},
            violation=None if result is None or not self._limited else result.violation,
            best=self._best if counts else None,
            best_parent=max(self._parents.values(), default=None) if counts else None,
            seconds=record.seconds,
            clock=trace.seconds,
            items=trace.items,
            failed=self._failed if counts else 0,
            genes={} if split is not Split.SEARCH else self._named_genes(record, trace.stage),
            stage=trace.stage if len({one.get("stage_number", 0) for one in self._genes}) > 1 else None,
            same_as=record.same_as,
        )

    def all(self, sent: Collection[str] = ()) -> Iterator[LogRow]:
        """Yield every row of the run, in the order in which the records came.

        Args:
            sent: keys of rows that are left out.
        """
        database = self._run.database
        traces = database.traces.all()
        records = sorted(
            database.records(),
            key=lambda one: (traces[one.number].seconds or 0.0 if one.number in traces else 0.0, one.number),
        )
        records = [*database.baselines(), *records]
        for split in Split:
            for record in records:
                if split is not Split.SEARCH and split not in (record.scores or {}):
                    continue
                if row_key(record.number, split) in sent:
                    self._take_in(record, split)
                else:
                    yield self.row(record, split, traces.get(record.number))

    def _take_in(self, record: Record, split: Split) -> None:
        if split is not Split.SEARCH:
            return
        score = (record.scores or {}).get(Split.SEARCH)
        if record.is_baseline:
            if record.name in parent_names(self._run) and score is not None and math.isfinite(score.mean):
                self._parents[record.name] = score.mean
        elif record.state in (State.FAILED, State.INVALID):
            self._failed += 1
        elif record.result is not None and record.result.violation == 0.0 and record.fitness is not None:
            self._best = record.fitness if self._best is None else max(self._best, record.fitness)

    def _own_units(self, values: Sequence[float]) -> dict[str, float]:
        """Return objectives as the user measures them."""
        if self.objectives is None:
            return {}
        pairs = zip(self.objectives.objectives, values, strict=False)
        return {one.name: -value if one.direction == "minimize" else value for one, value in pairs}

    def _tasks(self, record: Record, split: Split) -> dict[str, Score]:
        if self.objectives is None or record.error is not None:
            return {}
        if record.is_baseline or split not in self._skills:  # what is told by other models needs all baselines
            self._skills[split] = Skills(self._run, self.objectives)
        found = self._skills[split].of_items(self._run.database.item_scores(record.number, split), split)
        return {task: mean_score(list(values.values())) for task, values in found.items() if values}

    def _named_genes(self, record: Record, stage: int) -> dict[str, float]:
        if not self._genes:  # which are noted with the first candidate
            found = self._run.database.get_meta(GENES)
            self._genes = found if isinstance(found, list) else ()
        own = [one for one in self._genes if one.get("stage_number", 0) == stage]
        if record.genome is None or not 0 < len(own) <= MOST_GENES or len(own) != len(record.genome):
            return {}
        return {str(gene["name"]): value for gene, value in zip(own, record.genome, strict=True)}


def summary_of(run: RunDir) -> Summary:
    """Return how a search stands at the end of a session, as loggers get it."""
    status = with_verdict(run, run_status(run))
    best = status["best"] or {}
    scores = {str(split): best[split]["mean"] for split in Split if best.get(split)}
    for task, own in (best.get("tasks") or {}).items():
        scores |= {f"{split}/{task}": own[split]["mean"] for split in Split if own.get(split)}
    path = run.path / BEST
    return Summary(
        state=str(status["state"]),
        verdict=(status["verdict"] or {}).get("text"),
        best=best.get("name"),
        scores={name: value for name, value in scores.items() if math.isfinite(value)},
        warnings=tuple(str(one["text"]) for one in status["warnings"]),
        files={BEST: str(path.absolute())} if path.is_file() else {},
    )


class RunLoggers:
    """The loggers of a run that is searched, beside the display.

    Whatever fails in it is written to the log, and no more is sent of what it concerns.
    """

    def __init__(self, run: RunDir | None, entries: Sequence[Mapping[str, Any]], note: Note | None) -> None:
        """Start the loggers, and send what earlier sessions recorded and did not send.

        Args:
            run: the run, once its objectives are recorded; None: there are no loggers yet.
            entries: each with a `name` and its options.
            note: called with a sentence, also by threads.
        """
        self._note = note
        self._deliveries: list[Delivery] = []
        if run is None or not entries:
            return
        self._run = run
        with _noted_only("the loggers could not begin"):
            self._rows = LogRows(run)
            facts = facts_of(run, self._rows.objectives)
            for entry in entries:
                self._begin(entry, facts)
            if self._deliveries:
                known = [rows_sent(run.path, one.name) for one in self._deliveries]
                for row in self._rows.all(set.intersection(*known)):
                    self._send(row)

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Send a row to every logger that is not left out; arguments as of `Listener.scored`."""
        if score is not None:
            record = replace(record, scores={**(record.scores or {}), split: score})
        elif split is not Split.SEARCH:
            return
        if any(one.problem is None for one in self._deliveries):
            with _noted_only("a row could not be made for the loggers"):
                self._send(self._rows.row(record, split, self._run.database.traces.get(record.number)))

    def close(self, *, stopped: bool, hurry: Callable[[], bool] = lambda: False) -> None:
        """Say how the search ended, and wait for what is on its way.

        Args:
            stopped: whether the search was stopped, so that nobody waits for long.
            hurry: returns whether the user wants to go.
        """
        working = [one for one in self._deliveries if one.problem is None]
        if working:
            with _noted_only("the end of the search could not be told to the loggers"):
                summary = summary_of(self._run)
                for one in working:
                    one.finished(summary)
        end = time.monotonic() + (STOPPED if stopped else PATIENCE)
        try:
            for one in self._deliveries:
                one.end()
            for one in self._deliveries:
                one.wait(end - time.monotonic(), hurry)
                if one.lost > 0 and one.problem is None:
                    how = log_command(self._run.path, one.name, one.options)
                    self._warn(f"{one.lost} rows were not sent to {one.name} in time; `{how}` sends them")
        finally:
            self.kill()

    def kill(self) -> None:
        """End the loggers at once."""
        for one in self._deliveries:
            one.wait(0.0)

    def _begin(self, entry: Mapping[str, Any], facts: RunFacts) -> None:
        name, options = str(entry["name"]), {key: value for key, value in entry.items() if key != "name"}
        later = log_command(self._run.path, name, options)
        doubt = lambda text: self._warn(f"{text}; once that is mended, `{later}` sends what is missing")  # noqa: E731
        try:
            self._deliveries.append(Delivery(name, options, facts, self._run.path, self._say, doubt=doubt))
        except (OSError, EvomergeError) as error:
            self._warn(f"the logger {name} is left out, the search goes on: {error}")

    def _send(self, row: LogRow) -> None:
        for one in self._deliveries:
            if one.problem is None:
                one.send(row)

    def _say(self, text: str) -> None:
        log.info("%s", text)
        self._show(text)

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        self._show(f"warning: {text}")

    def _show(self, text: str) -> None:
        if self._note is not None:
            with _noted_only("what a logger said could not be shown"):
                self._note(text)


class _noted_only:  # noqa: N801 - reads as the context that it is
    """A context in which what is raised is only written to the log."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            log.error("%s; the search goes on", self._what, exc_info=error)
            return True
        return False


def log_command(run: Path, name: str, options: Mapping[str, Any]) -> str:
    """Return the command that sends what is missing to the same place, as it can be pasted into a shell."""
    given = {key: value for key, value in options.items() if value is not None}
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in given.items()]
    return command("log", run, "--to", name, *words)


def log_run(
    run_dir: str | Path, to: str, options: Mapping[str, Any], *, anew: bool, note: Callable[[str], None]
) -> dict[str, int]:
    """Send a run to a logger; see `evomerge.api.log_run`."""
    problems = logger_problems([{"name": to, **options}], libraries=True)
    if problems:
        raise ConfigError(problems)
    with RunDir.open(run_dir, frozen=True) as run:
        rows = LogRows(run)
        facts, count = facts_of(run, rows.objectives), 0
        delivery = Delivery(to, options, facts, run.path, note, anew=anew, most=0, patience=2 * AFTERWARDS, turn=TURN)
        try:
            for row in rows.all():
                delivery.send(row)
                count += 1
            delivery.finished(summary_of(run))
            delivery.end()
            delivery.wait(AFTERWARDS)
        finally:
            delivery.wait(0.0)
    if delivery.problem is not None:
        raise RunError(f"not all rows were sent to {to}: {delivery.problem}")
    if delivery.lost:
        raise RunError(f"{delivery.lost} of {count} rows were not sent to {to} in time; the same command sends them")
    return {"rows": count, "sent": delivery.sent}


def _said(error: str) -> str:
    if looks_secret(error):
        return "(left out, since it holds what looks like a secret)"
    return cut(hide(error), MOST_ERROR)
