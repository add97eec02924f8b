"""Who works: the members of a pool of workers, what each is doing, how much it has done, and how busy all were."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

RATE_SECONDS = 300.0
"""Candidates per minute are those of the last so many seconds."""


class Duty(StrEnum):
    """What a worker is doing."""

    WAITING = "waiting"  # for a place on some machine
    OPENING = "opening"  # its parents and tasks
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"  # what it was doing is not wanted any more


@dataclass
class Member:
    """One worker, from its start to its end; its replacement is another one.

    Attributes:
        number: its id in this run, from 0.
        handle: what its executor calls it by.
        node: where it runs; None before it has a place.
        pid: of its process there.
        job: number of the candidate that it works on.
        since: when it took up its present duty, on the crew's clock.
        done: how many jobs it has answered.
        busy_seconds: time spent on jobs, but for the present one.
        joined: when it was ready for the first time.
    """

    number: int
    handle: Any
    since: float
    duty: Duty = Duty.WAITING
    node: str | None = None
    pid: int | None = None
    device: str | None = None
    job: int | None = None
    done: int = 0
    busy_seconds: float = 0.0
    joined: float | None = None

    @property
    def ready(self) -> bool:
        """Whether it has opened its parents and tasks."""
        return self.joined is not None

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"worker {self.number}" + (f" on {self.node}" if self.node else "")


@dataclass
class Crew:
    """The members of a pool and what all of them have done.

    Attributes:
        lost: how many were lost or sent away since the beginning.
        retries: how many jobs were given to another worker.
        shared: how often an idle worker took a part of another one's candidate.
    """

    clock: Callable[[], float] = time.monotonic
    lost: int = 0
    retries: int = 0
    shared: int = 0
    _members: dict[int, Member] = field(default_factory=dict)
    _started: int = 0
    _past_busy: float = 0.0  # seconds of those that are gone
    _past_ready: float = 0.0
    _answers: deque[float] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __contains__(self, member: object) -> bool:
        return isinstance(member, Member) and self._members.get(member.number) is member

    @property
    def n_ready(self) -> int:
        """How many can take jobs, or do."""
        return sum(member.ready for member in self._members.values())

    def enter(self, handle: Any) -> Member:
        """Take in a worker that was just started."""
        member = Member(self._started, handle, self.clock())
        self._members[member.number] = member
        self._started += 1
        return member

    def placed(self, member: Member, node: str, pid: int) -> None:
        """Note where a worker runs; it may be ready before that is known."""
        member.node, member.pid = node, pid
        if member.duty == Duty.WAITING:
            self._turn(member, Duty.OPENING)

    def opened(self, member: Member, device: str) -> None:
        """Note that a worker is ready."""
        member.device = device
        member.joined = self.clock()
        self._turn(member, Duty.IDLE)

    def takes(self, member: Member, job: int) -> None:
        """Note that a worker begins a job."""
        member.job = job
        self._turn(member, Duty.BUSY)

    def stops(self, member: Member) -> None:
        """Note that the answer of a worker is not wanted any more."""
        self._turn(member, Duty.STOPPING)

    def rests(self, member: Member, *, answered: bool) -> None:
        """Note that a worker is done with its job."""
        if answered:
            member.done += 1
            self._answers.append(self.clock())
        member.job = None
        self._turn(member, Duty.IDLE)

    def leaves(self, member: Member) -> None:
        """Note that a worker is gone."""
        self._turn(member, member.duty)
        self._members.pop(member.number, None)
        if member.joined is not None:
            self._past_busy += member.busy_seconds
            self._past_ready += self.clock() - member.joined
        self.lost += 1

    def _turn(self, member: Member, duty: Duty) -> None:
        now = self.clock()
        if member.duty in (Duty.BUSY, Duty.STOPPING):
            member.busy_seconds += now - member.since
        member.duty, member.since = duty, now

    @property
    def utilisation(self) -> float | None:
        """Busy time over the time that workers were ready, 0 to 1; None before the first was ready."""
        now = self.clock()
        busy, there = self._past_busy, self._past_ready
        for member in self._members.values():
            if member.joined is not None:
                there += now - member.joined
                working = member.duty in (Duty.BUSY, Duty.STOPPING)
                busy += member.busy_seconds + (now - member.since if working else 0.0)
        return busy / there if there > 0.0 else None

    @property
    def rate(self) -> float | None:
        """Jobs answered per minute, of late; None before the second answer."""
        now = self.clock()
        while self._answers and now - self._answers[0] > RATE_SECONDS:
            self._answers.popleft()
        if len(self._answers) < 2 or now <= self._answers[0]:
            return None
        return 60.0 * (len(self._answers) - 1) / (now - self._answers[0])

    def report(self) -> dict[str, Any]:
        """Return all of it as plain data.

        Returns:
            `at` (seconds since 1970), `jobs_per_minute`, `utilisation`, `lost`, `retries`, `shared`, and `workers`: a
            list of `id`, `node`, `pid`, `device`, `state` (a `Duty`), `candidate`, `for_seconds` (in that state),
            `done` and `busy_seconds`.
        """
        now = self.clock()
        return {
            "at": time.time(),
            "jobs_per_minute": self.rate,
            "utilisation": self.utilisation,
            "lost": self.lost,
            "retries": self.retries,
            "shared": self.shared,
            "workers": [
                {
                    "id": member.number,
                    "node": member.node,
                    "pid": member.pid,
                    "device": member.device,
                    "state": str(member.duty),
                    "candidate": member.job,
                    "for_seconds": round(now - member.since, 3),
                    "done": member.done,
                    "busy_seconds": round(member.busy_seconds, 3),
                }
                for member in self._members.values()
            ],
        }
