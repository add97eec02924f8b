"""A worker: its live models and one set of prepared tasks. The only place where merging meets evaluation."""

from __future__ import annotations

import time
from typing import Protocol

from evomerge.errors import CheckpointError, EvaluationError, RecipeError
from evomerge.evaluation.lm_harness import LmHarness
from evomerge.execution.base import StopSignal
from evomerge.merge.live import LiveModels
from evomerge.record import ItemScore, Job, Outcome, State


class Works(Protocol):
    """What an executor needs of a worker."""

    def run(self, job: Job) -> Outcome:
        """Build and score one candidate."""
        ...


class Worker:
    """Builds each candidate in its live models and scores it there; nothing is written to disk.

    A candidate's own faults (a refused recipe, weights or logits that are not finite, a generation that fails, memory
    that runs out) become its outcome. Anything else is a bug and is raised.

    Attributes:
        device: that candidates run on; several, where the live model is spread over them.
        told: what is to be logged of its start, where the log is.
    """

    told: tuple[str, ...] = ()

    def __init__(self, live: LiveModels, harness: LmHarness, *, stop: StopSignal) -> None:
        self._live = live
        self.device = " + ".join(map(str, live.devices))
        self._harness = harness
        self._stop = stop

    def run(self, job: Job) -> Outcome:
        """Build and score one candidate.

        Raises:
            Interrupted: if the stop signal came while it was running.
        """
        start = time.perf_counter()

        def outcome(state: State, scores: tuple[ItemScore, ...] = (), error: str | None = None) -> Outcome:
            return Outcome(job, state, scores, time.perf_counter() - start, self.device, error)

        try:
            self._live.write(job.recipe)
        except (RecipeError, CheckpointError) as error:
            return outcome(State.INVALID, error=str(error))
        try:
            scores = self._harness.score(
                self._live.model,
                self._live.tokenizer,
                job.split,
                items=job.items,
                should_stop=self._stop.now,
            )
        except EvaluationError as error:
            return outcome(State.FAILED, error=str(error))
        except RuntimeError as error:
            # torch reports exhausted memory as a RuntimeError (a subclass on CUDA, a bare one on CPU).
            if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
                return outcome(State.FAILED, error=f"out of memory while scoring: {error}")
            raise
        return outcome(State.COMPLETE, scores)
