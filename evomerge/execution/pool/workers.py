"""The workers of a pool: what each is doing, how much it has done, and how busy all of them were."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

RATE_SECONDS = 300.0
"""The length of the window over which candidates per minute are counted, in seconds."""


class WorkerState(StrEnum):
    """What a worker is doing."""

    WAITING = "waiting"  # it waits for a place on some machine
    OPENING = "opening"  # it opens the parents and tasks
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"  # it was told to stop, since its answer is not wanted any more


@dataclass
class WorkerHandle:
    """One worker, as the driver sees it, from its start to its end; a replacement is another worker.

    Attributes:
        number: its id in this run, from 0.
        actor: Ray's handle of its process, through which the executor calls it.
        since: when it entered its present state, on the pool's clock.
        node: where it runs; None before it has a place.
        pid: of its process there.
        device: what it computes on; None before it is ready.
        candidate: number of the candidate that it works on.
        done: how many jobs it has answered.
        busy_seconds: time spent on jobs, without the present one.
        ready_since: when it was ready for the first time.
    """

    number: int
    actor: Any
    since: float
    state: WorkerState = WorkerState.WAITING
    node: str | None = None
    pid: int | None = None
    device: str | None = None
    candidate: int | None = None
    done: int = 0
    busy_seconds: float = 0.0
    ready_since: float | None = None

    @property
    def ready(self) -> bool:
        """Whether it has opened its parents and tasks."""
        return self.ready_since is not None

    @property
    def label(self) -> str:
        """The worker's name in messages."""
        return f"worker {self.number}" + (f" on {self.node}" if self.node else "")


@dataclass
class WorkerPool:
    """All workers, and what they have done together.

    Attributes:
        lost: how many workers were lost or removed since the beginning.
        retries: how often a job was given to another worker after a failure.
        steals: how often an idle worker stole units of another worker's candidate.
    """

    clock: Callable[[], float] = time.monotonic
    lost: int = 0
    retries: int = 0
    steals: int = 0
    _workers: dict[int, WorkerHandle] = field(default_factory=dict)
    _started: int = 0
    _past_busy: float = 0.0  # busy seconds of workers that are gone
    _past_ready: float = 0.0
    _answers: deque[float] = field(default_factory=deque)  # when each of the latest answers came

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self._workers.values()))

    def __contains__(self, worker: WorkerHandle) -> bool:
        return self._workers.get(worker.number) is worker

    @property
    def n_ready(self) -> int:
        """How many workers are ready: idle, busy or stopping."""
        return sum(worker.ready for worker in self._workers.values())

    def add(self, actor: Any) -> WorkerHandle:
        """Add a worker that was just started."""
        worker = WorkerHandle(self._started, actor, self.clock())
        self._workers[worker.number] = worker
        self._started += 1
        return worker

    def place(self, worker: WorkerHandle, node: str, pid: int) -> None:
        """Note where a worker runs; it may be ready before that is known."""
        worker.node, worker.pid = node, pid
        if worker.state == WorkerState.WAITING:
            self._enter(worker, WorkerState.OPENING)

    def open(self, worker: WorkerHandle, device: str) -> None:
        """Note that a worker is ready."""
        worker.device = device
        worker.ready_since = self.clock()
        self._enter(worker, WorkerState.IDLE)

    def assign(self, worker: WorkerHandle, candidate: int) -> None:
        """Note that a worker begins to work on a candidate."""
        worker.candidate = candidate
        self._enter(worker, WorkerState.BUSY)

    def stop(self, worker: WorkerHandle) -> None:
        """Note that the answer of a worker is not wanted any more."""
        self._enter(worker, WorkerState.STOPPING)

    def finish(self, worker: WorkerHandle, *, answered: bool) -> None:
        """Note that a worker is idle again.

        Args:
            worker: the worker.
            answered: whether it completed a job; if not, it was stopped, or answered only some of the units.
        """
        if answered:
            worker.done += 1
            self._answers.append(self.clock())
        worker.candidate = None
        self._enter(worker, WorkerState.IDLE)

    def remove(self, worker: WorkerHandle) -> None:
        """Note that a worker is gone."""
        self._enter(worker, worker.state)
        self._workers.pop(worker.number, None)
        if worker.ready_since is not None:
            self._past_busy += worker.busy_seconds
            self._past_ready += self.clock() - worker.ready_since
        self.lost += 1

    def _enter(self, worker: WorkerHandle, state: WorkerState) -> None:
        now = self.clock()
        if worker.state in (WorkerState.BUSY, WorkerState.STOPPING):
            worker.busy_seconds += now - worker.since
        worker.state, worker.since = state, now

    @property
    def utilisation(self) -> float | None:
        """Busy time over the time that workers were ready, 0 to 1; None before the first was ready."""
        now = self.clock()
        busy, there = self._past_busy, self._past_ready
        for worker in self._workers.values():
            if worker.ready_since is not None:
                there += now - worker.ready_since
                working = worker.state in (WorkerState.BUSY, WorkerState.STOPPING)
                busy += worker.busy_seconds + (now - worker.since if working else 0.0)
        return busy / there if there > 0.0 else None

    @property
    def rate(self) -> float | None:
        """Jobs answered per minute in the last few minutes; None before the second answer."""
        now = self.clock()
        while self._answers and now - self._answers[0] > RATE_SECONDS:
            self._answers.popleft()
        if len(self._answers) < 2 or now <= self._answers[0]:
            return None
        return 60.0 * (len(self._answers) - 1) / (now - self._answers[0])

    def report(self) -> dict[str, Any]:
        """Return what the workers are doing and have done, as plain data.

        Returns:
            `at` (seconds since 1970), `jobs_per_minute`, `utilisation`, `lost`, `retries`, `shared` (the steals), and
            `workers`: a list of `id`, `node`, `pid`, `device`, `state` (a `WorkerState`), `candidate`, `for_seconds`
            (in that state), `done` and `busy_seconds`.
        """
        now = self.clock()
        return {
            "at": time.time(),
            "jobs_per_minute": self.rate,
            "utilisation": self.utilisation,
            "lost": self.lost,
            "retries": self.retries,
            "shared": self.steals,
            "workers": [
                {
                    "id": worker.number,
                    "node": worker.node,
                    "pid": worker.pid,
                    "device": worker.device,
                    "state": str(worker.state),
                    "candidate": worker.candidate,
                    "for_seconds": round(now - worker.since, 3),
                    "done": worker.done,
                    "busy_seconds": round(worker.busy_seconds, 3),
                }
                for worker in self._workers.values()
            ],
        }
