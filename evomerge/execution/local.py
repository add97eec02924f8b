"""The local executor: candidates run one after another in this process. It needs no cluster."""

from __future__ import annotations

from collections import deque

from evomerge.errors import ExecutionError, Fault
from evomerge.execution.base import Executor, Worker
from evomerge.record import Job, Outcome


class LocalExecutor(Executor):
    """Runs each job in this process when it is collected, in the order of submission."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._jobs: deque[Job] = deque()
        self._broken: str | None = None

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.append(job)

    def collect(self) -> Outcome:
        """Run the oldest job.

        Raises:
            RuntimeError: if no job is outstanding.
            Interrupted: if the stop signal came while it was running; the job is dropped.
            ExecutionError: if the device failed under an earlier job, whose outcome says how: every further candidate
                would fail in this process, whatever it is.
        """
        if self._broken is not None:
            raise ExecutionError(
                f"the device failed, and this process cannot use it any more ({self._broken}); everything scored so "
                "far is in the run: `evomerge resume RUN` goes on in a new process"
            )
        if not self._jobs:
            raise RuntimeError("collect was called, but no job is outstanding; submit one first")
        outcome = self._worker.run(self._jobs.popleft())
        if outcome.fault == Fault.DEVICE:
            self._broken = outcome.error
        return outcome

    def close(self) -> None:
        """Drop the queued jobs."""
        self._jobs.clear()
