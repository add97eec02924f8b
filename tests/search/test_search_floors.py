"""Searches whose candidates are measured by the best parent: who is judged when, and the same records after a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machines
import numpy as np
import pytest
from machines import Killed

from evomerge.analysis.cautions import cautions
from evomerge.analysis.verdict import COMBINATION, OBJECTIVE, with_verdict
from evomerge.errors import EvaluationError
from evomerge.evaluation.floor import Floor
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import SUM, WORST, TaskSpec
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.cma_es import CMA
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State
from evomerge.search.budget import Budget
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.strategies.vector import VectorStrategy

pytestmark = pytest.mark.usefixtures("lazy_disk")

N = 20
PARENTS = {"left": 0.0, "right": 1.0}
SCORINGS: dict[str, dict[str, Any]] = {
    "whole": {},
    "few": {"items": 20},
    "race": {"items": 20, "race": Race("posterior", block=8)},
}


class Between(GeneSpace):
    """How far a merge lies on the way from the left parent to the right one; each has a skill of its own."""

    def __init__(self) -> None:
        self._genes = (Gene("x", 0.0, 1.0, 0.5), Gene("y", 0.0, 1.0, 0.5))

    def genome(self, x: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(value), 9) for value in x)

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return recipe(genome[0])


def recipe(x: float) -> Recipe:
    return Recipe("linear", (Parent("p", ModelSource("p")),), parameters={"weight": x})


@dataclass
class Machine(machines.Machine):
    """The nearer a merge is to a parent, the more of that parent's skill it has."""

    fails: Callable[[Job], State | None] = lambda job: None

    def answer(self, job: Job) -> Outcome:
        if (state := self.fails(job)) is not None:
            return Outcome(job, state, (), 1.0, "cpu", "it broke")
        x = float(job.recipe.parameters["weight"])
        scores = []
        for place, (task, skill) in enumerate({"left": 0.95 - 0.8 * x, "right": 0.1 + 0.85 * x}.items()):
            level = np.random.default_rng([place, list(Split).index(job.split)]).random(N)
            asked = range(N) if job.items is None else job.items.get(task, ())
            scores += [ItemScore(task, i, {"acc": float(level[i] < skill)}) for i in asked]
        return Outcome(job, State.COMPLETE, tuple(scores), 1.0, "cpu")


def objectives(floor: Floor | None, weight: float = 3.0, combination: str = SUM) -> Objectives:
    specs = [
        TaskSpec("left", "acc", direction="maximize", weight=weight),
        TaskSpec("right", "acc", direction="maximize", weight=1.0, floor=floor),
    ]
    return Objectives(specs, parents=list(PARENTS), combination=combination)


def make(run: RunDir, machine: Machine, judge: Objectives, scoring: str = "whole", **options: Any) -> Search:
    run.database.set_meta(OBJECTIVE, [spec.to_data() for spec in judge.specs])
    run.database.set_meta(COMBINATION, judge.combination)
    terms = [Term(*one) for one in zip(judge.term_names, ("left", "right"), judge.weights, strict=True)]
    table = ItemTable({"left": range(N), "right": range(N)}, terms)
    return Search(
        run_dir=run,
        stages=[Stage("search", 1.0, lambda best: VectorStrategy(Between(), CMA(2, [0.5, 0.5], 4, population=6)))],
        executor=machine,
        scoring=Scoring(judge, table, seed=2, **SCORINGS[scoring]),
        baselines={"average": recipe(0.5), **{name: recipe(x) for name, x in PARENTS.items()}},
        **({"budget": Budget(candidates=24), "consensus": True, "finalists": 3} | options),
    )


def create(path: Path) -> RunDir:
    return RunDir.create(path, config={"name": "test", "models": {"parents": dict.fromkeys(PARENTS, "org/x")}})


def everything(run: RunDir) -> list[Any]:
    return [
        (record.to_data(), record.result, [run.database.item_scores(record.number, split) for split in Split])
        for record in run.database.records(baselines=True)
    ]


def test_a_sum_sells_the_skill_that_a_floor_keeps(tmp_path: Path) -> None:
    kept = {}
    for name, floor in {"sum": None, "floor": Floor(of_best_parent=0.6)}.items():
        with create(tmp_path / name) as run:
            judge = objectives(floor)
            winner = make(run, Machine(), judge).run()
            answers = judge.answers(run.database.item_scores(winner.number, Split.VALIDATION), Split.VALIDATION)
            kept[name] = np.mean(list(answers["right, acc"].values()))
            status = with_verdict(run, run_status(run))
            assert "limits" not in [one["kind"] for one in status["warnings"]]
            assert status["best"]["adjusted"] is not None  # the choice is repeated by its own rule
            baselines = {one.name: one for one in run.database.records(baselines=True) if one.is_baseline}
            if floor is not None:  # baselines are judged like candidates, once all parents are known
                assert baselines["left"].result.violation > 0.5 and baselines["right"].result.violation == 0.0
    best = np.mean(np.random.default_rng([1, 1]).random(N) < 0.95)
    assert kept["floor"] >= 0.6 * best > kept["sum"]


