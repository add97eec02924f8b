"""One run to its winner: its log, its final state, and what is recorded besides candidates."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evomerge.analysis.verdict import CODE_TASKS, OBJECTIVE, PUBLIC_TASKS, public_warning
from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import Prepared, prepare
from evomerge.errors import Interrupted, RunError
from evomerge.execution.base import StopSignal
from evomerge.record import Record, Score, Split
from evomerge.search.events import Listener
from evomerge.search.session import Search
from evomerge.store.run_dir import RunDir
from evomerge.store.status import COMPLETE, FAILED, INTERRUPTED, RUNNING
from evomerge.system.text import error_text
from evomerge.workflows import Note
from evomerge.workflows.run import Run

log = logging.getLogger("evomerge")


def search(
    config: Mapping[str, Any],
    *,
    run_dir: str | Path | None,
    listener: Listener | None,
    stop: StopSignal | None,
    note: Note | None,
) -> Run:
    """Run a whole search; see `evomerge.api.search`."""
    if note is not None:
        note("checking models and tasks")
    prepared = prepare(config)
    folder = Path(run_dir or (config.get("run") or {}).get("dir") or _default_folder(prepared.config.name))
    plain = {key: value for key, value in config.items() if key != "run"}
    with RunDir.create(folder, config=plain) as run:
        if note is not None:
            note(f"run folder {folder}")
        splits = prepared.harness.split_data()
        run.database.set_splits(splits["tasks"])
        carry_out(run, prepared, listener=listener, stop=stop, note=note)
    return Run(folder)


def _default_folder(name: str) -> Path:
    return Path("outputs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


def carry_out(
    run: RunDir, prepared: Prepared, *, listener: Listener | None, stop: StopSignal | None, note: Note | None
) -> None:
    """Run what is left of a search, and record how it ended."""
    stop = stop or StopSignal()
    database = run.database
    with _logging_to(run.log_path):
        database.set_meta("state", RUNNING)
        database.set_meta(OBJECTIVE, [spec.to_data() for spec in prepared.objectives.specs])
        database.set_meta(CODE_TASKS, prepared.code_tasks)
        for warning in prepared.warnings:
            log.warning("%s", warning)
            if note is not None:
                note(f"warning: {warning}")
        database.set_meta(PUBLIC_TASKS, prepared.public_tasks)
        for task in prepared.public_tasks:
            log.warning("%s", public_warning(task))
            if note is not None:
                note(f"warning: {public_warning(task)}")
        try:
            if note is not None:
                note("loading the parents")
            executor = make_executor(prepared, stop)
            try:
                winner = Search(
                    run_dir=run,
                    stages=prepared.stages(),
                    executor=executor,
                    scoring=prepared.scoring(),
                    consensus=prepared.config.fitness.consensus,
                    baselines=prepared.baselines,
                    budget=prepared.config.budget,
                    finalists=prepared.config.evaluation.finalists,
                    splits=prepared.splits,
                    stop=stop,
                    listener=_Logged(listener),
                    deterministic=prepared.config.execution.deterministic,
                ).run()
            finally:
                executor.close()
                prepared.harness.release()  # an engine may hold a second copy of the weights
        except (Interrupted, KeyboardInterrupt):
            database.set_meta("state", INTERRUPTED)
            log.info("interrupted")
            raise
        except Exception as error:
            log.exception("the search ended with an error")
            # The database itself may have failed; the user must see the first error.
            with _first_error_counts():
                database.set_meta("error", error_text(error))
                database.set_meta("state", FAILED)
            raise
        database.set_meta("error", None)
        database.set_meta("state", COMPLETE)
        log.info("complete: the winner is %s", winner.name)


class _Logged:
    """Writes every step to the run's log, and passes it on."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener

    def phase(self, name: str, total: int | None, done: int) -> None:
        log.info("%s: %s candidates, %d done before", name, "unbounded" if total is None else total, done)
        if self._listener is not None:
            self._listener.phase(name, total, done)

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        mean = "no score" if score is None else f"{score.mean:.4f}"
        log.info("%s, %s: %s %s%s", record.name, split, record.state, mean, f": {record.error}" if record.error else "")
        if self._listener is not None:
            self._listener.scored(record, split, score)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write this package's log lines to a file too, besides wherever the program sends them."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


@contextmanager
def _first_error_counts() -> Iterator[None]:
    try:
        yield
    except RunError as error:
        log.error("the state could not be written either: %s", error)
