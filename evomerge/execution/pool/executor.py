"""The Ray executor: workers in processes of their own, on one machine or many, that may fail, join and leave.

Ray places the processes (one actor for each worker) and reports when one is gone; this module decides what follows. A
worker that is lost, hangs, or breaks is replaced rather than trusted again, and its job goes to another worker. After
`MAX_ATTEMPTS` failures the candidate has failed, for the reasons of all attempts. An answer to an attempt that was
given up is dropped, so each job comes back once. The `WorkQueue` knows who works on what.

Actors belong to this process: when it ends, for whatever reason, Ray ends them.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError, ExecutionError, Fault, Interrupted
from evomerge.execution.base import Executor, PartialAnswers, StopSignal
from evomerge.execution.pool.actor import MakeWorker, RayWorker, WorkerContext, to_plain
from evomerge.execution.pool.answers import (
    JobAnswer,
    JobCancelled,
    JobDone,
    StartAnswer,
    WorkerBroken,
    WorkerReady,
    WorkerRefused,
)
from evomerge.execution.pool.cluster import Cluster, alive_nodes, gpus_of_a_worker, places
from evomerge.execution.pool.deadline import Deadline
from evomerge.execution.pool.queue import WorkQueue
from evomerge.execution.pool.ranges import WorkRange
from evomerge.execution.pool.settings import PoolSettings
from evomerge.execution.pool.workers import WorkerHandle, WorkerPool, WorkerState
from evomerge.record import Job, Outcome, State
from evomerge.system.stopwatch import summed

log = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
"""How many workers in a row may fail to start before no further one is tried."""

RETRY_SECONDS = 60.0
"""How long after a failed start, while other workers work, starting is tried again."""

POLL_SECONDS = 0.2
REFRESH_SECONDS = 3.0
"""How often the machines of the cluster are counted."""

START_SECONDS = 20.0
"""How long after the last worker got its place a search begins without the workers that have none yet."""

STOP_SECONDS = 10.0
"""How long a worker that was told to stop may take; longer than a forward pass, shorter than a user's patience."""

RESUME = "; the run is safe: `evomerge resume RUN` continues it when there are workers again"

OTHER_AUTHENTICATION = (
    " (which is what Ray says where the cluster was started without token authentication, but a token is on this "
    "machine: set RAY_AUTH_MODE=disabled here, or start the cluster with RAY_AUTH_MODE=token)"
)


