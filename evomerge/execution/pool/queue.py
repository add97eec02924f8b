"""The work queue of a pool: what is next, who works on what, and work stealing. It does not know how workers run.

When there are fewer jobs than workers, idle workers steal units of busy workers' candidates: a busy worker, the victim,
is asked for units that it has not begun (`evaluation.engines.units`), and the partial answers are put together when all
units are answered (`ranges`). Together they are what one worker alone would have answered, bit for bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from evomerge.execution.base import PartialAnswers
from evomerge.execution.pool.ranges import PoolJob, WorkRange
from evomerge.execution.pool.workers import WorkerHandle, WorkerPool, WorkerState
from evomerge.record import Job

MAX_ATTEMPTS = 3
"""How many workers may fail on a job before the job itself has failed."""

ASK_SECONDS = 0.5
"""How long after it began its candidate, and after it was last asked, a worker is asked for units."""


class WorkQueue:
    """The work ranges that wait, and those that run, with their workers.

    Args:
        pool: the workers.
        send: gives a work range to an idle worker.
        cancel: makes a busy worker stop what it is doing.

    Attributes:
        waiting: the work ranges that wait, in the order in which they are assigned.
        running: a worker's number to the work range that it works on.
        steal_requests: the message to a victim, with the victim and its work range.
    """

    def __init__(
        self,
        pool: WorkerPool,
        *,
        send: Callable[[WorkerHandle, WorkRange], None],
        cancel: Callable[[WorkerHandle, WorkRange], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting: deque[WorkRange] = deque()
        self.running: dict[int, WorkRange] = {}
        self.steal_requests: dict[Any, tuple[WorkerHandle, WorkRange]] = {}
        self._pool = pool
        self._send, self._cancel = send, cancel
        self._clock = clock

    def __bool__(self) -> bool:
        """Return whether anything is outstanding."""
        return bool(self.waiting or self.running or self.steal_requests)

    def add(self, job: Job) -> None:
        """Queue a job."""
        self.waiting.append(PoolJob(job).add_range())

    def assign(self) -> None:
        """Give the work that has waited longest to the idle workers."""
        if not self.waiting:
            return
        for worker in self._pool:
            if worker.state == WorkerState.IDLE and self.waiting:
                self._assign(worker, self.waiting.popleft())

    def withdraw(self, pool_job: PoolJob) -> None:
        """Stop all work on a job, because its outcome is known or it begins anew."""
        if len(pool_job.ranges) > 1:
            self.waiting = deque(work for work in self.waiting if work.pool_job is not pool_job)
            for worker in self._pool:
                work = self.running.get(worker.number)
                if work is not None and work.pool_job is pool_job:
                    del self.running[worker.number]
                    self._cancel(worker, work)
        for _, work in self.steal_requests.values():
            work.withdrawn |= work.pool_job is pool_job
        pool_job.ranges.clear()
        pool_job.partials.clear()

    def retry(self, worker: WorkerHandle, work: WorkRange, reason: str) -> str | None:
        """Queue work on which a worker failed for another worker; return all reasons if it failed too often."""
        pool_job = work.pool_job
        pool_job.reasons.append(f"{worker.label}: {reason}")
        if len(pool_job.reasons) < MAX_ATTEMPTS:
            self._pool.retries += 1
            self.waiting.appendleft(work)
            return None
        self.withdraw(pool_job)
        return f"it failed on {len(pool_job.reasons)} workers: " + "; ".join(pool_job.reasons)

    def restart_undivided(self, pool_job: PoolJob) -> None:
        """Begin a job anew, with all of its units for one worker."""
        self.withdraw(pool_job)
        pool_job.undivided = True
        self.waiting.appendleft(pool_job.add_range())

    def clear(self) -> None:
        """Forget all jobs."""
        for jobs in (self.waiting, self.running, self.steal_requests):
            jobs.clear()

    # --- work stealing --------------------------------------------------------------------------------------------

    def victims(self) -> Iterator[tuple[WorkerHandle, WorkRange]]:
        """Yield the workers to steal from, those busy for longest first, at most one for each idle worker.

        The caller sends the request to each of them, and notes it in `steal_requests`.
        """
        idle = sum(worker.state == WorkerState.IDLE for worker in self._pool) - len(self.steal_requests)
        if idle <= 0 or self.waiting:
            return
        now, asked = self._clock(), [worker for worker, _ in self.steal_requests.values()]
        for worker in sorted(self._pool, key=lambda one: one.since):
            work = self.running.get(worker.number)
            if worker.state != WorkerState.BUSY or worker in asked or work is None:
                continue
            if work.answers is not None or work.pool_job.undivided:
                continue
            if now - max(worker.since, work.asked_at) > ASK_SECONDS:
                work.asked_at = now
                work.pool_job.n_steal_requests += 1
                yield worker, work
                idle -= 1
                if not idle:
                    return

    def add_stolen(self, work: WorkRange, stolen: tuple[int, int] | None) -> None:
        """Queue the units that were stolen from a work range.

        Args:
            work: the victim's work range, which is no longer in `steal_requests`.
            stolen: the first stolen unit, and the end (exclusive); None: the victim gave nothing.
        """
        pool_job = work.pool_job
        pool_job.n_steal_requests -= 1
        if work.withdrawn:
            return
        if stolen is not None:
            work.end = stolen[0]
            self.waiting.appendleft(pool_job.add_range(*stolen))
            self._pool.steals += 1
        elif work not in pool_job.ranges:
            self._complete(pool_job)

    def add_partial(self, worker: WorkerHandle, work: WorkRange, partial: PartialAnswers) -> None:
        """Keep partial answers; if no others are missing, have the job scored.

        Args:
            worker: the worker that gave them; it is idle.
            work: the work range that it answered.
            partial: the answers.
        """
        pool_job = work.pool_job
        if any(one.n_units != partial.n_units for one in pool_job.partials):
            self.restart_undivided(pool_job)  # the machines differ so much that they do not even cut it alike
            return
        pool_job.ranges.discard(work)
        pool_job.partials.append(partial)
        self._complete(pool_job, worker)

    def remove(self, worker: WorkerHandle) -> None:
        """Note that a worker is gone; units that were stolen from it but never arrived here are queued again."""
        for message in [message for message, (one, _) in self.steal_requests.items() if one is worker]:
            self.add_stolen(self.steal_requests.pop(message)[1], None)

    def _complete(self, pool_job: PoolJob, worker: WorkerHandle | None = None) -> None:
        """Queue the units of a job on which nobody works; if there are none, have the job scored.

        Args:
            worker: an idle worker that can score the job at once, since it holds the candidate.
        """
        if pool_job.ranges or pool_job.n_steal_requests:
            return
        missing = pool_job.missing()
        for first, end in missing:
            self.waiting.appendleft(pool_job.add_range(first, end))
        if not missing:
            last = pool_job.add_range()
            last.answers = [partial.answers for partial in pool_job.partials]
            if worker is not None:
                self._assign(worker, last)
            else:
                self.waiting.appendleft(last)

    def _assign(self, worker: WorkerHandle, work: WorkRange) -> None:
        self.running[worker.number] = work
        self._pool.assign(worker, work.pool_job.job.candidate)
        self._send(worker, work)
