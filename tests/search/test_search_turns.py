"""A deterministic search gives the same records whatever the workers and the order in which they answer."""

import random
from dataclasses import dataclass
from pathlib import Path

import machines
import numpy as np
import pytest
from accuracy import Accuracy
from machines import Killed, Noted, order_of_answers

from evomerge.errors import Interrupted
from evomerge.execution.base import StopSignal
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.base import Point
from evomerge.optimizers.cma_es import CMA
from evomerge.optimizers.mixed_es import MixedES
from evomerge.optimizers.random_search import RandomSearch
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Result, Split, State
from evomerge.search.budget import Budget
from evomerge.search.loop import MAX_REPEATS
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.strategies.vector import VectorStrategy

pytestmark = pytest.mark.usefixtures("lazy_disk")

N_ITEMS = 12


class Grid(GeneSpace):
    """Two weights with few digits, so that recipes repeat."""

    def __init__(self, digits: int = 1) -> None:
        self._digits = digits
        self._genes = (Gene("a", 0.0, 1.0, 0.5), Gene("b", 0.0, 1.0, 0.5))

    def genome(self, x: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(value), self._digits) for value in x)

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return recipe(*genome)


def recipe(a: float, b: float) -> Recipe:
    return Recipe("linear", (Parent("p", ModelSource("p")),), parameters={"weight": a, "normalize": b > 0.5})


@dataclass
class Machine(machines.Machine):
    """Answers in a random order; unless it is sound, some recipes cannot be scored or built."""

    seed: int = 0
    sound: bool = False

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    @property
    def searched(self) -> list[int]:
        """The candidates that were scored on the search items, in that order."""
        return [job.candidate for job in self.ran if job.candidate >= 0 and job.split == Split.SEARCH]

    def pick(self) -> int:
        return self._rng.randrange(len(self.jobs))

    def answer(self, job: Job) -> Outcome:
        weight, flag = job.recipe.parameters["weight"], job.recipe.parameters["normalize"]
        code = round(float(weight) * 1000) + int(bool(flag))  # type: ignore[arg-type]
        if job.candidate >= 0 and job.split == Split.SEARCH and not self.sound:
            if code % 7 == 3:
                return Outcome(job, State.FAILED, (), 0.1, "cpu", "it broke")
            if code % 11 == 5:
                return Outcome(job, State.INVALID, (), 0.1, "cpu", "it cannot be")
        asked = range(N_ITEMS) if job.items is None else job.items["t"]
        noise = np.random.default_rng(code).random(N_ITEMS)
        scores = [ItemScore("t", i, {"acc": float(float(weight) > noise[i])}) for i in asked]  # type: ignore[arg-type]
        return Outcome(job, State.COMPLETE, tuple(scores), 0.1, "cpu")


OPTIMIZERS = {
    "cma": lambda: CMA(2, [0.5, 0.5], 4, population=6),
    "random": lambda: RandomSearch(2, [0.5, 0.5], 4),
    "mixed": lambda: MixedES(2, [0.5, 0.5], 4),
}
SCORINGS = {
    "whole": {},
    "few": {"items": 6},
    "race": {"items": 6, "race": Race("posterior", block=2)},
    "halving": {"items": 6, "race": Race("halving", block=2)},
}


def make(run: RunDir, machine: Machine, optimizer="cma", scoring="whole", *, digits=1, noted=None, **options) -> Search:
    options = {"budget": Budget(candidates=40), "deterministic": True} | options
    return Search(
        run_dir=run,
        stages=[Stage("search", 1.0, lambda best: VectorStrategy(Grid(digits), noted or OPTIMIZERS[optimizer]()))],
        executor=machine,
        scoring=Scoring(
            Accuracy(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)]), seed=2, **SCORINGS[scoring]
        ),
        baselines={"a": recipe(0.25, 0.0), "average": recipe(0.55, 0.0)},
        finalists=3,
        **options,
    )


def rows(run: RunDir) -> list[tuple]:
    return [
        (r.to_data(), run.database.item_scores(r.number, Split.SEARCH)) for r in run.database.records(baselines=True)
    ]


def create(path: Path) -> RunDir:
    return RunDir.create(path, config={"name": "test", "budget": {}})


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_workers_and_their_order_change_no_record(tmp_path: Path, optimizer: str, scoring: str) -> None:
    with create(tmp_path / "one") as run:
        make(run, Machine(), optimizer, scoring).run()
        expected, tells, spent = rows(run), order_of_answers(run), run.database.progress()["spent"]
    assert any(row[0]["same_as"] is not None for row in expected)
    assert {row[0]["state"] for row in expected} == {"complete", "failed", "invalid"}
    for capacity, seed in ((2, 1), (3, 2), (8, 3)):
        with create(tmp_path / f"many{capacity}") as run:
            make(run, Machine(capacity, seed=seed), optimizer, scoring).run()
            assert rows(run) == expected
            assert order_of_answers(run) == tells
            assert run.database.progress()["spent"]["items"] == spent["items"]


