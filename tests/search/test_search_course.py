"""What a search notes of its own course: times, parents, how the strategy stood; and that nothing follows from it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import machines
import numpy as np
import pytest
from accuracy import Accuracy
from machines import Killed

from evomerge.fitness.choose import uniform_order
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.cma_es import CMA
from evomerge.optimizers.mixed_es import MixedES
from evomerge.optimizers.random_search import RandomSearch
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State
from evomerge.search.budget import Budget
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.store.traces import Trace
from evomerge.strategies.vector import VectorStrategy

pytestmark = pytest.mark.usefixtures("lazy_disk")

N_ITEMS = 12


class Square(GeneSpace):
    """Two weights; with one digit recipes repeat."""

    def __init__(self, digits: int = 9) -> None:
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
    """Takes a quarter of a second for each item, by a clock that only it moves, and fails where told."""

    fails: Callable[[int], bool] = lambda candidate: candidate == 3
    clock: Callable[[float], float] = lambda seconds: seconds

    def answer(self, job: Job) -> Outcome:
        asked = range(N_ITEMS) if job.items is None else job.items["t"]
        seconds = 0.25 * len(asked)
        self.clock(seconds)
        parts = {"merge": 0.25, "decode": seconds - 0.25}
        if job.split == Split.SEARCH and self.fails(job.candidate):
            return Outcome(job, State.FAILED, (), seconds, "cpu", "it failed", parts=parts)
        weight = float(job.recipe.parameters["weight"])
        noise = np.random.default_rng([round(weight * 1e9), list(Split).index(job.split)]).random(N_ITEMS)
        scores = tuple(ItemScore("t", i, {"acc": float(weight > noise[i])}) for i in asked)
        return Outcome(job, State.COMPLETE, scores, seconds, "cpu", parts=parts)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> float:
        self.now += seconds
        return seconds


def cma() -> Optimizer:
    return CMA(2, [0.5, 0.5], 4, population=6)


def run_search(
    path: Path,
    begin: Callable[[], Optimizer] = cma,
    *,
    die_at: int | None = None,
    stages: int = 1,
    digits: int = 9,
    capacity: int = 1,
    scoring: dict[str, Any] | None = None,
    **options: Any,
) -> RunDir:
    """Run a search, anew after each kill, to its end; return its run, open for reading."""
    RunDir.create(path, config={"name": "test", "budget": {}}).close()
    clock = Clock()
    for _ in range(1000):
        with RunDir.open(path, write=True) as run:
            machine = Machine(capacity, die_at, clock=clock.move)
            search = Search(
                run_dir=run,
                stages=[
                    Stage(str(i), (i + 1) / stages, lambda best: VectorStrategy(Square(digits), begin()))
                    for i in range(stages)
                ],
                executor=machine,
                scoring=Scoring(
                    Accuracy(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)]), seed=2, **(scoring or {})
                ),
                baselines={"a": recipe(0.25, 0.0), "average": recipe(0.55, 0.0)},
                clock=clock,
                **({"budget": Budget(candidates=26), "consensus": True, "finalists": 3} | options),
            )
            try:
                search.run()
            except Killed:
                continue
            break
    return RunDir.open(path)


def test_every_record_has_a_trace(tmp_path: Path) -> None:
    with run_search(tmp_path / "run") as run:
        records = {record.number: record for record in run.database.records(baselines=True)}
        traces = run.database.traces.all()
        best = sorted(
            (one for one in records.values() if one.number >= 0 and one.fitness is not None and not one.is_consensus),
            key=lambda one: (-one.fitness, one.number),
        )[:4]
    assert traces.keys() == records.keys()
    assert {records[-1].name, records[25].name} == {"a", "consensus"}
    each = 0.25 * N_ITEMS
    for number, trace in traces.items():
        assert trace.parts["merge"] == 0.25 and trace.parts["decode"] == each - 0.25, number
        assert trace.parts["database"] > 0.0 and "wait" not in trace.parts
        assert trace.at is not None and trace.at > 1e9
        done = max(0, number + 1)
        assert trace.seconds == (pytest.approx(each * done) if number < 25 else traces[24].seconds)
        if number < 25:
            assert trace.items == N_ITEMS * done
            assert trace.parents == ()
    assert traces[25].parents == tuple(one.number for one in best)
    assert traces[0].parts["optimizer"] > 0.0 and "optimizer" not in traces[-1].parts


def test_twins_wait_and_questions_add_up(tmp_path: Path) -> None:
    few = {"items": 6, "race": Race("halving", block=2), "estimator": "mean"}
    random = {"begin": lambda: RandomSearch(2, [0.5, 0.5], 7), "digits": 1, "budget": Budget(candidates=40)}
    with run_search(tmp_path / "run", scoring=few, consensus=False, **random) as run:
        records, traces = list(run.database.records()), run.database.traces.all()
    assert {record.number for record in records} == {number for number in traces if number >= 0}
    alone = [record for record in records if record.same_as is None]
    assert len({record.seconds for record in alone}) > 1  # some were asked more than once
    for record in records:
        own = sum(traces[record.number].parts.get(part, 0.0) for part in ("merge", "decode"))
        assert own == pytest.approx(record.seconds)
    assert any(traces[record.number].parts.get("wait", 0.0) > 0.0 for record in records)  # for the race


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_killed_and_continued_search_notes_the_same(tmp_path: Path, capacity: int) -> None:
    def noted(die_at: int | None) -> tuple[Any, ...]:
        options: dict[str, Any] = {"capacity": capacity, "deterministic": True, "stages": 2, "die_at": die_at}
        begin = lambda: MixedES(2, [0.5, 0.5], 5)  # noqa: E731
        with run_search(tmp_path / f"killed at {die_at}", begin, consensus=False, **options) as run:
            database = run.database
            records = [record.to_data() for record in database.records(baselines=True)]
            traces, progress = database.traces.all(), database.progress()
            return records, traces, database.traces.course(), progress["spent"]

    whole, killed = noted(None), noted(4)
    assert whole[0] == killed[0] and whole[2] == killed[2]
    assert whole[1].keys() == killed[1].keys()
    for number, trace in whole[1].items():
        other = killed[1][number]
        assert (trace.stage, trace.parents) == (other.stage, other.parents)
    if capacity == 1:
        assert [one.items for one in whole[1].values()] == [one.items for one in killed[1].values()]
        seconds = [killed[1][number].seconds for number in sorted(killed[1]) if number >= 0]
        assert seconds == sorted(seconds)  # the clock goes on
    parents = {number: trace.parents for number, trace in whole[1].items() if number >= 0}
    first = min(number for number, trace in whole[1].items() if trace.stage == 1)
    assert all(0 <= one < number for number, own in parents.items() for one in own)
    assert any(len(own) == 2 for number, own in parents.items() if number < first)
    assert any(min(own) >= first for number, own in parents.items() if number > first)  # of the second strategy
    elite = max((one for one in whole[0] if 0 <= one["id"] < first and one["fitness"] is not None),
                key=lambda one: (one["fitness"], -one["id"]))["id"]  # fmt: skip
    assert parents[0] == () and parents[first] == (elite,)


def test_how_cma_es_stands_is_noted_once_per_generation(tmp_path: Path) -> None:
    with run_search(tmp_path / "run") as run:
        course = run.database.traces.course()
    assert [one["candidates"] for one in course] == [0, 6, 12, 18, 24]
    assert [one["generation"] for one in course] == [0, 1, 2, 3, 4]
    assert {one["stage"] for one in course} == {0}
    assert course[0] == {
        **{"stage": 0, "candidates": 0, "generation": 0, "step_size": 0.2, "axes": [0.2, 0.2]},
        **{"restarts": 0, "population": 6},
    }
    assert len({one["step_size"] for one in course}) == 5
    assert all(one["axes"] == sorted(one["axes"], reverse=True) for one in course)


def test_a_run_without_the_tables_is_read_and_continued(tmp_path: Path) -> None:
    with run_search(tmp_path / "run", budget=Budget(candidates=8), consensus=False):
        pass
    with RunDir.open(tmp_path / "run", write=True) as run:
        for table in ("traces", "course"):
            run.database._db.execute(f"DROP TABLE {table}")
    with RunDir.open(tmp_path / "run") as run:
        assert (run.database.traces.all(), run.database.traces.course()) == ({}, [])
    machine = Machine()
    with RunDir.open(tmp_path / "run", write=True) as run:
        Search(
            run_dir=run,
            stages=[Stage("search", 1.0, lambda best: VectorStrategy(Square(), cma()))],
            executor=machine,
            scoring=Scoring(Accuracy(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)]), seed=2),
            baselines={"a": recipe(0.25, 0.0), "average": recipe(0.55, 0.0)},
            budget=Budget(candidates=14),
        ).run()
        assert sorted(run.database.traces.all()) == list(range(8, 14))
        assert [one["candidates"] for one in run.database.traces.course()] == [8, 12]


class Silent(RandomSearch):
    """Breaks when it is to say how it stands."""

    def diagnostics(self) -> dict[str, Any]:
        return {"step": object()}


def test_a_strategy_that_cannot_say_how_it_stands_ends_no_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with run_search(tmp_path / "run", lambda: Silent(2, [0.5, 0.5], 1), consensus=False) as run:
        assert len(run.database.traces.all()) == 28
        assert run.database.traces.course() == []
    assert [one.message for one in caplog.records if "how it stands" in one.message] == [
        "the strategy does not say how it stands, which changes nothing: Object of type object is not JSON serializable"
    ]


def test_a_trace_is_read_as_it_was_written() -> None:
    trace = Trace(1.5, 20, 1.7e9, 1, (3, 4), {"merge": 0.5})
    assert Trace.from_data(trace.to_data()) == trace
    assert Trace.from_data({**trace.to_data(), "later": 1}) == trace
    assert Trace().to_data() == {} and Trace.from_data({}) == Trace()
    assert trace.with_parts({"decode": 1.0}) == replace(trace, parts={"decode": 1.0})


RACED = {"items": 6, "race": Race("posterior", block=2), "choose": "uniform", "estimator": "mean"}


def test_estimates_of_those_that_came_to_answer_everything_are_noted(tmp_path: Path) -> None:
    with run_search(tmp_path / "run", scoring=RACED, consensus=False) as run:
        traces, db = run.database.traces.all(), run.database
        answered = {
            one.number: {score.item: score.metrics["acc"] for score in db.item_scores(one.number, Split.SEARCH)}
            for one in db.records(baselines=True)
        }
    whole = [number for number, own in answered.items() if number >= 0 and len(own) == N_ITEMS]
    assert whole and {number for number, one in traces.items() if number >= 0 and one.estimates} == set(whole)
    for number in whole:
        found = traces[number].estimates
        assert [one.n for one in found] == [2, 4, 8]  # of 2, 4, 6, 8 and 10
        order = uniform_order(N_ITEMS, (2, 1, number // 6 * 6)).tolist()
        for one in found:
            right = [answered[number][item] for item in order[: one.n]]
            share = (sum(right) + 1.0) / (one.n + 2.0)
            assert one.mean == pytest.approx(sum(right) / one.n)
            assert one.error == pytest.approx((share * (1.0 - share) / one.n * (1.0 - one.n / N_ITEMS)) ** 0.5)


@pytest.mark.parametrize("scoring", [RACED, {"items": 5, "race": None}])
def test_a_continued_search_notes_the_same_estimates(tmp_path: Path, scoring: dict[str, Any]) -> None:
    with run_search(tmp_path / "run", scoring=scoring) as run:
        expected = {number: one.estimates for number, one in run.database.traces.all().items()}
    with run_search(tmp_path / "killed", scoring=scoring, die_at=7) as run:
        assert {number: one.estimates for number, one in run.database.traces.all().items()} == expected
    assert [one.n for one in expected[-1]] == ([5] if scoring["race"] is None else [2, 6])


def test_an_estimator_that_fails_without_a_baseline_ends_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("evomerge.search.course.left_out", fail)
    with run_search(tmp_path / "run", scoring={"items": 5}) as run:
        assert run.database.choice() is not None
        assert not any(one.estimates for one in run.database.traces.all().values())


def test_nothing_is_estimated_where_every_item_is_answered(tmp_path: Path) -> None:
    with run_search(tmp_path / "run") as run:
        assert not any(one.estimates for one in run.database.traces.all().values())
