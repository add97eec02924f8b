"""What is to be done, who does what, and which candidates several workers share. Knows nothing of how workers run.

When there are fewer jobs than workers, those that are idle take a part of what the others are at: a busy worker is
asked to give away questions that it has not begun with (`evaluation.shares`), the parts are put together when all are
there (`parts`), and the answers are those that one worker would have given, bit for bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from evomerge.execution.pool.chunks import Part, Piece, Task
from evomerge.execution.pool.workers import Crew, Duty, Member
from evomerge.record import Job

MAX_ATTEMPTS = 3
"""So many workers may fail on a job before it is the job's fault."""

ASK_SECONDS = 0.5
"""So long after it began, and after it was asked before, a worker is asked to give away a part of its candidate."""


class Board:
    """Jobs, pieces of them, and the workers that they are with.

    Args:
        crew: the workers.
        send: gives a piece to an idle worker.
        halt: makes a busy worker stop what it is at.

    Attributes:
        queue: what is next.
        pieces: number of a worker to what it works on.
        offers: a message to who is being asked to give away a part of what.
    """

    def __init__(
        self,
        crew: Crew,
        *,
        send: Callable[[Member, Piece], None],
        halt: Callable[[Member, Piece], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue: deque[Piece] = deque()
        self.pieces: dict[int, Piece] = {}
        self.offers: dict[Any, tuple[Member, Piece]] = {}
        self._crew = crew
        self._send, self._halt = send, halt
        self._clock = clock

    def __bool__(self) -> bool:
        """Whether anything is outstanding."""
        return bool(self.queue or self.pieces or self.offers)

    def add(self, job: Job) -> None:
        """Queue a job."""
        self.queue.append(Task(job).piece())

    def assign(self) -> None:
        """Give the oldest jobs to the workers that are idle."""
        if not self.queue:
            return
        for member in self._crew:
            if member.duty == Duty.IDLE and self.queue:
                self._give(member, self.queue.popleft())

    def over(self, task: Task) -> None:
        """Forget what was asked of a candidate, whose outcome is known (or begins anew)."""
        if len(task.pieces) > 1:
            self.queue = deque(piece for piece in self.queue if piece.task is not task)
            for member in self._crew:
                piece = self.pieces.get(member.number)
                if piece is not None and piece.task is task:
                    del self.pieces[member.number]
                    self._halt(member, piece)
        for _, piece in self.offers.values():
            piece.withdrawn |= piece.task is task
        task.pieces.clear()
        task.parts.clear()

    def again(self, member: Member, piece: Piece, reason: str) -> str | None:
        """Give to another worker what one failed on; return all reasons if that happened too often."""
        task = piece.task
        task.reasons.append(f"{member.label}: {reason}")
        if len(task.reasons) < MAX_ATTEMPTS:
            self._crew.retries += 1
            self.queue.appendleft(piece)
            return None
        self.over(task)
        return f"it failed on {len(task.reasons)} workers: " + "; ".join(task.reasons)

    def alone(self, task: Task) -> None:
        """Begin a candidate anew, with one worker for all of it."""
        self.over(task)
        task.alone = True
        self.queue.appendleft(task.piece())

    def forget(self) -> None:
        """Forget all jobs."""
        for jobs in (self.queue, self.pieces, self.offers):
            jobs.clear()

    # --- candidates that several workers answer -------------------------------------------------------------------

    def givers(self) -> Iterator[tuple[Member, Piece]]:
        """Yield whom to ask for a part of which candidate: those busy for longest, as many as there are idle workers.

        The caller puts each question into `offers`.
        """
        idle = sum(member.duty == Duty.IDLE for member in self._crew) - len(self.offers)
        if idle <= 0 or self.queue:
            return
        now, asked = self._clock(), [member for member, _ in self.offers.values()]
        for member in sorted(self._crew, key=lambda one: one.since):
            piece = self.pieces.get(member.number)
            if member.duty != Duty.BUSY or member in asked or piece is None:
                continue
            if piece.answers is not None or piece.task.alone:
                continue
            if now - max(member.since, piece.asked_at) > ASK_SECONDS:
                piece.asked_at = now
                piece.task.asked += 1
                yield member, piece
                idle -= 1
                if not idle:
                    return

    def offered(self, piece: Piece, given: tuple[int, int] | None) -> None:
        """Take what a worker gave away of its candidate, or that it gave nothing; it is not in `offers` any more."""
        task = piece.task
        task.asked -= 1
        if piece.withdrawn:
            return
        if given is not None:
            piece.end = given[0]
            self.queue.appendleft(task.piece(*given))
            self._crew.shared += 1
        elif piece not in task.pieces:
            self._mend(task)

    def add_part(self, member: Member, piece: Piece, part: Part) -> None:
        """Take a part of a candidate's answers."""
        task = piece.task
        if any(one.of != part.of for one in task.parts):
            self.alone(task)  # the machines differ so much that they do not even ask alike
            return
        task.pieces.discard(piece)
        task.parts.append(part)
        self._mend(task, member)

    def left(self, member: Member) -> None:
        """Note that a worker is gone; what it gave away, but nobody was told, is queued again."""
        for message in [message for message, (one, _) in self.offers.items() if one is member]:
            self.offered(self.offers.pop(message)[1], None)

    def _mend(self, task: Task, member: Member | None = None) -> None:
        """Queue what is missing of a candidate that nobody works on; if nothing is, let it be scored.

        Args:
            member: an idle worker that can do so at once, since it holds the candidate.
        """
        if task.pieces or task.asked:
            return
        missing = task.missing()
        for first, end in missing:
            self.queue.appendleft(task.piece(first, end))
        if not missing:
            last = task.piece()
            last.answers = [part.answers for part in task.parts]
            if member is not None:
                self._give(member, last)
            else:
                self.queue.appendleft(last)

    def _give(self, member: Member, piece: Piece) -> None:
        self.pieces[member.number] = piece
        self._crew.takes(member, piece.task.job.candidate)
        self._send(member, piece)