@pytest.mark.parametrize(
    ("scoring", "combination"),
    [
        *[(scoring, WORST) for scoring in SCORINGS],
        *[pytest.param(scoring, SUM, marks=pytest.mark.slow) for scoring in SCORINGS],
    ],
)
def test_a_killed_search_continues_with_the_same_records(tmp_path: Path, scoring: str, combination: str) -> None:
    def judge() -> Objectives:
        return objectives(Floor(of_best_parent=0.6), combination=combination)

    with create(tmp_path / "whole") as run:
        make(run, machine := Machine(), judge(), scoring).run()
        expected, n = everything(run), len(machine.ran)
    for die_at in (0, 1, 2, 4, n // 2, n - 7, n - 3, n - 1):
        with create(tmp_path / str(die_at)) as run:
            with pytest.raises(Killed):
                make(run, Machine(die_at=die_at), judge(), scoring).run()
            make(run, Machine(), judge(), scoring).run()
            assert everything(run) == expected, die_at


@pytest.mark.parametrize("scoring", list(SCORINGS))
def test_the_worst_task_is_kept_whatever_the_weights_are(tmp_path: Path, scoring: str) -> None:
    with create(tmp_path / "run") as run:
        judge = objectives(None, weight=30.0, combination=WORST)
        winner = make(run, Machine(), judge, scoring).run()
        records = {one.name: one for one in run.database.records(baselines=True) if one.is_baseline}
        assert winner.scores[Split.VALIDATION].mean > 0.5
        assert max(records[name].scores[Split.VALIDATION].mean for name in PARENTS) < 0.45  # each lacks a skill
        if scoring == "whole":
            assert (
                winner.fitness
                == winner.result.objectives[0]
                == judge.score(run.database.item_scores(winner.number, Split.SEARCH)).mean
            )
        else:
            assert winner.scores[Split.SEARCH].low < winner.fitness < winner.scores[Split.SEARCH].high
        status = with_verdict(run, run_status(run))
        assert status["objective"] == "worst" and status["objectives"] == [{"name": "worst", "direction": "maximize"}]
        gains = {one["against"]: one for one in status["comparisons"]}
        for name in PARENTS:
            gap = winner.scores[Split.TEST].mean - records[name].scores[Split.TEST].mean
            assert gains[name]["difference"] == pytest.approx(gap) and gains[name]["worst"] and not gains[name]["share"]
            assert gains[name]["low"] < gap < gains[name]["high"]
            assert (gains[name]["p_value"] < 0.05) == (gains[name]["low"] > 0.0)
        adjusted = status["best"]["adjusted"]
        assert adjusted["low"] < adjusted["mean"] <= winner.scores[Split.VALIDATION].mean
        assert len(status["finalists"]) == 2 and status["beats_parent"]


def test_where_no_finalist_keeps_its_floor_the_winner_is_the_nearest_to_it_and_that_is_told(tmp_path: Path) -> None:
    with create(tmp_path / "run") as run:
        judge = objectives(Floor(absolute=0.99))
        winner = make(run, Machine(), judge, finalists=4).run()
        scored = [one for one in run.database.records() if Split.VALIDATION in (one.scores or {})]

        def violation(number: int) -> float:
            return judge.result(run.database.item_scores(number, Split.VALIDATION), Split.VALIDATION).violation

        assert violation(winner.number) == min(violation(one.number) for one in scored) > 0.0
        status = with_verdict(run, run_status(run))
        said = [one["text"] for one in status["warnings"] if one["kind"] == "limits"]
        assert (
            "the best merge breaks a limit on the validation items, and no other finalist keeps every limit" in said[0]
        )
        assert "right, acc is " in said[0] and "below its floor of 0.99" in said[0]
        assert "on the test items: right, acc is" in said[1]
        assert status["best"]["broken_limits"].keys() == {"validation", "test"}
        assert status["best"]["adjusted"] is not None


def test_a_winner_without_validation_is_told_that_it_breaks_its_limit_on_the_search_items(tmp_path: Path) -> None:
    for scoring, text in {"whole": "below its floor of 0.99", "few": "so its estimated means say"}.items():
        with create(tmp_path / scoring) as run:
            make(run, Machine(), objectives(Floor(absolute=0.99)), scoring, splits=(Split.SEARCH,)).run()
            status = with_verdict(run, run_status(run))
            (said,) = [one["text"] for one in status["warnings"] if one["kind"] == "limits"]
            assert said.startswith("the best merge breaks a limit on the search items: ") and text in said


def test_a_parent_that_cannot_be_scored_ends_a_search_that_measures_by_the_best_parent(tmp_path: Path) -> None:
    def fails(job: Job) -> State | None:
        return State.FAILED if job.candidate == -3 and job.split == Split.SEARCH else None

    with create(tmp_path / "relative") as run:
        with pytest.raises(EvaluationError, match=r"baseline 'right', with which .* could not be scored: it broke"):
            make(run, Machine(fails=fails), objectives(Floor(of_best_parent=0.6))).run()
        assert run.database.count(baselines=True) == 0  # nothing was judged by the parents that were left
        make(run, Machine(), objectives(Floor(of_best_parent=0.6))).run()  # mended
    with create(tmp_path / "absolute") as run:  # nothing is compared with it
        make(run, Machine(fails=fails), objectives(Floor(absolute=0.3))).run()
    with create(tmp_path / "validation") as run:

        def later(job: Job) -> State | None:
            return State.FAILED if job.candidate == -3 and job.split == Split.VALIDATION else None

        make(run, Machine(fails=later), objectives(Floor(of_best_parent=0.6))).run()
        said = [one.text for one in cautions(with_verdict(run, run_status(run)))]
        assert any("no finalist could be scored on the validation items" in text and "right" in text for text in said)