class RayExecutor(Executor):
    """Runs jobs in a pool of Ray actors; see the module's docstring.

    Args:
        make: makes the worker, in each actor's process.
        cluster: where the processes run.
        settings: how many workers to start, and of what size.
        stop: the stop signal of the search, which reaches the workers too.

    Attributes:
        pool: the workers.
        settings: how many workers are wanted, and of what size; changes take effect within a few seconds.

    Raises:
        ExecutionError: if there is no cluster, or no worker can be started.
        CheckpointError: if parents are missing on a machine, or differ from the driver's, so that no worker can run.
    """

    concurrent = True

    def __init__(
        self,
        make: MakeWorker,
        *,
        cluster: Cluster | None = None,
        settings: PoolSettings | None = None,
        stop: StopSignal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = WorkerPool(clock)
        self._queue = WorkQueue(self.pool, send=self._send, cancel=self._cancel, clock=clock)
        self._make = make
        self._cluster = cluster or Cluster()
        self.settings = settings or PoolSettings()
        self._deadline = Deadline(self.settings.timeout, self.settings.n_items)
        self._stop = stop or StopSignal()
        self._clock = clock
        self._calls: dict[Any, WorkerHandle] = {}  # pending answer (to a start, a job) -> the worker that will give it
        self._where: dict[Any, WorkerHandle] = {}  # the same, for the question where a worker is
        self._outcomes: deque[Outcome] = deque()
        self._tickets = 0
        self._halvings = 0
        self._failed_starts = 0
        self._failed_at = -math.inf
        self._restarted = False
        self._refreshed = -math.inf
        self._wanted = 0
        self._placed_at = clock()  # when the last worker got its place
        self._manned_at = clock()  # when there was last a worker with a place
        self._closed = False
        self._cluster.connect()
        try:
            self._connected()
            self._await_workers()
        except BaseException:
            self.close()
            raise

    # --- the contract --------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many workers are ready (at least 1: jobs wait while there is none)."""
        return max(1, self.pool.n_ready)

    def submit(self, job: Job) -> None:
        """Queue a job, or give it to a worker that is idle."""
        self._queue.add(job)
        self._queue.assign()

    def collect(self) -> Outcome:
        """Wait until any job is done.

        Raises:
            RuntimeError: if no job is outstanding.
            Interrupted: if the stop signal came; all outstanding jobs are dropped.
            ExecutionError: if there are no workers any more.
        """
        if not (self._queue or self._outcomes):
            raise RuntimeError("collect was called, but no job is outstanding; submit one first")
        while not self._outcomes:
            if self._stop.now():
                self._drop_jobs()
                raise Interrupted("stopped as asked; everything scored so far is in the run")
            self._step()
        return self._outcomes.popleft()

    def more(self) -> Sequence[Outcome]:
        """Return the outcomes that arrived together with the last one."""
        outcomes = list(self._outcomes)
        self._outcomes.clear()
        return outcomes

    def close(self) -> None:
        """End the workers, and the cluster if it was started for them."""
        self._forget()
        if not self._closed:
            self._closed = True
            for worker in self.pool:
                self._kill(worker)
            self._cluster.disconnect()

    def report(self) -> dict[str, Any]:
        """Return what the workers are doing, as plain data; see `WorkerPool.report`."""
        return {"executor": "ray", "address": self._cluster.address or "this machine", **self.pool.report()}

    # --- the pool ------------------------------------------------------------------------------------------------

    def _await_workers(self) -> None:
        """Start the workers, and wait until all those with a place are ready."""
        while True:
            self._step()
            opening = [worker for worker in self.pool if worker.state in (WorkerState.WAITING, WorkerState.OPENING)]
            late = self._clock() - self._placed_at > START_SECONDS
            if self.pool.n_ready and (
                not opening or (late and all(one.state == WorkerState.WAITING for one in opening))
            ):
                return
            if self._stop.draining or self._stop.now():
                raise Interrupted("stopped as asked, before the workers were ready")

    def _step(self) -> None:
        """Wait a moment for answers, and handle those that came."""
        import ray

        if self._clock() - self._refreshed >= REFRESH_SECONDS:
            self._refresh()
        self._queue.assign()
        if self.settings.share:
            self._steal()
        waiting = [*self._calls, *self._where, *self._queue.steal_requests]
        if not waiting:
            time.sleep(POLL_SECONDS)
        else:
            ray.wait(waiting, num_returns=1, timeout=POLL_SECONDS)
            for ref in ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]:
                self._hear(ref)
        self._check_deadlines()
        self._queue.assign()

    def _hear(self, ref: Any) -> None:
        """Handle the answer to one call."""
        import ray

        if ref in self._queue.steal_requests:
            self._stolen(ref)
            return
        placing = ref in self._where
        worker = (self._where if placing else self._calls).pop(ref, None)
        if worker is None or worker not in self.pool:
            return
        try:
            if not placing and worker.node is None:  # messages name the machine, so it must be known first
                for where in [where for where, one in self._where.items() if one is worker]:
                    del self._where[where]
                    self._place(worker, ray.get(where, timeout=STOP_SECONDS))
            value = ray.get(ref)
        except ray.exceptions.RayError as error:
            # Ray kills the process of a worker when the machine's memory is nearly used up.
            self._lost(worker, _short(error), memory=isinstance(error, ray.exceptions.OutOfMemoryError))
            return
        if placing:
            self._place(worker, value)
        else:
            self._answered(worker, value)

    def _place(self, worker: WorkerHandle, where: tuple[str, int]) -> None:
        self.pool.place(worker, *where)
        self._placed_at = self._clock()

    def _answered(self, worker: WorkerHandle, answer: StartAnswer | JobAnswer) -> None:
        work = self._queue.running.pop(worker.number, None)
        match answer:
            case WorkerReady(device, log_lines):
                self.pool.open(worker, device)
                self._failed_starts = 0
                log.info("%s is ready, with %s", worker.label, "; ".join((device, *log_lines)))
            case WorkerRefused(reason):
                self._refuse(worker, reason)
            case WorkerBroken(reason) if not worker.ready:
                self._lost(worker, reason)
            case _ if work is None:  # its job was cancelled, so the answer does not matter
                self.pool.finish(worker, answered=False)
            case WorkerBroken(reason):
                self._queue.running[worker.number] = work
                self._lost(worker, reason)
            case JobCancelled():  # nobody here asked for that
                self.pool.finish(worker, answered=False)
                self._retry(worker, work, "it stopped by itself")
            case PartialAnswers():
                self.pool.finish(worker, answered=False)
                self._queue.add_partial(worker, work, answer)
            case JobDone():
                self._done(worker, work, answer)

    def _done(self, worker: WorkerHandle, work: WorkRange, done: JobDone) -> None:
        if done.state == State.FAILED and done.fault is not None:
            # The process, or its memory, may be what is broken, so the candidate gets another worker.
            self._queue.running[worker.number] = work
            self._lost(worker, done.error or str(done.fault), memory=done.fault == Fault.MEMORY)
            return
        pool_job, job = work.pool_job, work.pool_job.job
        if done.state != State.COMPLETE and work.first > 0:
            # An earlier unit might fail in another way: a worker that runs all units says what a lone worker would say.
            self.pool.finish(worker, answered=False)
            self._queue.restart_undivided(pool_job)
            return
        self.pool.finish(worker, answered=True)
        seconds = done.seconds + sum(partial.seconds for partial in pool_job.partials)
        if done.state == State.COMPLETE:
            self._deadline.note(job, seconds)
        where = f"{done.device}, {worker.label}"
        built = done.build_seconds if not pool_job.partials else 0.0
        outcome = Outcome(
            job,
            done.state,
            done.scores,
            seconds,
            where,
            done.error,
            answers=done.answers,
            build_seconds=built,
            parts=summed([done.parts, *(partial.parts for partial in pool_job.partials)]),
        )
        self._queue.withdraw(pool_job)
        self._outcomes.append(outcome)

    def _refuse(self, worker: WorkerHandle, message: str) -> None:
        """Handle a worker that cannot work on its machine: a mistake of the user's, unless other workers can."""
        message = f"{worker.label} cannot work: {message}"
        self._remove(worker)
        if not self.pool.n_ready and not self._restarted and not self._queue.running:
            raise CheckpointError(message)
        log.warning("%s", message)
        self._start_failed(message)

    def _lost(self, worker: WorkerHandle, reason: str, *, memory: bool = False) -> None:
        """Replace a worker, and give its job to another."""
        if memory:
            self._halvings += 1
            log.warning("%s ran out of memory: from now on, new workers begin with half the batch size", worker.label)
        work, was_ready = self._queue.running.pop(worker.number, None), worker.ready
        log.warning("%s was lost (%s): %s", worker.label, worker.state, reason)
        self._remove(worker)
        self._refreshed = -math.inf  # perhaps its machine is gone
        if work is not None and worker.state != WorkerState.STOPPING:
            self._retry(worker, work, reason)
        if not was_ready:
            self._start_failed(reason)

    def _retry(self, worker: WorkerHandle, work: WorkRange, reason: str) -> None:
        error = self._queue.retry(worker, work, reason)
        if error is not None:
            log.warning("candidate %d: %s", work.pool_job.job.candidate, error)
            self._outcomes.append(Outcome(work.pool_job.job, State.FAILED, (), 0.0, worker.device or "", error))

    def _remove(self, worker: WorkerHandle) -> None:
        self._kill(worker)
        for calls in (self._calls, self._where):
            for ref in [ref for ref, one in calls.items() if one is worker]:
                del calls[ref]
        self.pool.remove(worker)
        self._queue.remove(worker)

    def _kill(self, worker: WorkerHandle) -> None:
        import ray

        try:
            ray.kill(worker.actor)
        except Exception as error:  # the cluster or the actor may be gone already, with nothing left to kill
            log.debug("%s could not be killed: %s", worker.label, error)

    def _send(self, worker: WorkerHandle, work: WorkRange) -> None:
        self._tickets += 1
        work.ticket, job = self._tickets, to_plain(work.pool_job.job)
        if work.answers is None:
            ref = worker.actor.run.remote(work.ticket, job, work.first, work.end)
        else:
            ref = worker.actor.finish.remote(work.ticket, job, work.answers)
        self._calls[ref] = worker

    def _cancel(self, worker: WorkerHandle, work: WorkRange) -> None:
        worker.actor.cancel.options(concurrency_group="control").remote(work.ticket)
        self.pool.stop(worker)

    def _steal(self) -> None:
        """Ask busy workers for units of their candidates, so that idle workers can answer them."""
        for worker, work in self._queue.victims():
            ref = worker.actor.steal.options(concurrency_group="control").remote(work.ticket)
            self._queue.steal_requests[ref] = worker, work

    def _stolen(self, ref: Any) -> None:
        import ray

        _, work = self._queue.steal_requests.pop(ref)
        try:
            stolen = ray.get(ref)
        except ray.exceptions.RayError:  # the worker is gone, which another message reports
            stolen = None
        self._queue.add_stolen(work, stolen)

    def _check_deadlines(self) -> None:
        for worker in self.pool:
            late = self._clock() - worker.since
            work = self._queue.running.get(worker.number)
            timeout = None if work is None else self._deadline.of(work.pool_job.job)
            if worker.state == WorkerState.BUSY and timeout is not None and late > timeout:
                self._lost(worker, f"no answer within {timeout:g} s (execution.timeout is {self.settings.timeout})")
            elif worker.state == WorkerState.STOPPING and late > STOP_SECONDS:
                self._lost(worker, f"it did not stop within {STOP_SECONDS:g} s")

    def _drop_jobs(self) -> None:
        """Forget all jobs, and tell the workers to stop."""
        for worker in self.pool:
            if worker.state == WorkerState.BUSY:
                self._cancel(worker, self._queue.running[worker.number])
        self._forget()

    def _forget(self) -> None:
        self._queue.clear()
        self._outcomes.clear()

    # --- the cluster ---------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self._gpus = gpus_of_a_worker(self.settings.gpus)

    def _refresh(self) -> None:
        """Count the machines; start workers, or give up those without a place."""
        self._refreshed = self._clock()
        nodes = alive_nodes()
        if not nodes:
            self._reconnect()
            return
        per_node = [places(node["Resources"], cpus=self.settings.cpus, gpus=self._gpus) for node in nodes]
        wanted = self.settings.workers if self.settings.workers is not None else sum(per_node)
        if wanted != self._wanted:
            log.info("%d workers are wanted, %d fit into %d machines", wanted, sum(per_node), len(nodes))
            self._wanted = wanted
        if not wanted and not len(self.pool):
            self._lack(f"no machine of the cluster has the {self._size()} that a worker takes")
        waiting = [worker for worker in self.pool if worker.state == WorkerState.WAITING]
        for worker in waiting[: max(0, len(self.pool) - wanted)]:
            self._remove(worker)  # the machine for which it was meant is gone
        neighbours = max(1, min(wanted, max(per_node, default=1)))
        if self._clock() - self._failed_at > RETRY_SECONDS:
            self._failed_starts = 0
        while len(self.pool) < wanted and self._failed_starts < MAX_FAILED_STARTS:
            self._start(neighbours)
        if any(worker.state != WorkerState.WAITING for worker in self.pool):
            self._manned_at = self._clock()
        elif self._clock() - self._manned_at > self.settings.patience:
            self._lack(f"no worker got the {self._size()} that it takes within {self.settings.patience:g} s")

    def _size(self) -> str:
        gpus = f" and {self._gpus:g} GPUs" if self._gpus else ""
        return f"{self.settings.cpus:g} CPUs{gpus}"

    def _lack(self, what: str) -> None:
        if self._cluster.is_own:
            raise ExecutionError(f"{what}; lower execution.cpus_per_worker or execution.gpus_per_worker")
        if self._clock() - self._manned_at > self.settings.patience:
            raise ExecutionError(what + RESUME)

    def _start(self, neighbours: int) -> None:
        import ray

        actor = ray.remote(
            num_cpus=self.settings.cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            concurrency_groups={"control": 1},
            scheduling_strategy="SPREAD",
        )(RayWorker)
        per_device = max(1, round(1.0 / self._gpus)) if self._gpus else 1
        folder = None if self._cluster.runtime_env.get("working_dir") else str(Path.cwd())
        context = WorkerContext(neighbours, min(per_device, neighbours), self._halvings)
        handle = actor.remote(self._make, context, folder, self._cluster.secret_variables)
        worker = self.pool.add(handle)
        self._where[handle.where.options(concurrency_group="control").remote()] = worker
        self._calls[handle.open.remote()] = worker

    def _reconnect(self) -> None:
        """Start our own cluster again, once; every worker that ran in it is gone."""
        if not self._cluster.is_own or self._restarted:
            raise ExecutionError("all machines of the Ray cluster are gone" + RESUME)
        log.warning("Ray ended on this machine; starting it again, once")
        self._restarted = True
        for worker in self.pool:
            work = self._queue.running.pop(worker.number, None)
            self.pool.remove(worker)
            if work is not None:
                self._retry(worker, work, "Ray ended on its machine")
            self._queue.remove(worker)
        self._calls.clear()
        self._where.clear()
        self._cluster.disconnect()
        self._cluster.connect()
        self._connected()
        self._failed_starts = 0
        self._refreshed = -math.inf

    def _start_failed(self, reason: str) -> None:
        self._failed_starts += 1
        self._failed_at = self._clock()
        if self._failed_starts < MAX_FAILED_STARTS or self.pool.n_ready or not alive_nodes():
            return
        hint = "" if self._cluster.is_own or "never ran" not in reason else OTHER_AUTHENTICATION
        raise ExecutionError(
            f"{self._failed_starts} workers in a row could not be started; the last: {reason}{hint}{RESUME}"
        )


def _short(error: Exception) -> str:
    """Return the informative part of one of Ray's messages, which fill pages."""
    lines = [line.strip() for line in str(error).splitlines()]
    skipped = ("class_name:", "actor_id:", "namespace:", "pid:", "ip:", "name:")
    return " ".join(line for line in lines if line and not line.startswith(skipped))[:400] or type(error).__name__
