"""A worker with live models and prepared tasks: the only place where merging meets evaluation."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence

from evomerge.errors import CheckpointError, ConfigError, EvomergeError, Fault, Interrupted, RecipeError
from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.harness import LmHarness
from evomerge.execution.base import PartialAnswers, StopSignal, Worker
from evomerge.merge.live.models import LiveModels
from evomerge.record import ItemAnswer, Job, Outcome, State
from evomerge.system.faults import fault_of
from evomerge.system.text import STORED_LENGTH, cut, error_text

log = logging.getLogger(__name__)


class LiveWorker(Worker):
    """Builds each candidate in its live models and scores it there; nothing is written to disk.

    Whatever goes wrong while a candidate is built or scored is its outcome, whichever exception it is: merge methods,
    tasks and metrics are anybody's code, which may raise anything or call `sys.exit`. Raised are only `Interrupted`,
    Ctrl-C, and a `ConfigError`, which says that no candidate can be scored at all.

    Attributes:
        device: what candidates run on; several names where the live model is spread over several devices.
    """

    def __init__(
        self, live: LiveModels, harness: LmHarness, *, stop: StopSignal, log_lines: Sequence[str] = ()
    ) -> None:
        self._live = live
        self.device = " + ".join(map(str, live.devices))
        self.log_lines = tuple(log_lines)
        self._harness = harness
        self._stop = stop
        self._logged: set[object] = set()  # the places whose traceback stands in the log

    def run(self, job: Job) -> Outcome:
        """Build and score one candidate.

        Raises:
            Interrupted: if the stop signal came while it was running.
        """
        outcome = self.run_units(job, UnitRange())
        assert isinstance(outcome, Outcome), "nobody else knows of this range, so no unit can be stolen"
        return outcome

    def run_units(self, job: Job, units: UnitRange) -> Outcome | PartialAnswers:
        """Build a candidate and answer its units in a range; see `Worker`.

        Raises:
            Interrupted: if the stop signal came while it was running.
        """
        start = time.perf_counter()
        try:
            try:
                self._live.write(job.recipe)
            except (RecipeError, CheckpointError) as error:
                return self._failed(job, State.INVALID, error, start)
            built = time.perf_counter() - start
            model, tokenizer = self._live.model, self._live.tokenizer
            asked = (model, tokenizer, job.split, job.items)
            answers = self._harness.answers(*asked, units, should_stop=self._stop.now)
            if not units.whole:
                seconds = time.perf_counter() - start
                return PartialAnswers(units.first, units.end, units.n_units or 0, answers, seconds)
            texts: list[ItemAnswer] = []
            scores = self._harness.scores(*asked, [answers], texts)
        except BaseException as error:  # a metric may call sys.exit, which no `Exception` is
            if self._ends_the_search(error):
                raise
            return self._failed(job, State.FAILED, error, start)
        seconds = time.perf_counter() - start
        return Outcome(job, State.COMPLETE, scores, seconds, self.device, answers=tuple(texts), build_seconds=built)

    def finish(self, job: Job, answers: Sequence[Answers]) -> Outcome:
        """Score a candidate by the answers to all of its units; see `Worker`.

        The candidate is built again, unless this worker built it last: its tokenizer and context length are needed.
        """
        start = time.perf_counter()
        try:
            if self._live.recipe != job.recipe:
                self._live.write(job.recipe)
            asked = (self._live.model, self._live.tokenizer, job.split, job.items)
            texts: list[ItemAnswer] = []
            scores = self._harness.scores(*asked, answers, texts)
        except BaseException as error:
            if self._ends_the_search(error):
                raise
            return self._failed(job, State.FAILED, error, start)
        seconds = time.perf_counter() - start
        return Outcome(job, State.COMPLETE, scores, seconds, self.device, answers=tuple(texts))

    def _ends_the_search(self, error: BaseException) -> bool:
        """Return whether an error is no matter of the candidate."""
        if isinstance(error, KeyboardInterrupt):
            # Where Ctrl-C is a request to stop, and nobody made one, anybody's code raised this.
            return not self._stop.takes_signals or self._stop.draining
        if isinstance(error, Interrupted):
            return self._stop.now()
        return isinstance(error, ConfigError)

    def _failed(self, job: Job, state: State, error: BaseException, start: float) -> Outcome:
        """Return the outcome of a candidate that could not be built or scored."""
        own = isinstance(error, EvomergeError)  # its text says what was done
        fault = fault_of(error)
        text = error_text(error, name=not own)
        if fault == Fault.MEMORY and not own:
            text = f"out of memory while scoring: {text}"
        self._log(job, error.__cause__ if own else error)
        return Outcome(job, state, (), time.perf_counter() - start, self.device, text, fault)

    def _log(self, job: Job, error: BaseException | None) -> None:
        """Write the traceback of an error that nobody raised on purpose to the log; of each place once."""
        if error is None or isinstance(error, EvomergeError):
            return
        frames = traceback.extract_tb(error.__traceback__)
        place = (type(error).__name__, *((frames[-1].filename, frames[-1].lineno) if frames else ()))
        if place not in self._logged:
            self._logged.add(place)
            text = cut("".join(traceback.format_exception(error)), STORED_LENGTH)
            log.info("candidate %d failed; such tracebacks are logged once:\n%s", job.candidate, text)
