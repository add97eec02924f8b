"""A worker with live models and prepared tasks: the only place where merging meets evaluation."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evomerge.errors import CheckpointError, EvaluationError, Fault, RecipeError
from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.harness import LmHarness
from evomerge.execution.base import PartialAnswers, StopSignal, Worker
from evomerge.merge.live.models import LiveModels
from evomerge.record import ItemScore, Job, Outcome, State
from evomerge.system.faults import fault_of, is_out_of_memory


class LiveWorker(Worker):
    """Builds each candidate in its live models and scores it there; nothing is written to disk.

    A candidate's own faults (a refused recipe, weights or logits that are not finite, a generation that fails) and
    memory that runs out become its outcome. Any other error is a bug and is raised.

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

        def outcome(
            state: State,
            scores: tuple[ItemScore, ...] = (),
            error: str | None = None,
            fault: Fault | None = None,
        ) -> Outcome:
            return Outcome(job, state, scores, time.perf_counter() - start, self.device, error, fault)

        try:
            self._live.write(job.recipe)
        except (RecipeError, CheckpointError) as error:
            return outcome(State.INVALID, error=str(error))
        try:
            model, tokenizer = self._live.model, self._live.tokenizer
            asked = (model, tokenizer, job.split, job.items)
            answers = self._harness.answers(*asked, units, should_stop=self._stop.now)
            if not units.whole:
                seconds = time.perf_counter() - start
                return PartialAnswers(units.first, units.end, units.n_units or 0, answers, seconds)
            scores = self._harness.scores(*asked, [answers])
        except EvaluationError as error:
            return outcome(State.FAILED, error=str(error), fault=error.fault)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return outcome(State.FAILED, error=f"out of memory while scoring: {error}", fault=fault_of(error))
        return outcome(State.COMPLETE, scores)

    def finish(self, job: Job, answers: Sequence[Answers]) -> Outcome:
        """Score a candidate by the answers to all of its units; see `Worker`.

        The candidate is built again, unless this worker built it last: its tokenizer and context length are needed.
        """
        start = time.perf_counter()
        error: str | None = None
        fault: Fault | None = None
        scores: tuple[ItemScore, ...] = ()
        try:
            if self._live.recipe != job.recipe:
                self._live.write(job.recipe)
            scores = self._harness.scores(self._live.model, self._live.tokenizer, job.split, job.items, answers)
        except (EvaluationError, RecipeError, CheckpointError) as problem:
            error, fault = str(problem), fault_of(problem)
        state = State.COMPLETE if error is None else State.FAILED
        return Outcome(job, state, scores, time.perf_counter() - start, self.device, error, fault)