def test_a_generation_keeps_all_workers_busy_and_the_next_one_waits_for_it(tmp_path: Path) -> None:
    machine = Machine(capacity=4)
    widths: list[int] = []
    machine.before = lambda: widths.append(len([job for job in machine.jobs if job.candidate >= 0]))
    noted = Noted(OPTIMIZERS["cma"]())
    with create(tmp_path / "run") as run:
        make(run, machine, budget=Budget(candidates=12), digits=9, noted=noted).run()
        asked = dict(noted.tells)
    assert max(widths) == 4
    assert all(asked[number] <= 6 for number in range(6))
    assert asked[6] > 6


def test_without_it_nobody_waits_and_the_tells_can_be_replayed(tmp_path: Path) -> None:
    noted = Noted(OPTIMIZERS["mixed"]())
    with create(tmp_path / "run") as run:
        make(run, Machine(capacity=4, seed=3), deterministic=False, digits=9, noted=noted).run()
        records = {record.number: record for record in run.database.records()}
        tells = noted.tells
    assert [number for number, _ in tells] != sorted(number for number, _ in tells)
    assert sorted(number for number, _ in tells) == list(range(40))
    again, space, asked = OPTIMIZERS["mixed"](), Grid(9), 0
    for number, n_asked in tells:
        while asked < n_asked:
            assert space.genome(again.ask().x) == records[asked].genome
            asked += 1
        again.tell(number, records[number].result)


@pytest.mark.parametrize("scoring", ["whole", "few", "race"])
def test_killed_anywhere_and_resumed_it_ends_as_if_nothing_had_happened(tmp_path: Path, scoring: str) -> None:
    with create(tmp_path / "whole") as run:
        machine = Machine()
        make(run, machine, scoring=scoring).run()
        expected = rows(run)
    for die_at in range(1, len(machine.ran), 7):
        path = tmp_path / f"killed{die_at}"
        with create(path) as run, pytest.raises(Killed):
            make(run, Machine(4, die_at, seed=die_at), scoring=scoring).run()
        with RunDir.open(path, write=True) as run:
            make(run, Machine(3, seed=die_at + 1), scoring=scoring).run()
            assert rows(run) == expected


def test_answers_that_wait_for_an_earlier_candidate_survive_a_kill(tmp_path: Path) -> None:
    class Last(Machine):
        """Answers the youngest job first."""

        def pick(self) -> int:
            return max(range(len(self.jobs)), key=lambda place: self.jobs[place].candidate)

    with create(tmp_path / "run") as run:
        first = Last(capacity=4, sound=True, die_at=2 + 2 + 3)  # after the baselines, three that pass candidate 0
        with pytest.raises(Killed):
            make(run, first, digits=9).run()
        assert (first.searched, run.database.count()) == ([3, 4, 5], 0)
        with pytest.raises(Killed):
            make(run, Machine(sound=True, die_at=1), digits=9).run()
        last = Machine(capacity=1, sound=True)
        make(run, last, digits=9).run()
        assert sorted(last.searched) == [1, 2, *range(6, 40)]
        assert [record.number for record in run.database.records()] == list(range(40))
        assert run_status(run)["items"] == 40 * N_ITEMS


def test_one_request_to_stop_takes_what_is_running(tmp_path: Path) -> None:
    stop = StopSignal()
    machine = Machine(capacity=4, seed=5)

    def before() -> None:
        if sum(job.candidate >= 0 for job in machine.ran) == 8:
            stop.request()

    machine.before = before
    with create(tmp_path / "run") as run:
        with pytest.raises(Interrupted):
            make(run, machine, stop=stop, digits=9).run()
        done = [record.number for record in run.database.records()]
    assert done == list(range(len(done)))
    assert machine.jobs == []
    assert len(done) >= 8


def test_repeats_end_a_search_at_the_same_candidate(tmp_path: Path) -> None:
    counts = []
    for capacity in (1, 5):
        with create(tmp_path / f"run{capacity}") as run:
            make(run, Machine(capacity), "random", digits=0, budget=Budget(items=1000)).run()
            counts.append(run.database.count())
    assert counts[0] == counts[1] > MAX_REPEATS


def test_an_optimizer_says_how_far_its_points_are_sure() -> None:
    cma = OPTIMIZERS["cma"]()
    assert [cma.sure_asks, *(cma.ask() and cma.sure_asks for _ in range(6))] == [6, 5, 4, 3, 2, 1, 0]
    for number in range(6):
        assert cma.sure_asks == 0
        cma.tell(number, Result((float(number),)))
    assert cma.sure_asks == cma.population
    assert OPTIMIZERS["random"]().sure_asks > 1000
    assert OPTIMIZERS["mixed"]().sure_asks == 0


@pytest.mark.parametrize("population", [4, 7])
def test_sure_points_do_not_depend_on_what_is_told(population: int) -> None:
    def points(told_early: bool) -> list[list[float]]:
        cma = CMA(2, [0.3, 0.6], 9, population=population)
        found: list[Point] = []
        for _ in range(4):
            batch = [cma.ask()]
            while cma.sure_asks:
                if told_early:
                    cma.tell(batch[-1].number, Result((float(batch[-1].x.sum()),)))
                batch.append(cma.ask())
            for one in batch[-1:] if told_early else batch:
                cma.tell(one.number, Result((float(one.x.sum()),)))
            found += batch
        return [one.x.tolist() for one in found]

    assert points(True) == points(False)
