"""The Ray executor: workers in processes of their own, on one machine or many, that may fail, join and leave.

Ray places the processes (one actor for each worker) and tells when one is gone; what follows from that is decided here.
A worker that was lost, hung, or broke is replaced, never trusted again, and its job goes to another one. After
`MAX_ATTEMPTS` the candidate has failed, with the reason of each attempt. An answer to an attempt that was given up is
dropped, so each job comes back once. Who does what, the `Board` knows.

Actors belong to this process: when it ends, whatever way, Ray ends them.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError, ExecutionError, Fault, Interrupted
from evomerge.execution.base import StopSignal
from evomerge.execution.pool.actor import Answer, Hints, MakeWorker, RayWorker, to_plain
from evomerge.execution.pool.chunks import Piece
from evomerge.execution.pool.cluster import Cluster, alive_nodes, gpus_of_a_worker, places
from evomerge.execution.pool.deadline import Deadline
from evomerge.execution.pool.queue import Board
from evomerge.execution.pool.workers import Crew, Duty, Member
from evomerge.record import Job, Outcome, Split, State

log = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
"""So many workers in a row may fail to start before nobody believes that the next one will."""

RETRY_SECONDS = 60.0
"""After so long, and while others work, it is tried again."""

POLL_SECONDS = 0.2
REFRESH_SECONDS = 3.0
"""How often the machines of the cluster are counted."""

START_SECONDS = 20.0
"""So long after the last worker got its place, a search begins without those that have none yet."""

STOP_SECONDS = 10.0
"""How long a worker that was told to stop may take; longer than a forward pass, shorter than a user's patience."""

RESUME = "; the run is safe: `evomerge resume RUN` continues it when there are workers again"


OTHER_AUTHENTICATION = (
    " (which is what Ray says where the cluster was started without token authentication, but a token is on this "
    "machine: set RAY_AUTH_MODE=disabled here, or start the cluster with RAY_AUTH_MODE=token)"
)


