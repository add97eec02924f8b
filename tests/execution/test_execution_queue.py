"""Jobs, pieces and parts, with workers that are only told of: random events, whatever order their messages come in."""

import random

import pytest
from ray_workers import job

from evomerge.evaluation.engines.units import Share
from evomerge.execution.pool.chunks import Part, Piece, uncovered
from evomerge.execution.pool.queue import ASK_SECONDS, Board
from evomerge.execution.pool.workers import Crew, Duty, Member

UNITS = 20


class World:
    """Workers that answer a unit at a time, may die, and whose messages arrive late and in any order."""

    def __init__(self, seed: int, workers: int, deaths: int) -> None:
        self.random = random.Random(seed)
        self.deaths = deaths
        self.now = 0.0
        self.crew = Crew(self.clock)
        self.board = Board(self.crew, send=self.send, halt=self.halt, clock=self.clock)
        self.shares: dict[int, tuple[Piece, Share]] = {}
        self.answers: dict[int, dict[int, float]] = {}
        self.mail: list[tuple] = []
        self.finished: list[int] = []
        self.failed: list[int] = []
        self.asked: dict[tuple[int, int], int] = {}
        for _ in range(workers):
            self.enter()

    def clock(self) -> float:
        return self.now

    def enter(self) -> None:
        member = self.crew.enter(None)
        self.crew.placed(member, "here", 1)
        self.crew.opened(member, "cpu")

    def send(self, member: Member, piece: Piece) -> None:
        candidate = piece.task.job.candidate
        if piece.answers is not None:
            together = {unit: value for (some,) in piece.answers for unit, value in some.items()}
            assert together == {unit: candidate + unit / UNITS for unit in range(UNITS)}
            self.mail.append(("done", member, piece, None))
            return
        share = Share(piece.first, piece.end, pace=1.0, clock=self.clock)
        share.open(UNITS)
        self.shares[member.number] = piece, share
        self.answers[member.number] = {}

    def halt(self, member: Member, piece: Piece) -> None:
        self.crew.stops(member)
        if self.shares.pop(member.number, None) is not None:  # else its answer is on its way
            self.mail.append(("stopped", member, piece, None))

    def work(self) -> None:
        for number in list(self.shares):
            piece, share = self.shares[number]
            unit = share.first + len(self.answers[number])
            first, last = share.take(unit, unit + 1)
            candidate = piece.task.job.candidate
            if first < last:
                self.answers[number][unit] = candidate + unit / UNITS
                self.asked[candidate, unit] = self.asked.get((candidate, unit), 0) + 1
                continue
            (member,) = (one for one in self.crew if one.number == number)
            del self.shares[number]
            part = Part(share.first, share.end, UNITS, [self.answers[number]], 1.0)
            self.mail.append(("done" if share.whole else "part", member, piece, part))

    def kill(self, member: Member) -> None:
        self.deaths -= 1
        self.shares.pop(member.number, None)
        self.mail = [one for one in self.mail if one[1] is not member]
        piece = self.board.pieces.pop(member.number, None)
        stopping = member.duty == Duty.STOPPING
        self.crew.leaves(member)
        self.board.left(member)
        if piece is not None and not stopping:
            error = self.board.again(member, piece, "killed")
            if error is not None:
                assert error.count("killed") == 3
                self.failed.append(piece.task.job.candidate)
        self.enter()

    def hear(self) -> None:
        kind, member, piece, value = self.mail.pop(self.random.randrange(len(self.mail)))
        if kind == "offer":
            if member.number in self.board.offers:
                del self.board.offers[member.number]
                self.board.offered(piece, value)
            return
        mine = self.board.pieces.pop(member.number, None)
        self.crew.rests(member, answered=kind == "done")
        if mine is None:
            return
        if kind == "part":
            self.board.add_part(member, mine, value)
        else:
            self.board.over(mine.task)
            self.finished.append(mine.task.job.candidate)

    def step(self) -> None:
        self.now += ASK_SECONDS / 2
        self.board.assign()
        for member, piece in self.board.givers():
            running = self.shares.get(member.number)
            given = running[1].give() if running is not None and running[0] is piece else None
            self.board.offers[member.number] = member, piece
            self.mail.append(("offer", member, piece, given))
        self.work()
        if self.deaths and self.random.random() < 0.05:
            self.kill(self.random.choice(list(self.crew)))
        while self.mail and self.random.random() < 0.6:
            self.hear()
        self.board.assign()


@pytest.mark.parametrize("seed", range(40))
def test_each_candidate_ends_once_whatever_happens(seed: int) -> None:
    world = World(seed, workers=1 + seed % 5, deaths=seed % 9)
    jobs = 1 + seed % 7
    for number in range(jobs):
        world.board.add(job(number))
    for _ in range(4000):
        if not world.board:
            break
        world.step()
    assert not world.board
    assert sorted(world.finished + world.failed) == list(range(jobs))
    assert set(world.asked) >= {(number, unit) for number in world.finished for unit in range(UNITS)}
    if not seed % 9:
        assert not world.failed
        assert set(world.asked.values()) == {1}
    if 1 + seed % 5 > jobs:
        assert world.crew.shared > 0


def test_one_worker_shares_with_nobody_and_work_for_all_is_not_divided() -> None:
    for workers, jobs in ((1, 3), (3, 3)):
        world = World(0, workers, deaths=0)
        for number in range(jobs):
            world.board.add(job(number))
        world.board.assign()
        world.now += 10.0
        assert list(world.board.givers()) == []


def test_a_withdrawn_candidate_takes_no_more_and_halts_its_workers() -> None:
    world = World(1, workers=3, deaths=0)
    world.board.add(job(0))
    while world.crew.shared < 2:
        world.step()
    (task,) = {piece.task for piece in world.board.pieces.values()}
    world.board.alone(task)
    assert not world.board.pieces
    assert {member.duty for member in world.crew} <= {Duty.STOPPING, Duty.IDLE}
    while world.board:
        world.step()
    assert world.finished == [0]
    assert world.crew.shared == 2


def test_workers_that_cut_differently_do_not_share() -> None:
    world = World(2, workers=2, deaths=0)
    world.board.add(job(0))
    while world.crew.shared < 1:
        world.step()
    pieces = {number: world.board.pieces.pop(number) for number in list(world.board.pieces)}
    for of, (number, piece) in enumerate(pieces.items(), UNITS):
        (member,) = (one for one in world.crew if one.number == number)
        world.crew.rests(member, answered=False)
        world.board.add_part(member, piece, Part(piece.first, piece.end or of, of, [{}], 1.0))
    (again,) = world.board.queue
    assert (again.first, again.end, again.task.alone, again.task.parts) == (0, None, True, [])


@pytest.mark.parametrize(
    ("ranges", "n", "left"),
    [
        ([], 3, [(0, 3)]),
        ([(0, 3)], 3, []),
        ([(1, 2)], 3, [(0, 1), (2, 3)]),
        ([(2, 5), (0, 1)], 7, [(1, 2), (5, 7)]),
        ([(0, 4), (2, 3)], 5, [(4, 5)]),
    ],
)
def test_what_ranges_leave_out(ranges, n, left) -> None:
    assert uncovered(ranges, n) == left
