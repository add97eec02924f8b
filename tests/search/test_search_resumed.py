"""What a continued run decides depends only on what was known then in one that was not interrupted.

Rankings and items here turn with everything that an estimator is told of, so no verdict hangs on a close call or on the
last bits of a processor's arithmetic.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import machines
import numpy as np
import pytest
from accuracy import Accuracy
from machines import Killed, order_of_answers

from evomerge.errors import Interrupted, RunError
from evomerge.estimation.run_estimators import Guess, MeanEstimator
from evomerge.execution.base import StopSignal
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.cma_es import CMA
from evomerge.optimizers.random_search import RandomSearch
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemAnswer, ItemScore, Job, Outcome, Split, State
from evomerge.search.budget import Budget
from evomerge.search.loop import MAX_REPEATS
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.strategies.vector import VectorStrategy

pytestmark = pytest.mark.usefixtures("lazy_disk")

N_ITEMS = 12
BUDGET = Budget(candidates=26)  # the last one is the consensus, within a generation of six
SCORINGS: dict[str, dict[str, Any]] = {
    "whole": {},
    "few": {"items": 6},
    "race": {"items": 6, "race": Race("posterior", block=2)},
    "halving": {"items": 6, "race": Race("halving", block=2)},
}


class Square(GeneSpace):
    """Two weights; with few digits recipes repeat."""

    def __init__(self, digits: int = 9) -> None:
        self._digits = digits
        self._genes = (Gene("a", 0.0, 1.0, 0.5), Gene("b", 0.0, 1.0, 0.5))

    def genome(self, x: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(value), self._digits) for value in x)

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return recipe(*genome)


def recipe(a: float, b: float) -> Recipe:
    return Recipe("linear", (Parent("p", ModelSource("p")),), parameters={"weight": a, "normalize": b > 0.5})


class Turns(MeanEstimator):
    """The mean of the answers, turned round (and the level of items moved) with each model that it is told of."""

    def fit(self, references, answers, points) -> None:
        super().fit(references, answers, points)
        self.told = len(answers)

    def estimate(self, point, answers) -> Guess:
        guess = super().estimate(point, answers)
        if not np.isnan(answers).any():
            return guess
        mean = guess.mean if self.told % 2 == 0 else 1.0 - guess.mean
        return replace(guess, mean=mean, expected=np.roll(guess.expected, self.told))


@dataclass
class Machine(machines.Machine):
    """Answers by a rule of recipe and item.

    Attributes:
        fails: says which jobs fail, and how.
        held: a straggler is answered when nothing else runs.
        asked: what each candidate was asked first, in any session of a test.
    """

    fails: Callable[[Job, int], State | None] = lambda job, turn: None
    held: Callable[[int], bool] = lambda candidate: False
    asked: dict[int, Any] = field(default_factory=dict)

    def pick(self) -> int:
        quick = [place for place, job in enumerate(self.jobs) if not self.held(job.candidate)]
        return min(quick or range(len(self.jobs)), key=lambda place: self.jobs[place].candidate)

    def answer(self, job: Job) -> Outcome:
        first = job.split != Split.SEARCH or self.asked.setdefault(job.candidate, job.items) == job.items
        state = self.fails(job, 1 if first else 2)
        if state is not None:
            return Outcome(job, state, (), 1.0, "cpu", f"it is {state}")
        weight, flag = float(job.recipe.parameters["weight"]), bool(job.recipe.parameters["normalize"])
        seed = [round(weight * 1e9), int(flag), list(Split).index(job.split)]
        noise = np.random.default_rng(seed).random(N_ITEMS)
        asked = range(N_ITEMS) if job.items is None else job.items["t"]
        scores = tuple(ItemScore("t", i, {"acc": float(weight > noise[i])}) for i in asked)
        texts = tuple(ItemAnswer("t", i, [f"{weight} to {i}"], {"none": [f"{weight}"]}) for i in asked)
        return Outcome(job, State.COMPLETE, scores, 1.0, "cpu", answers=texts)


def make(run: RunDir, machine: Machine, scoring: str, *, space=Square, optimizer=None, **options) -> Search:
    asks = Scoring(Accuracy(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)]), seed=2, **SCORINGS[scoring])
    asks._estimators = [Turns()]
    begin = optimizer or (lambda: CMA(2, [0.5, 0.5], 4, population=6))
    return Search(
        run_dir=run,
        stages=[Stage("search", 1.0, lambda best: VectorStrategy(space(), begin()))],
        executor=machine,
        scoring=asks,
        baselines={"a": recipe(0.25, 0.0), "average": recipe(0.55, 0.0)},
        **({"budget": BUDGET, "consensus": True, "finalists": 3} | options),
    )


def create(path: Path) -> RunDir:
    return RunDir.create(path, config={"name": "test", "budget": {}})


def everything(run: RunDir) -> dict[str, Any]:
    """All that a run remembers, but for the seconds, and what only an interruption leaves."""
    database = run.database
    progress = database.progress()
    records = list(database.records(baselines=True))
    return {
        "records": [record.to_data() for record in records],
        "answers": [[database.item_scores(record.number, split) for split in Split] for record in records],
        "texts": {one: database.answers.of(*one) for one in database.answers.kept()},
        "unfinished": database.answers.unfinished(),
        "told": order_of_answers(run),
        "choice": database.choice(),
        "best": run.best(),
        "spent": {key: value for key, value in progress["spent"].items() if key != "seconds"},
        **{key: progress[key] for key in ("outstanding", "generations", "stage", "repeats")},
    }


def some_fail(job: Job, turn: int) -> State | None:
    """Candidate 3 cannot be built, 8 fails when it is first asked something, others in a later turn of a race."""
    if job.split != Split.SEARCH:
        return State.FAILED if job.candidate % 5 == 1 and job.split == Split.VALIDATION else None
    if turn > 1:
        return {4: State.INVALID, 13: State.FAILED, 16: State.FAILED}.get(job.candidate)
    return {3: State.INVALID, 8: State.FAILED}.get(job.candidate)


@pytest.fixture
def sick() -> Callable[..., Machine]:
    """Makes machines on which some candidates fail, the same on each."""
    return partial(Machine, fails=some_fail, asked={})


EVERY = [8, pytest.param(3, marks=pytest.mark.slow)]
"""Jobs between the interruptions that are tried."""


@pytest.mark.parametrize("every", [9, pytest.param(3, marks=pytest.mark.slow)])  # odd: kills and requests in turn
@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_run_interrupted_at_any_job_ends_as_the_one_that_was_not(
    tmp_path: Path, scoring: str, every: int, sick
) -> None:
    whole = sick()
    with create(tmp_path / "whole") as run:
        make(run, whole, scoring).run()
        expected = everything(run)
    failed = [record["id"] for record in expected["records"] if record["state"] != "complete"]
    assert {3, 8} <= set(failed) and (len(failed) > 2) == (scoring in ("race", "halving"))
    assert expected["records"][-1]["name"] == "consensus"
    n_jobs = len(whole.ran)
    around_consensus = max(place for place, job in enumerate(whole.ran) if job.split == Split.SEARCH) - 2
    for at in [*range(2, around_consensus, every), *range(around_consensus, n_jobs + 1)]:
        killed = at % 2 == 0
        stop = StopSignal()
        machine = sick(die_at=at if killed else None)
        machine.before = lambda machine=machine, stop=stop, at=at: stop.request() if len(machine.ran) == at else None
        with create(tmp_path / f"{at}") as run, contextlib.suppress(Killed, Interrupted):
            make(run, machine, scoring, stop=StopSignal() if killed else stop).run()
        with RunDir.open(tmp_path / f"{at}", write=True) as run:
            make(run, sick(), scoring).run()
            assert everything(run) == expected, at


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_run_killed_every_few_jobs_ends_as_the_one_that_was_not(tmp_path: Path, scoring: str, sick) -> None:
    with create(tmp_path / "whole") as run:
        make(run, sick(), scoring).run()
        expected = everything(run)
    with create(tmp_path / "killed") as run:
        done = False
        while not done:
            with contextlib.suppress(Killed):
                make(run, sick(die_at=4), scoring).run()
                done = True
        assert everything(run) == expected


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("first", [25, 27])  # 27: the consensus comes within a generation
def test_more_budget_after_a_consensus_and_then_interrupted(
    tmp_path: Path, scoring: str, first: int, every: int, sick
) -> None:
    more = Budget(candidates=first + 9)
    whole = sick()
    with create(tmp_path / "whole") as run:
        make(run, sick(), scoring, budget=Budget(candidates=first)).run()
        before = everything(run)
        make(run, whole, scoring, budget=more).run()
        expected = everything(run)
    names = [record["name"] for record in expected["records"] if record["id"] >= 0]
    assert names[first - 1] == "consensus"
    assert scoring != "few" or names[-1] == "consensus"  # else it is the one before: the best are the same
    for at in range(1, len(whole.ran) + 1, every):
        with create(tmp_path / f"{at}") as run:
            make(run, sick(), scoring, budget=Budget(candidates=first)).run()
            assert everything(run) == before
            with contextlib.suppress(Killed):
                make(run, sick(die_at=at), scoring, budget=more).run()
            make(run, sick(), scoring, budget=more).run()
            assert everything(run) == expected, at


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_consensus_in_a_generation_leaves_it_as_it_was(tmp_path: Path, scoring: str) -> None:
    """What follows with more budget differs from a run that had it from the start in the numbers alone."""

    def genomes(run: RunDir) -> list:
        return [(record.genome, record.scores[Split.SEARCH].n) for record in run.database.records()][:18]

    with create(tmp_path / "at once") as run:
        make(run, Machine(), scoring, budget=Budget(candidates=31), consensus=False).run()
        expected = genomes(run)
    with create(tmp_path / "run") as run:
        make(run, Machine(), scoring, budget=Budget(candidates=21)).run()
        make(run, Machine(), scoring, budget=Budget(candidates=32)).run()
        records = list(run.database.records())
        assert genomes(run) == expected
        generation = [record.number for record in records if not record.is_consensus][18:24]
        assert generation == [18, 19, 21, 22, 23, 24]
        if scoring == "few":
            asked = {tuple(score.item for score in run.database.item_scores(n, Split.SEARCH)) for n in generation}
            assert len(asked) == 1  # they are compared on common items


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_deterministic_run_on_three_workers_counts_what_one_worker_counts(
    tmp_path: Path, scoring: str, every: int, sick
) -> None:
    options = {"space": lambda: Square(1), "deterministic": True}
    whole = sick()
    with create(tmp_path / "whole") as run:
        make(run, whole, scoring, **options).run()
        expected = everything(run)
    del expected["told"]
    assert any(record["same_as"] is not None for record in expected["records"])
    odd = {"held": lambda candidate: candidate % 3 == 0}
    for at in range(2, len(whole.ran) + 1, every):
        with create(tmp_path / f"{at}") as run:
            for die_at in (at, 2, 3, None):
                with contextlib.suppress(Killed):
                    make(run, sick(capacity=3, die_at=die_at, **odd), scoring, **options).run()
            found = everything(run)
            del found["told"]
            assert found == expected, at


def test_generations_that_overlap_are_kept_apart_after_an_interruption(tmp_path: Path) -> None:
    """With several workers the next generation begins before the last of one is decided, and learns without it."""
    slow = {"held": lambda candidate: candidate % 6 == 4}
    whole = Machine(capacity=3, **slow)
    with create(tmp_path / "whole") as run:
        make(run, whole, "few").run()
        expected = everything(run)
    assert expected["told"] != sorted(expected["told"])
    asked = [tuple(score.item for score in answers[0]) for answers in expected["answers"][2:]]
    assert [len(set(asked[first : first + 6])) for first in (0, 6, 12)] == [1, 1, 1]
    for at in range(4, len(whole.ran), 2):
        with create(tmp_path / f"{at}") as run:
            with pytest.raises(Killed):
                make(run, Machine(capacity=3, die_at=at, **slow), "few").run()
            make(run, Machine(capacity=3, **slow), "few").run()
            assert everything(run) == expected, at


def test_repeats_are_counted_over_all_sessions(tmp_path: Path) -> None:
    options = {
        "space": lambda: Square(0),
        "optimizer": lambda: RandomSearch(2, [0.5, 0.5], 4),
        "budget": Budget(items=10_000),
        "consensus": False,
    }

    class Dies:
        """Stands for a kill after so many candidates."""

        def __init__(self, left: int) -> None:
            self.left = left

        def phase(self, *_: object) -> None:
            pass

        def scored(self, record, split, score) -> None:
            self.left -= record.number >= 0
            if self.left == 0:
                raise Killed

    with create(tmp_path / "whole") as run:
        make(run, Machine(), "whole", **options).run()
        expected = everything(run)
        assert len(expected["records"]) > MAX_REPEATS
        make(run, Machine(), "whole", **options).run()
        assert everything(run) == expected
    with create(tmp_path / "killed") as run:
        with pytest.raises(Killed):
            make(run, Machine(), "whole", listener=Dies(700), **options).run()
        make(run, Machine(), "whole", **options).run()
        assert everything(run) == expected


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("deadline", [25.5, 34.5, 40.5])
def test_a_run_whose_time_is_up_stays_so_and_more_time_goes_on_with_what_was_dropped(
    tmp_path: Path, scoring: str, deadline: float
) -> None:
    now = [0.0]

    def search(run: RunDir, capacity: int = 3, **options) -> tuple[Machine, Search]:
        stop = StopSignal(clock=lambda: now[0])
        machine = Machine(capacity=capacity)

        def before() -> None:
            now[0] += 1.0
            if stop.deadline is not None and stop.now():
                raise Interrupted("deadline")

        machine.before = before
        options = {"stop": stop, "clock": lambda: now[0], **options}
        return machine, make(run, machine, scoring, **options)

    with create(tmp_path / "run") as run:
        first, limited = search(run, budget=Budget(seconds=deadline if scoring in ("whole", "few") else 4 * deadline))
        limited.run()
        before = everything(run)
        pending = [number for number, *_ in before["outstanding"]]
        assert pending
        consensus = [record["id"] for record in before["records"] if record["name"] == "consensus"]
        assert len(consensus) == 1 and consensus[0] not in pending
        again, finished = search(run, budget=limited.budget)
        finished.run()
        assert again.ran == [] and everything(run) == before
        later, longer = search(run, budget=Budget(candidates=before["spent"]["candidates"] + 30))
        longer.run()
        after = everything(run)
        assert [record["id"] for record in after["records"]] == list(range(-2, after["spent"]["candidates"]))
        assert after["outstanding"] == [] and after["spent"]["candidates"] == before["spent"]["candidates"] + 30
        # Nobody was asked again what was answered.
        asked = [
            (job.candidate, item)
            for job in (*first.ran, *later.ran)
            if job.split == Split.SEARCH and job.candidate >= 0
            for item in (range(N_ITEMS) if job.items is None else job.items["t"])
        ]
        assert len(asked) == len(set(asked)) == after["spent"]["items"]


def test_a_baseline_scored_late_on_the_validation_items_does_not_undo_what_was_counted(tmp_path: Path) -> None:
    def fails(job: Job, turn: int) -> State | None:
        return State.FAILED if job.candidate == -2 and job.split == Split.VALIDATION else None

    with create(tmp_path / "whole") as run:
        make(run, Machine(), "few").run()
        expected = everything(run)
    for at in (9, 16):
        with create(tmp_path / f"{at}") as run:
            with pytest.raises(Killed):
                make(run, Machine(fails=fails, die_at=at), "few").run()
            make(run, Machine(), "few").run()
            assert everything(run) == expected


def test_an_optimizer_that_cannot_read_its_state_says_so_and_leaves_the_run(tmp_path: Path) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(), "whole").run()
        before = everything(run)
        with pytest.raises(RunError, match=r"cannot be continued here.*population: the state has 6, here 7"):
            make(run, Machine(), "whole", optimizer=lambda: CMA(2, [0.5, 0.5], 4, population=7)).run()
        assert everything(run) == before


def test_the_best_recipe_is_written_again_where_a_kill_came_before_it(tmp_path: Path) -> None:
    with create(tmp_path / "run") as run:
        search = make(run, Machine(), "whole")
        write = run.write_best

        def dies(best: Recipe) -> Path:
            if run.database.count() >= 2:
                raise Killed
            return write(best)

        run.write_best = dies  # type: ignore[method-assign]
        with pytest.raises(Killed):
            search.run()
        found = max(run.database.records(), key=lambda record: (record.fitness, -record.number)).recipe
        assert run.best() != found
        run.write_best = write  # type: ignore[method-assign]
        with pytest.raises(Killed):
            make(run, Machine(die_at=0), "whole").run()
        assert run.best() == found


def test_phases_count_the_consensus_and_what_was_done_before(tmp_path: Path) -> None:
    class Phases(machines.Told):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[str, int | None, int]] = []

        def phase(self, name: str, total: int | None, done: int) -> None:
            self.seen.append((name, total, done))

    with create(tmp_path / "run") as run:
        first, again = Phases(), Phases()
        for listener in (first, again):
            make(run, Machine(), "whole", listener=listener).run()
        assert any(record.is_consensus for record in run.database.records())
    assert first.seen == [("baselines", 2, 0), ("search", 26, 0), ("validation", 3, 0), ("test", 3, 0)]
    assert again.seen == [("baselines", 2, 2), ("search", 26, 26), ("validation", 3, 3), ("test", 3, 3)]
