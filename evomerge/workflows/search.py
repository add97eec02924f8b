"""One run to its winner: its log, its final state, and what is recorded besides candidates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from evomerge.analysis.all_wrong import all_wrong
from evomerge.analysis.cautions import SAID, public_warning
from evomerge.analysis.degeneration import cut_prompts_of_baselines
from evomerge.analysis.measured import DATASETS
from evomerge.analysis.probed_answers import probed_cautions
from evomerge.analysis.verdict import CODE_TASKS, COMBINATION, OBJECTIVE, PUBLIC_TASKS
from evomerge.assembly.ancestry import kinship_data
from evomerge.assembly.asked import AskedPrompts
from evomerge.assembly.executors import make_executor
from evomerge.assembly.inputs import find_inputs
from evomerge.assembly.prepare import Prepared, prepare
from evomerge.assembly.warm_up import SETTLED, Settled, settled_of
from evomerge.assembly.workers import own_threads
from evomerge.config.reader import with_found_parents
from evomerge.errors import CheckpointError, ConfigError, EvaluationError, ExecutionError, Interrupted, RunError
from evomerge.execution.base import Executor, StopSignal
from evomerge.record import Record, Score, Split
from evomerge.search.events import Attached, Listener
from evomerge.search.session import Search
from evomerge.store.database import Database
from evomerge.store.log import logging_to
from evomerge.store.run_dir import CONFIG, RunDir
from evomerge.store.status import COMPLETE, FAILED, INTERRUPTED, PHASE, RUNNING
from evomerge.store.traces import GENES, KINSHIP
from evomerge.system.references import resolved
from evomerge.system.secrets import secrets_in_data
from evomerge.system.text import command, cut, error_text
from evomerge.workflows import Note
from evomerge.workflows.loggers import RunLoggers
from evomerge.workflows.probe import corrected_plan, plan_of, probe_parents
from evomerge.workflows.run import Run

log = logging.getLogger("evomerge")

PROBED = "probed"
"""The key in the database of what a probe of the parents called for; missing where there was none."""

MANY, SHOWN = 5, 500
"""After how many failures and no success it is said that something is wrong, and most characters of an error then."""

SHOWN_LATER = ("ancestry",)
"""The kinds of what is said before the search that are said again with its result."""

Doubts = Callable[[], Iterable[str]]

MANY_ITEMS = 10_000
"""Items from which building the prompts of all of them takes seconds, which is said."""


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
    config = with_found_parents(config)
    prepared = prepare(config, note=note)
    if stop is not None and stop.draining:
        raise Interrupted("stopped as asked, before the run was begun")
    named = run_dir or resolved((config.get("run") or {}).get("dir"))[0] or _default_folder(prepared.config.name)
    folder = Path(str(named)).expanduser()
    plain = {key: value for key, value in config.items() if key != "run"}
    RunDir.refuse_used(folder)
    # Before the folder is made, so that there is no run without them, whenever this process is killed.
    found = find_inputs(plain, prepared.config, note=note)
    if found.problems:
        raise ConfigError(found.problems)
    inputs = replace(found.inputs, **item_contents(prepared, note))
    splits = prepared.harness.split_data()["tasks"]
    with RunDir.create(folder, config=plain, inputs=inputs, splits=splits) as run:
        if note is not None:
            note(f"run folder {folder}")
        carry_out(run, prepared, listener=listener, stop=stop, note=note)
    return Run(folder)


def item_contents(prepared: Prepared, note: Note | None) -> dict[str, Any]:
    """Return what the items of a search ask and what answers to them are worth; see `LmHarness.contents`.

    Raises:
        ConfigError: if prompts cannot be built.
    """
    n_items = sum(map(prepared.n_items, Split))
    if note is not None and n_items >= MANY_ITEMS:
        note(f"reading all {n_items} items once, to know them again")
    # The requests that this process will score soon are kept; those of workers are built there.
    keep = (Split.SEARCH, Split.VALIDATION) if prepared.config.execution.name == "local" else ()
    return prepared.harness.contents(keep=keep)


def _default_folder(name: str) -> Path:
    return Path("outputs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


def carry_out(
    run: RunDir, prepared: Prepared, *, listener: Listener | None, stop: StopSignal | None, note: Note | None
) -> None:
    """Run what is left of a search, and record how it ended."""
    stop = stop or StopSignal()
    try:
        with logging_to(run.log_path) as run_log, own_threads():
            logged = _Logged(listener, note, lambda: _doubts(run, prepared), run)
            logged.begin()
            try:
                _carry_out(run, prepared, logged, stop, note)
            except KeyboardInterrupt:
                logged.loggers.kill()
                raise
            except BaseException:
                logged.loggers.close(stopped=True)
                raise
            logged.loggers.close(stopped=False, hurry=lambda: stop.draining)
    except (Interrupted, KeyboardInterrupt) as error:
        raise _stopped(error, run.path) from None
    if run_log.problem is not None and note is not None:
        note(f"warning: {run_log.problem}")


def _doubts(run: RunDir, prepared: Prepared) -> Iterator[str]:
    """Yield what is to be said once the baselines are scored."""
    yield from all_wrong(run.database, prepared.objectives)
    yield from cut_prompts_of_baselines(run.database)
    if run.database.get_meta(PROBED) is None:
        baselines = {record.name: record.number for record in run.database.baselines()}
        scores = {
            name: run.database.item_scores(baselines[name], Split.SEARCH)
            for name in prepared.parent_names
            if name in baselines
        }
        yield from (one.text for one in probed_cautions(scores, what="answers"))


def _carry_out(run: RunDir, prepared: Prepared, listener: _Logged, stop: StopSignal, note: Note | None) -> None:
    database, before = run.database, settled_of(run.database)
    database.set_meta("state", RUNNING)
    database.set_meta(OBJECTIVE, [spec.to_data() for spec in prepared.objectives.specs])
    database.set_meta(COMBINATION, prepared.objectives.combination)
    database.set_meta(CODE_TASKS, prepared.code_tasks)
    database.set_meta(GENES, prepared.genes)
    database.set_meta(KINSHIP, None if prepared.kinship is None else kinship_data(prepared.kinship))
    listener.loggers = RunLoggers(run, prepared.config.loggers, note)
    cautions = prepared.cautions
    said = [one.to_data() for one in cautions if one.kind in SHOWN_LATER]
    database.set_meta(SAID, [*said, *(database.get_meta(PROBED) or [])])
    for caution in cautions:
        listener.warn(caution.text)
    for text in prepared.left_out:
        log.info("%s", text)
        if note is not None:
            note(text)
    database.set_meta(DATASETS, prepared.harness.datasets())
    database.set_meta(PUBLIC_TASKS, prepared.public_tasks)
    for task in prepared.public_tasks:
        listener.warn(public_warning(task))
    for found in secrets_in_data(run.config):
        listener.warn(
            f"{found.place} holds what looks like a secret ({found.what}): it stands in {run.path / CONFIG}, and the "
            "run cannot be exported like this. Refer to the environment instead, for example ${oc.env:HF_TOKEN}"
        )

    def settled(found: Settled) -> None:
        database.set_meta(SETTLED, found.threads)
        for text in found.said:
            listener.say(text)
        for text in found.doubts:
            listener.warn(text)

    try:
        if note is not None:
            note("loading the parents")
        executor = make_executor(prepared, stop, before=before, tell=settled)
        try:
            if before is None:
                _probe(database, prepared, executor, stop, listener)
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
                listener=listener,
                deterministic=prepared.config.execution.deterministic,
                answers=prepared.config.evaluation.answers,
                asked=AskedPrompts(prepared),
            ).run()
        finally:
            executor.close()
            prepared.harness.release()  # an engine may hold a second copy of the weights
    except (Interrupted, KeyboardInterrupt):
        with _first_error_counts():
            database.set_meta("state", INTERRUPTED)
        log.info("interrupted")
        raise
    except BaseException as error:
        log.exception("the search ended with an error")
        # The database itself may have failed; the user must see the first error.
        with _first_error_counts():
            database.set_meta("error", error_text(error))
            database.set_meta("state", FAILED)
        if not isinstance(error, (CheckpointError, ConfigError, RunError)):  # which must be mended first
            error.add_note(_what_is_kept(error, run))
        if isinstance(error, SystemExit):  # from a strategy, say; its status may be that of a finished search
            raise ExecutionError(
                f"code that the search called ended it with sys.exit({error.code!r}); everything scored so far is in "
                f"the run, and run.log says where it was: {run.log_path}"
            ) from error
        raise
    database.set_meta("error", None)
    database.set_meta("state", COMPLETE)
    log.info("complete: the winner is %s", winner.name)


def _probe(database: Database, prepared: Prepared, executor: Executor, stop: StopSignal, listener: _Logged) -> None:
    """Warn of parents whose answers are cut or empty before anything long begins, and say how long the search takes."""
    found = probe_parents(prepared, executor, stop)
    if found.cautions is not None:
        for caution in found.cautions:
            listener.warn(caution.text)
        data = [one.to_data() for one in found.cautions]
        database.set_meta(PROBED, data)
        database.set_meta(SAID, [*database.get_meta(SAID, []), *data])
    if found.cost is not None:
        listener.say(plan_of(prepared, found.cost, workers=executor.capacity).sentence(datetime.now()))

    def corrected() -> str | None:
        plan = corrected_plan(prepared, database, found.cost, workers=executor.capacity)
        return None if plan is None else plan.sentence(datetime.now())

    listener.corrected = corrected


def _stopped(error: BaseException, folder: Path) -> BaseException:
    """Return the error of a stopped search with the command that continues it."""
    if isinstance(error, KeyboardInterrupt):
        return error
    return Interrupted(f"{error}; {_how_to_go_on(folder)}")


def _what_is_kept(error: BaseException, run: RunDir) -> str:
    """Return what of a broken run can be used, and how."""
    with _first_error_counts():
        if isinstance(error, EvaluationError) and run.database.count(baselines=True) == 0:
            # What is mended in a task, its code or the settings is a change, which `resume` refuses.
            return (
                "nothing is scored in this run: set right what is named, and start anew with another run.dir; "
                f"`{command('resume', run.path)}` is for a cause outside of tasks, their code and the configuration"
            )
    return f"everything scored so far is in the run; {_how_to_go_on(run.path)}"


def _how_to_go_on(folder: Path) -> str:
    return f"`{command('resume', folder)}` continues it"


class _Logged:
    """Writes every step to the run's log, and passes it on.

    A listener that fails is left out from then on: what is shown does not end a search.

    Args:
        after_baselines: returns what is to be warned of once the baselines are scored.
        run: the run, in which phases are noted for who watches it; None: nobody does.

    Attributes:
        corrected: returns the plan of the search by what the baselines took; None: it needs no correction.
        loggers: which get a row for each model that is scored.
    """

    def __init__(
        self, listener: Listener | None, note: Note | None, after_baselines: Doubts, run: RunDir | None = None
    ) -> None:
        self._listener = listener
        self._run = run
        self._note = note
        self._after_baselines = after_baselines
        self.corrected: Callable[[], str | None] = lambda: None
        self.loggers = RunLoggers(None, (), note)
        self._phase = ""
        self._failed: int | None = 0  # candidates that failed since the beginning; None: one was scored

    def begin(self) -> None:
        """Tell a listener that reads the run itself where it is."""
        listener, run = self._listener, self._run
        if run is not None and isinstance(listener, Attached):
            self._pass_on(lambda: listener.attach(run.path))

    def say(self, text: str) -> None:
        """Write a sentence to the log, and say it at once."""
        log.info("%s", text)
        if self._note is not None:
            self._pass_on(lambda: self._note and self._note(text))

    def warn(self, text: str) -> None:
        """Write a warning to the log, and say it at once."""
        log.warning("%s", text)
        if self._note is not None:
            self._pass_on(lambda: self._note and self._note(f"warning: {text}"))

    def phase(self, name: str, total: int | None, done: int) -> None:
        if self._phase == "baselines":
            for text in self._after_baselines():
                self.warn(text)
            plan = self.corrected()
            if plan is not None:
                self.say(plan)
        self._phase = name
        if self._run is not None:
            self._run.database.set_meta(PHASE, {"name": name, "total": total, "done": done, "at": time.time()})
        log.info("%s: %s candidates, %d done before", name, "unbounded" if total is None else total, done)
        if self._listener is not None:
            listener = self._listener
            self._pass_on(lambda: listener.phase(name, total, done))

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        mean = "no score" if score is None else f"{score.mean:.4f}"
        log.info(
            "%s, %s: %s %s%s",
            record.name,
            split,
            record.state,
            mean,
            f": {cut(record.error, SHOWN)}" if record.error else "",
        )
        if self._listener is not None:
            listener = self._listener
            self._pass_on(lambda: listener.scored(record, split, score))
        self.loggers.scored(record, split, score)
        self._tell_failures(record, split)

    def _tell_failures(self, record: Record, split: Split) -> None:
        """Say it early where no candidate can be scored, and each baseline that could not be."""
        if record.is_baseline:
            if record.error is not None:
                self.warn(f"{record.name} could not be scored on the {split} items: {cut(record.error, SHOWN)}")
        elif split == Split.SEARCH and self._failed is not None:
            self._failed = None if record.error is None else self._failed + 1
            if self._failed == MANY:
                self.warn(
                    f"the first {MANY} candidates failed, the last with: {cut(record.error or '', SHOWN)}. If a task, "
                    "metric or method is wrong, stop the search (Ctrl-C), set it right, and resume"
                )

    def _pass_on(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            log.exception("what is shown of the search failed; the search goes on, and nothing more is shown")
            self._listener = self._note = None


@contextmanager
def _first_error_counts() -> Iterator[None]:
    try:
        yield
    except RunError as error:
        log.error("the state could not be written either: %s", error)
