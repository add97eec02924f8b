"""The local executor: candidates run one after another in this process. It needs no cluster."""

from __future__ import annotations

from collections import deque

from evomerge.execution.base import Executor, Worker
from evomerge.record import Job, Outcome


class LocalExecutor(Executor):
    """Runs each job in this process when it is collected, in the order of submission."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.append(job)

    def collect(self) -> Outcome:
        """Run the oldest job.

        Raises:
            RuntimeError: if no job is outstanding.
            Interrupted: if the stop signal came while it was running; the job is dropped.
        """
        if not self._jobs:
            raise RuntimeError("collect was called, but no job is outstanding; submit one first")
        return self._worker.run(self._jobs.popleft())

    def close(self) -> None:
        """Drop the queued jobs."""
        self._jobs.clear()