@dataclass(frozen=True)
class Demand:
    """What workers are wanted, and how long anything may take.

    Attributes:
        workers: how many; None: as many as fit into the cluster, counted anew all the time.
        cpus: of each worker.
        gpus: of each worker, a part of one or whole ones; None: one GPU where the cluster has any, else none.
        timeout: seconds that a candidate may take; "auto": see `Deadline`; None: for ever.
        n_items: how many items each split has, for that.
        patience: seconds without a single worker that has a place, after which the search gives up.
        share: whether idle workers take a part of what others are at.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    timeout: float | str | None = None
    n_items: Mapping[Split, int] = field(default_factory=dict)
    patience: float = 600.0
    share: bool = True


class RayExecutor:
    """Runs jobs in a pool of Ray actors; see the module.

    Args:
        make: makes what does the work, in each actor's process.
        cluster: where.
        demand: how many workers, and of what size.
        stop: is passed on to the workers.

    Attributes:
        crew: the workers.
        demand: what is wanted; it may be changed, and is looked at every few seconds.

    Raises:
        ExecutionError: if there is no cluster, or no worker can be started.
        CheckpointError: if a machine has no worker because its parents are missing, or others than the driver's.
    """

    def __init__(
        self,
        make: MakeWorker,
        *,
        cluster: Cluster | None = None,
        demand: Demand | None = None,
        stop: StopSignal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.crew = Crew(clock)
        self._board = Board(self.crew, send=self._send, halt=self._halt, clock=clock)
        self._make = make
        self._cluster = cluster or Cluster()
        self.demand = demand or Demand()
        self._deadline = Deadline(self.demand.timeout, self.demand.n_items)
        self._stop = stop or StopSignal()
        self._clock = clock
        self._refs: dict[Any, Member] = {}  # what is waited for
        self._asked: dict[Any, Member] = {}  # of workers that were just started: where they are
        self._outcomes: deque[Outcome] = deque()
        self._tickets = 0
        self._halvings = 0
        self._failed_starts = 0
        self._failed_at = -math.inf
        self._restarted = False
        self._refreshed = -math.inf
        self._wanted = 0
        self._placed_at = self._manned_at = clock()  # a worker was placed; any was there
        self._closed = False
        self._cluster.connect()
        try:
            self._connected()
            self._begin()
        except BaseException:
            self.close()
            raise

    # --- the contract --------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many workers are ready (at least 1: jobs wait while there is none)."""
        return max(1, self.crew.n_ready)

    def submit(self, job: Job) -> None:
        """Queue a job, or give it to a worker that is idle."""
        self._board.add(job)
        self._board.assign()

    def collect(self) -> Outcome:
        """Wait until any job is done.

        Raises:
            RuntimeError: if no job is outstanding.
            Interrupted: if the stop signal came; all outstanding jobs are gone.
            ExecutionError: if there are no workers any more.
        """
        if not (self._board or self._outcomes):
            raise RuntimeError("collect was called, but no job is outstanding; submit one first")
        while not self._outcomes:
            if self._stop.now():
                self._drop_jobs()
                raise Interrupted("stopped as asked; everything scored so far is in the run")
            self._step()
        return self._outcomes.popleft()

    def more(self) -> list[Outcome]:
        """Return the outcomes that came together with the last one."""
        outcomes = list(self._outcomes)
        self._outcomes.clear()
        return outcomes

    def close(self) -> None:
        """Send the workers away; a cluster that was started for them ends."""
        self._forget()
        if not self._closed:
            self._closed = True
            for member in self.crew:
                self._kill(member)
            self._cluster.disconnect()

    def report(self) -> dict[str, Any]:
        """Return what the workers do, as plain data; see `Crew.report`."""
        return {"executor": "ray", "address": self._cluster.address or "this machine", **self.crew.report()}

    # --- the pool ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start the workers and wait until all that have a place are ready."""
        while True:
            self._step()
            opening = [member for member in self.crew if member.duty in (Duty.WAITING, Duty.OPENING)]
            late = self._clock() - self._placed_at > START_SECONDS
            if self.crew.n_ready and (not opening or (late and all(one.duty == Duty.WAITING for one in opening))):
                return
            if self._stop.draining or self._stop.now():
                raise Interrupted("stopped as asked, before the workers were ready")

    def _step(self) -> None:
        """Wait a moment for news, and deal with them."""
        import ray

        if self._clock() - self._refreshed >= REFRESH_SECONDS:
            self._refresh()
        self._board.assign()
        if self.demand.share:
            self._divide()
        waiting = [*self._refs, *self._asked, *self._board.offers]
        if not waiting:
            time.sleep(POLL_SECONDS)
        else:
            ray.wait(waiting, num_returns=1, timeout=POLL_SECONDS)
            for ref in ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]:
                self._hear(ref)
        self._look_for_the_late()
        self._board.assign()

    def _hear(self, ref: Any) -> None:
        """Take what came of a call to a worker."""
        import ray

        if ref in self._board.offers:
            self._offered(ref)
            return
        placing = ref in self._asked
        member = (self._asked if placing else self._refs).pop(ref, None)
        if member is None or member not in self.crew:
            return
        try:
            if not placing and member.node is None:  # messages name the machine, so that comes first
                for asked in [asked for asked, one in self._asked.items() if one is member]:
                    del self._asked[asked]
                    self._place(member, ray.get(asked, timeout=STOP_SECONDS))
            value = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._lost(member, _short(error), memory=isinstance(error, ray.exceptions.OutOfMemoryError))
            return
        if placing:
            self._place(member, value)
        else:
            self._answered(member, value)

    def _place(self, member: Member, where: tuple[str, int]) -> None:
        self.crew.placed(member, *where)
        self._placed_at = self._clock()

    def _answered(self, member: Member, answer: Answer) -> None:
        kind, value = answer
        piece = self._board.pieces.pop(member.number, None)
        if kind == "ready":
            device, told = value
            self.crew.opened(member, device)
            self._failed_starts = 0
            log.info("%s is ready, with %s", member.label, "; ".join((device, *told)))
        elif kind == "refused":
            self._refuse(member, value)
        elif kind == "broken" and not member.ready:
            self._lost(member, value)
        elif kind == "stopped" or piece is None:
            self.crew.rests(member, answered=False)
            if piece is not None:  # nobody here asked for that
                self._again(member, piece, "it stopped by itself")
        elif kind == "broken":
            self._board.pieces[member.number] = piece
            self._lost(member, value)
        elif kind == "part":
            self.crew.rests(member, answered=False)
            self._board.add_part(member, piece, value)
        else:
            self._done(member, piece, *value)

    def _done(
        self,
        member: Member,
        piece: Piece,
        state: State,
        scores: Any,
        seconds: float,
        device: str,
        error: str | None,
        fault: Fault | None,
    ) -> None:
        if state == State.FAILED and fault is not None:
            # The process, or the memory that it has, may be what is broken: the candidate gets another one.
            self._board.pieces[member.number] = piece
            self._lost(member, error or str(fault), memory=fault == Fault.MEMORY)
            return
        task = piece.task
        if state != State.COMPLETE and piece.first > 0:
            # Before what is wrong here, something else may be: one worker says what a worker alone would have said.
            self.crew.rests(member, answered=False)
            self._board.alone(task)
            return
        self.crew.rests(member, answered=True)
        seconds += sum(part.seconds for part in task.parts)
        if state == State.COMPLETE:
            self._deadline.note(task.job, seconds)
        self._board.over(task)
        self._outcomes.append(Outcome(task.job, state, tuple(scores), seconds, f"{device}, {member.label}", error))

    def _refuse(self, member: Member, message: str) -> None:
        """Deal with a worker that cannot work where it is: a mistake of the user's, unless others can."""
        message = f"{member.label} cannot work: {message}"
        self._leave(member)
        if not self.crew.n_ready and not self._restarted and not self._board.pieces:
            raise CheckpointError(message)
        log.warning("%s", message)
        self._start_failed(message)

    def _lost(self, member: Member, reason: str, *, memory: bool = False) -> None:
        """Replace a worker, and give its job to another one."""
        if memory:
            self._halvings += 1
            log.warning("%s ran out of memory: from now on, new workers begin with half the batch size", member.label)
        piece, was_ready = self._board.pieces.pop(member.number, None), member.ready
        log.warning("%s was lost (%s): %s", member.label, member.duty, reason)
        self._leave(member)
        self._refreshed = -math.inf  # perhaps its machine is gone
        if piece is not None and member.duty != Duty.STOPPING:
            self._again(member, piece, reason)
        if not was_ready:
            self._start_failed(reason)

    def _again(self, member: Member, piece: Piece, reason: str) -> None:
        error = self._board.again(member, piece, reason)
        if error is not None:
            log.warning("candidate %d: %s", piece.task.job.candidate, error)
            self._outcomes.append(Outcome(piece.task.job, State.FAILED, (), 0.0, member.device or "", error))

    def _leave(self, member: Member) -> None:
        self._kill(member)
        for refs in (self._refs, self._asked):
            for ref in [ref for ref, one in refs.items() if one is member]:
                del refs[ref]
        self.crew.leaves(member)
        self._board.left(member)

    def _kill(self, member: Member) -> None:
        import ray

        try:
            ray.kill(member.handle)
        except Exception as error:  # the cluster, or the actor, may be gone; then there is nothing to kill
            log.debug("%s could not be killed: %s", member.label, error)

    def _send(self, member: Member, piece: Piece) -> None:
        self._tickets += 1
        piece.ticket, job = self._tickets, to_plain(piece.task.job)
        if piece.answers is None:
            ref = member.handle.run.remote(piece.ticket, job, piece.first, piece.end)
        else:
            ref = member.handle.finish.remote(piece.ticket, job, piece.answers)
        self._refs[ref] = member

    def _halt(self, member: Member, piece: Piece) -> None:
        member.handle.stop.options(concurrency_group="control").remote(piece.ticket)
        self.crew.stops(member)

    def _divide(self) -> None:
        """Ask busy workers to give parts of their candidates to those that are idle."""
        for member, piece in self._board.givers():
            ref = member.handle.give.options(concurrency_group="control").remote(piece.ticket)
            self._board.offers[ref] = member, piece

    def _offered(self, ref: Any) -> None:
        import ray

        _, piece = self._board.offers.pop(ref)
        try:
            given = ray.get(ref)
        except ray.exceptions.RayError:  # it is gone, of which another message tells
            given = None
        self._board.offered(piece, given)

    def _look_for_the_late(self) -> None:
        for member in self.crew:
            late = self._clock() - member.since
            piece = self._board.pieces.get(member.number)
            timeout = None if piece is None else self._deadline.of(piece.task.job)
            if member.duty == Duty.BUSY and timeout is not None and late > timeout:
                self._lost(member, f"no answer within {timeout:g} s (execution.timeout is {self.demand.timeout})")
            elif member.duty == Duty.STOPPING and late > STOP_SECONDS:
                self._lost(member, f"it did not stop within {STOP_SECONDS:g} s")

    def _drop_jobs(self) -> None:
        """Forget all jobs, and tell the workers to stop."""
        for member in self.crew:
            if member.duty == Duty.BUSY:
                self._halt(member, self._board.pieces[member.number])
        self._forget()

    def _forget(self) -> None:
        self._board.forget()
        self._outcomes.clear()

    # --- the cluster ---------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self._gpus = gpus_of_a_worker(self.demand.gpus)

    def _refresh(self) -> None:
        """Count the machines, and start or call off workers."""
        self._refreshed = self._clock()
        nodes = alive_nodes()
        if not nodes:
            self._reconnect()
            return
        per_node = [places(node["Resources"], cpus=self.demand.cpus, gpus=self._gpus) for node in nodes]
        wanted = self.demand.workers if self.demand.workers is not None else sum(per_node)
        if wanted != self._wanted:
            log.info("%d workers are wanted, %d fit into %d machines", wanted, sum(per_node), len(nodes))
            self._wanted = wanted
        if not wanted and not len(self.crew):
            self._lack(f"no machine of the cluster has the {self._size()} that a worker takes")
        waiting = [member for member in self.crew if member.duty == Duty.WAITING]
        for member in waiting[: max(0, len(self.crew) - wanted)]:
            self._leave(member)  # the machine that it was meant for is gone
        neighbours = max(1, min(wanted, max(per_node, default=1)))
        if self._clock() - self._failed_at > RETRY_SECONDS:
            self._failed_starts = 0
        while len(self.crew) < wanted and self._failed_starts < MAX_FAILED_STARTS:
            self._start(neighbours)
        if any(member.duty != Duty.WAITING for member in self.crew):
            self._manned_at = self._clock()
        elif self._clock() - self._manned_at > self.demand.patience:
            self._lack(f"no worker got the {self._size()} that it takes within {self.demand.patience:g} s")

    def _size(self) -> str:
        gpus = f" and {self._gpus:g} GPUs" if self._gpus else ""
        return f"{self.demand.cpus:g} CPUs{gpus}"

    def _lack(self, what: str) -> None:
        if self._cluster.is_own:
            raise ExecutionError(f"{what}; lower execution.cpus_per_worker or execution.gpus_per_worker")
        if self._clock() - self._manned_at > self.demand.patience:
            raise ExecutionError(what + RESUME)

    def _start(self, neighbours: int) -> None:
        import ray

        actor = ray.remote(
            num_cpus=self.demand.cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            concurrency_groups={"control": 1},
            scheduling_strategy="SPREAD",
        )(RayWorker)
        per_device = max(1, round(1.0 / self._gpus)) if self._gpus else 1
        folder = None if self._cluster.runtime_env.get("working_dir") else str(Path.cwd())
        hints = Hints(neighbours, min(per_device, neighbours), self._halvings)
        handle = actor.remote(self._make, hints, folder)
        member = self.crew.enter(handle)
        self._asked[handle.where.options(concurrency_group="control").remote()] = member
        self._refs[handle.open.remote()] = member

    def _reconnect(self) -> None:
        """Start our own cluster again, once; all that ran in it is gone."""
        if not self._cluster.is_own or self._restarted:
            raise ExecutionError("all machines of the Ray cluster are gone" + RESUME)
        log.warning("Ray ended on this machine; starting it again, once")
        self._restarted = True
        for member in self.crew:
            piece = self._board.pieces.pop(member.number, None)
            self.crew.leaves(member)
            if piece is not None:
                self._again(member, piece, "Ray ended on its machine")
            self._board.left(member)
        self._refs.clear()
        self._asked.clear()
        self._cluster.disconnect()
        self._cluster.connect()
        self._connected()
        self._failed_starts = 0
        self._refreshed = -math.inf

    def _start_failed(self, reason: str) -> None:
        self._failed_starts += 1
        self._failed_at = self._clock()
        if self._failed_starts < MAX_FAILED_STARTS or self.crew.n_ready or not alive_nodes():
            return
        hint = "" if self._cluster.is_own or "never ran" not in reason else OTHER_AUTHENTICATION
        raise ExecutionError(
            f"{self._failed_starts} workers in a row could not be started; the last: {reason}{hint}{RESUME}"
        )


def _short(error: Exception) -> str:
    """Return the telling part of one of Ray's messages, which go on for pages."""
    lines = [line.strip() for line in str(error).splitlines()]
    skipped = ("class_name:", "actor_id:", "namespace:", "pid:", "ip:", "name:")
    return " ".join(line for line in lines if line and not line.startswith(skipped))[:400] or type(error).__name__
