"""A worker with live models and prepared tasks: the only place where merging meets evaluation."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from evomerge.errors import CheckpointError, ConfigError, EvomergeError, Fault, Interrupted, RecipeError
from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.harness import LmHarness
from evomerge.execution.base import PartialAnswers, StopSignal, Worker
from evomerge.merge.live.models import LiveModels
from evomerge.record import ItemAnswer, Job, Outcome, State
from evomerge.system.faults import fault_of
from evomerge.system.stopwatch import Mark, Stopwatch
from evomerge.system.text import STORED_LENGTH, cut, error_text

log = logging.getLogger(__name__)

PARTS = ("merge", "prefill", "decode", "engine", "scoring")
"""What the time of a candidate goes into; what is left of its seconds belongs to none of them.

merge: writing the recipe into the live model; prefill, decode: the model's forward passes over prompts, and over one
more token per row; engine: everything around the passes (batches, masks, decoded texts, stop rules; with vLLM its
passes, too); scoring: filters and metrics.

Nothing waits for a GPU to be timed. On one GPU passes are timed by events in its stream, which is what the device took
for them; of a merge, what launching it took, while the rest of its work counts as engine, where it is waited for. Where
a model is spread over several GPUs, or lies on another accelerator, passes count as engine, too.
"""


class LiveWorker(Worker):
    """Builds each candidate in its live models and scores it there; nothing is written to disk.

    Whatever goes wrong while a candidate is built or scored is its outcome, whichever exception it is: merge methods,
    tasks and metrics are anybody's code, which may raise anything or call `sys.exit`. Raised are only `Interrupted`,
    Ctrl-C, and a `ConfigError`, which says that no candidate can be scored at all.

    Attributes:
        device: what candidates run on; several names where the live model is spread over several devices.

    Args:
        stopwatch: takes the time of what a candidate goes through; None: one that waits for nothing.
    """

    def __init__(
        self,
        live: LiveModels,
        harness: LmHarness,
        *,
        stop: StopSignal,
        log_lines: Sequence[str] = (),
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._live = live
        self.device = " + ".join(map(str, live.devices))
        self.log_lines = tuple(log_lines)
        self._harness = harness
        self._stopwatch = stopwatch or _stopwatch(live.devices)
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
        start = self._begin()
        try:
            try:
                self._write(job)
            except (RecipeError, CheckpointError) as error:
                return self._failed(job, State.INVALID, error, start)
            built = time.perf_counter() - start
            model, tokenizer = self._live.model, self._live.tokenizer
            asked = (model, tokenizer, job.split, job.items)
            answers = self._harness.answers(*asked, units, should_stop=self._stop.now)
            if not units.whole:
                seconds = time.perf_counter() - start
                return PartialAnswers(units.first, units.end, units.n_units or 0, answers, seconds, self._parts())
            texts: list[ItemAnswer] = []
            scores = self._harness.scores(*asked, [answers], texts)
        except BaseException as error:  # a metric may call sys.exit, which no `Exception` is
            if self._ends_the_search(error):
                raise
            return self._failed(job, State.FAILED, error, start)
        seconds = time.perf_counter() - start
        return Outcome(
            job,
            State.COMPLETE,
            scores,
            seconds,
            self.device,
            answers=tuple(texts),
            build_seconds=built,
            parts=self._parts(),
        )

    def finish(self, job: Job, answers: Sequence[Answers]) -> Outcome:
        """Score a candidate by the answers to all of its units; see `Worker`.

        The candidate is built again, unless this worker built it last: its tokenizer and context length are needed.
        """
        start = self._begin()
        try:
            if self._live.recipe != job.recipe:
                self._write(job)
            asked = (self._live.model, self._live.tokenizer, job.split, job.items)
            texts: list[ItemAnswer] = []
            scores = self._harness.scores(*asked, answers, texts)
        except BaseException as error:
            if self._ends_the_search(error):
                raise
            return self._failed(job, State.FAILED, error, start)
        seconds = time.perf_counter() - start
        return Outcome(job, State.COMPLETE, scores, seconds, self.device, answers=tuple(texts), parts=self._parts())

    def _begin(self) -> float:
        """Begin to take a job's time; return when that was."""
        self._harness.timer = self._stopwatch
        self._before = self._stopwatch.seconds
        return time.perf_counter()

    def _write(self, job: Job) -> None:
        with self._stopwatch.section("merge"):
            self._live.write(job.recipe)

    def _parts(self) -> Mapping[str, float]:
        """Return what was taken since the job began."""
        now = self._stopwatch.seconds
        return {name: now[name] - self._before.get(name, 0.0) for name in PARTS if name in now}

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
        seconds = time.perf_counter() - start
        return Outcome(job, state, (), seconds, self.device, text, fault, parts=self._parts())

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


def _stopwatch(devices: Sequence[Any]) -> Stopwatch:
    """Return what takes the time of passes on these devices without waiting for them; see `PARTS`."""
    kinds = {getattr(device, "type", "cpu") for device in devices}
    if kinds == {"cpu"}:
        return Stopwatch()
    return Stopwatch(marks=_marks(devices[0])) if kinds == {"cuda"} and len(devices) == 1 else _Coarse()


def _marks(device: Any) -> Callable[[], Mark]:
    """Return what makes CUDA events in the stream in which a device works."""
    import torch

    class Event:
        def __init__(self) -> None:
            self._event = torch.cuda.Event(enable_timing=True)

        def record(self) -> None:
            self._event.record(torch.cuda.current_stream(device))

        def query(self) -> bool:
            return bool(self._event.query())

        def elapsed_time(self, end: Event) -> float:
            return float(self._event.elapsed_time(end._event))

    return Event


class _Coarse(Stopwatch):
    """Does not tell passes apart from what is around them."""

    @contextmanager
    def passes(self, model: Any) -> Iterator[None]:
        """Take no time."""
        yield
