"""Searches whose candidates answer some of the items: what is asked, stored, counted and continued."""

import contextlib
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import machines
import numpy as np
import pytest
from accuracy import Accuracy
from machines import Killed

from evomerge.errors import ConfigError, EvaluationError, Interrupted
from evomerge.estimation.run_estimators import Guess, MeanEstimator
from evomerge.execution.base import StopSignal
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.cma_es import CMA
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Record, Split, State
from evomerge.search.budget import Budget
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.strategies.vector import VectorStrategy

pytestmark = pytest.mark.usefixtures("lazy_disk")

POOL = {"easy": tuple(range(0, 60, 2)), "hard": tuple(range(30))}
TERMS = [Term("easy", "easy", 0.5), Term("hard", "hard", 0.5)]
PARENTS = (Parent("a", ModelSource("a")), Parent("b", ModelSource("b")))
RACES = [None, Race("posterior", block=5), Race("halving", block=5)]


class Plane(GeneSpace):
    """Two weights, far enough from each other's effects that a search has something to find."""

    def __init__(self) -> None:
        self._genes = (Gene("a", 0.0, 2.0, 0.5), Gene("b", 0.0, 2.0, 1.5))

    def decode(self, genome) -> Recipe:
        return Recipe("linear", PARENTS, parameters={"weight": {"a": genome[0], "b": genome[1]}})


def right(recipe: Recipe, split: Split, task: str, item: int) -> float:
    """A fixed rule with some noise: the same model always gives the same answer."""
    weights = np.array([recipe.parameters["weight"]["a"], recipe.parameters["weight"]["b"]])
    ability = 2.0 - 4.0 * float(((weights - 0.8) ** 2).sum())
    key = (*np.float64(weights).view(np.uint32).tolist(), item, len(task), list(Split).index(split))
    noise = np.random.default_rng(key).logistic()
    return float(ability - (item % 7) / 2.0 - (task == "hard") > noise)


@dataclass
class Machine(machines.Machine):
    fails: int | None = None

    def answer(self, job: Job) -> Outcome:
        if job.candidate == self.fails:
            return Outcome(job, State.FAILED, (), 0.1, "cpu", "it broke")
        asked = job.items if job.items is not None else POOL
        scores = [
            ItemScore(task, item, {"acc": right(job.recipe, job.split, task, item)})
            for task in POOL
            for item in asked.get(task, ())
        ]
        return Outcome(job, State.COMPLETE, tuple(scores), 0.1, "cpu")


def make(
    run: RunDir,
    machine: Machine,
    *,
    consensus=False,
    items=12,
    race=None,
    budget=None,
    stop=None,
    stages=None,
    **scoring,
) -> Search:
    corner = Recipe("linear", PARENTS, parameters={"weight": {"a": 0.0, "b": 0.5}})
    other = Recipe("linear", PARENTS, parameters={"weight": {"a": 0.4, "b": 0.5}})
    begin = lambda best: VectorStrategy(Plane(), CMA(2, [0.25, 0.75], 3, population=6))  # noqa: E731
    return Search(
        run_dir=run,
        stages=stages or [Stage("search", 1.0, begin)],
        executor=machine,
        scoring=Scoring(Accuracy(), ItemTable(POOL, TERMS), items=items, race=race, seed=5, **scoring),
        baselines={"a": corner, "average": other},
        budget=budget or Budget(candidates=18),
        finalists=3,
        consensus=consensus,
        stop=stop or StopSignal(),
    )


def searched(machine: Machine) -> list[Job]:
    return [job for job in machine.ran if job.split == Split.SEARCH and job.candidate >= 0]


def rows(run: RunDir) -> list[tuple]:
    return [
        (r.number, r.state, r.genome, r.fitness, run.database.item_scores(r.number, Split.SEARCH))
        for r in run.database.records()
    ]


def create(path: Path) -> RunDir:
    return RunDir.create(path, config={"name": "test", "budget": {}})


@pytest.mark.parametrize("choose", ["uniform", "stratified"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_generation_shares_its_items_and_the_next_gets_others_if_wished(tmp_path, choose, fresh) -> None:
    machine = Machine()
    with create(tmp_path / "run") as run:
        make(run, machine, choose=choose, fresh=fresh).run()
        asked = [job.items for job in searched(machine)]
        assert all(sum(map(len, items.values())) == 12 for items in asked)
        assert all(set(items[task]) <= set(POOL[task]) for items in asked for task in items)
        for start in (0, 6, 12):
            assert all(items == asked[start] for items in asked[start : start + 6])
        assert (asked[0] == asked[6]) == (not fresh)
        if choose == "stratified":  # both tasks have 30 items
            assert all(5 <= len(items["easy"]) <= 7 for items in asked)
        record = run.database.record(4)
        assert len(run.database.item_scores(4, Split.SEARCH)) == record.scores[Split.SEARCH].n == 12
        assert record.fitness == record.scores[Split.SEARCH].mean


def test_parents_answer_every_item_and_finalists_every_validation_item(tmp_path) -> None:
    machine = Machine()
    with create(tmp_path / "run") as run:
        make(run, machine).run()
        assert all(job.items is None for job in machine.ran if job.candidate < 0 or job.split != Split.SEARCH)
        finalists = {job.candidate for job in machine.ran if job.split == Split.VALIDATION and job.candidate >= 0}
        assert len(finalists) == 3


def test_items_that_inform_most_differ_between_candidates(tmp_path) -> None:
    machine = Machine()
    with create(tmp_path / "run") as run:
        make(run, machine, choose="information").run()
    asked = [tuple(job.items.items()) for job in searched(machine)]
    assert len(set(asked[6:])) > 6


@pytest.mark.parametrize("race", RACES[1:], ids=lambda race: race.rule)
def test_a_race_gives_contenders_more_items_within_what_the_generation_has(tmp_path, race) -> None:
    machine = Machine()
    with create(tmp_path / "run") as run:
        make(run, machine, items=15, race=race).run()
        counts = {}
        for record in run.database.records():
            scores = run.database.item_scores(record.number, Split.SEARCH)
            counts[record.number] = len(scores)
            assert len({(score.task, score.item) for score in scores}) == len(scores)
        for start in (0, 6, 12):
            generation = [counts[number] for number in range(start, start + 6)]
            assert sum(generation) <= 6 * 15
            assert min(generation) >= 5
        assert len(set(counts.values())) > 2
        assert run.database.progress()["spent"]["items"] == sum(counts.values())
        first = {}
        for job in searched(machine):
            first.setdefault(job.candidate, job.items)
        assert all(first[number] == first[0] for number in range(6))  # compared on common items


@pytest.mark.parametrize(("race", "capacity"), itertools.product(RACES, [1, 3]))
def test_a_search_killed_anywhere_and_resumed_loses_nothing(tmp_path, race, capacity) -> None:
    machine, budget = Machine(capacity=capacity), Budget(candidates=10)
    with create(tmp_path / "whole") as run:
        make(run, machine, race=race, budget=budget).run()
        expected = rows(run)
    for die_at in range(2, len(machine.ran), 3 if capacity == 1 else 8):
        path = tmp_path / f"killed{die_at}"
        first = Machine(capacity=capacity, die_at=die_at)
        with create(path) as run, pytest.raises(Killed):
            make(run, first, race=race, budget=budget).run()
        second = Machine(capacity=capacity)
        with RunDir.open(path, write=True) as run:
            make(run, second, race=race, budget=budget).run()
            found = rows(run)
            spent = run.database.progress()["spent"]
        assert [row[0] for row in found] == list(range(10))
        assert spent["candidates"] == 10
        assert spent["items"] == sum(len(row[4]) for row in found)
        if capacity == 1:
            assert found == expected
            # What was answered and committed is not asked again.
            again = [(job.candidate, job.split, tuple((job.items or {}).items())) for job in first.ran + second.ran]
            assert len(again) - len(set(again)) <= 1


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.rule if race else "none")
def test_a_request_to_stop_in_a_generation_can_be_continued(tmp_path, race) -> None:
    with create(tmp_path / "whole") as run:
        make(run, Machine(), race=race).run()
        expected = rows(run)
    stop = StopSignal()
    machine = Machine()
    collect = machine.collect

    def collect_and_stop() -> Outcome:
        outcome = collect()
        if len(machine.ran) == 9:
            stop.request()
        return outcome

    machine.collect = collect_and_stop  # type: ignore[method-assign]
    with create(tmp_path / "run") as run:
        with pytest.raises(Interrupted):
            make(run, machine, race=race, stop=stop).run()
        make(run, Machine(), race=race).run()
        assert rows(run) == expected


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.rule if race else "none")
@pytest.mark.parametrize("capacity", [1, 4])
def test_a_budget_in_items_is_kept_in_the_middle_of_a_generation(tmp_path, race, capacity) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(capacity=capacity), race=race, budget=Budget(items=100)).run()
        spent = run.database.progress()["spent"]
        assert 60 <= spent["items"] <= 100
        assert run.database.progress()["outstanding"] == []


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.rule if race else "none")
def test_a_failed_candidate_leaves_its_generation_and_the_rest_goes_on(tmp_path, race) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(fails=8), race=race).run()
        states = [record.state for record in run.database.records()]
        assert states.count(State.FAILED) == 1 and states[8] == State.FAILED and len(states) == 18


def test_without_any_scored_parent_the_search_ends_with_the_reason(tmp_path) -> None:
    machine = Machine()
    machine.collect = lambda: Outcome(machine.jobs.pop(), State.FAILED, (), 0.1, "cpu", "it broke")  # type: ignore[method-assign]
    with (
        create(tmp_path / "run") as run,
        pytest.raises(EvaluationError, match=r"no baseline could be scored.*it broke"),
    ):
        make(run, machine).run()


def test_the_estimate_is_nearer_to_the_truth_than_the_mean_of_the_answers(tmp_path) -> None:
    machine = Machine()
    errors = {"model": [], "mean": []}
    for estimator, found in errors.items():
        with create(tmp_path / estimator) as run:
            make(run, machine, estimator=estimator, budget=Budget(candidates=90)).run()
            for record in run.database.records():
                truth = np.mean([np.mean([right(record.recipe, Split.SEARCH, t, i) for i in POOL[t]]) for t in POOL])
                found.append(abs(record.fitness - truth))
    assert np.mean(errors["model"]) < 0.85 * np.mean(errors["mean"])


def test_all_items_in_one_race_end_in_the_exact_mean(tmp_path) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(), items=60, race=Race("posterior", block=30)).run()
        whole = [r for r in run.database.records() if r.scores[Split.SEARCH].n == 60]
        assert whole
        for record in whole:
            scores = run.database.item_scores(record.number, Split.SEARCH)
            assert record.result == Accuracy().result(scores)


def test_a_budget_below_one_candidate_is_refused(tmp_path) -> None:
    with create(tmp_path / "run") as run, pytest.raises(ConfigError, match=r"takes 12 items.*fitness\.items"):
        make(run, Machine(), budget=Budget(items=11))


def test_a_second_stage_keeps_what_is_known_of_the_items(tmp_path) -> None:
    def begin(best):
        return VectorStrategy(Plane(), CMA(2, [0.5, 0.5], 4, population=6))

    stages = [Stage("one", 0.5, begin), Stage("two", 1.0, begin)]
    machine = Machine()
    with create(tmp_path / "whole") as run:
        make(run, machine, stages=stages, race=RACES[1]).run()
        expected = rows(run)
    for die_at in (12, 20, 30):
        with create(tmp_path / f"killed{die_at}") as run:
            with pytest.raises(Killed):
                make(run, Machine(die_at=die_at), stages=stages, race=RACES[1]).run()
            make(run, Machine(), stages=stages, race=RACES[1]).run()
            assert rows(run) == expected


MORE = Budget(candidates=25)


def test_finalists_are_chosen_by_results_as_the_run_knows_them_at_its_end(tmp_path: Path) -> None:
    seen: list[Record] = []

    class Noting(VectorStrategy):
        def finalists(self, ranked, n):
            seen.extend(ranked)
            return super().finalists(ranked, n)

    begin = lambda best: Noting(Plane(), CMA(2, [0.25, 0.75], 3, population=6))  # noqa: E731
    with create(tmp_path / "run") as run:
        make(run, Machine(), stages=[Stage("search", 1.0, begin)]).run()
        stored = {record.number: record.result for record in run.database.records()}
    assert len(seen) == len(stored)
    assert any(record.result.objectives != stored[record.number].objectives for record in seen)
    assert [record.fitness for record in seen] == [record.result.objectives[0] for record in seen]


@pytest.mark.parametrize("items", [None, 12])
@pytest.mark.parametrize("race", RACES[:2], ids=lambda race: race.rule if race else "none")
def test_the_last_candidate_is_the_mean_of_the_best_genomes_and_a_finalist(tmp_path, items, race) -> None:
    if items is None and race is not None:
        pytest.skip("a race needs fewer items than there are")
    with create(tmp_path / "run") as run:
        winner = make(run, Machine(), consensus=True, items=items, race=race, budget=MORE).run()
        records = list(run.database.records())
        consensus = records[-1]
        assert [record.name for record in records if record.is_consensus] == ["consensus"] and consensus.number == 24
        search = make(run, Machine(), items=items, race=race, budget=MORE)
        search._baselines.score(search._db, search._scorer, search._journal, search.listener)
        search._take_up()
        known = search._finals()._as_known_now(records[:-1])
        best = sorted(known, key=lambda record: (-record.fitness, record.number))[:4]
        assert consensus.genome == pytest.approx(np.mean([record.genome for record in best], axis=0))
        finalists = [record for record in records if Split.VALIDATION in record.scores]
        assert len(finalists) == 3 and consensus in finalists
        if winner.number != consensus.number:
            assert winner.scores[Split.VALIDATION].mean > consensus.scores[Split.VALIDATION].mean
        spent = run.database.progress()["spent"]
        assert spent["candidates"] == 25
        assert spent["items"] == sum(record.scores[Split.SEARCH].n for record in records if record.same_as is None)
        again = Machine()
        assert make(run, again, consensus=True, items=items, race=race, budget=MORE).run().number == winner.number
        assert again.ran == []


@pytest.mark.parametrize("die_at", range(26, 34))
def test_a_run_killed_around_its_consensus_ends_as_the_uninterrupted_one(tmp_path, die_at) -> None:
    with create(tmp_path / "whole") as run:
        make(run, Machine(), consensus=True, budget=MORE).run()
        expected = rows(run)
    with create(tmp_path / "killed") as run:
        with pytest.raises(Killed):
            make(run, Machine(die_at=die_at), consensus=True, budget=MORE).run()
        make(run, Machine(), consensus=True, budget=MORE).run()
        assert rows(run) == expected


class Broken(Machine):
    """Fails every candidate from the tenth on."""

    def answer(self, job: Job) -> Outcome:
        outcome = super().answer(job)
        if job.candidate < 9 or job.split != Split.SEARCH:
            return outcome
        return replace(outcome, state=State.FAILED, scores=(), error="it broke")


@pytest.mark.parametrize("die_at", [None, 20, 26, 27, 28])
def test_what_was_set_aside_for_a_consensus_that_cannot_be_is_a_candidate(tmp_path, die_at) -> None:
    with create(tmp_path / "run") as run:
        if die_at is not None:
            with pytest.raises(Killed):
                make(run, Broken(die_at=die_at), consensus=True, budget=MORE).run()
        make(run, Broken(), consensus=True, budget=MORE).run()
        records = list(run.database.records())
        assert len(records) == MORE.candidates and not any(record.is_consensus for record in records)
        assert [record.state for record in records] == [State.COMPLETE] * 9 + [State.FAILED] * (len(records) - 9)


class Turns(MeanEstimator):
    """Ranks by the mean of the answers, and the other way round after each further candidate that it was told of."""

    def fit(self, references, answers, points) -> None:
        super().fit(references, answers, points)
        self.sign = 1.0 if len(answers) % 2 == 0 else -1.0

    def estimate(self, point, answers) -> Guess:
        guess = super().estimate(point, answers)
        return replace(guess, mean=0.5 + self.sign * (guess.mean - 0.5))


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.rule if race else "none")
def test_a_continued_run_ranks_by_what_was_known_before_its_consensus(tmp_path, race) -> None:
    def turning(run: RunDir, machine: Machine) -> Search:
        search = make(run, machine, consensus=True, race=race, budget=MORE)
        search.scoring._estimators = [Turns() for _ in TERMS]
        return search

    def everything(run: RunDir) -> list[tuple]:
        return [
            (record.to_data(), *(run.database.item_scores(record.number, split) for split in Split))
            for record in run.database.records(baselines=True)
        ]

    whole = Machine()
    with create(tmp_path / "whole") as run:
        winner = turning(run, whole).run().number
        expected = everything(run)
    consensus = [place for place, job in enumerate(whole.ran) if job.candidate == 24]
    assert {whole.ran[place].split for place in consensus} >= {Split.SEARCH, Split.VALIDATION}
    for die_at in range(consensus[0] - 1, len(whole.ran) + 1):
        with create(tmp_path / f"killed{die_at}") as run:
            with contextlib.suppress(Killed):
                turning(run, Machine(die_at=die_at)).run()
            again = Machine()
            assert turning(run, again).run().number == winner
            assert everything(run) == expected
            assert die_at < len(whole.ran) or again.ran == []


def test_more_budget_after_a_consensus_goes_on_with_free_numbers(tmp_path) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(), consensus=True, budget=MORE).run()
        before = rows(run)
        make(run, Machine(), consensus=True, budget=Budget(candidates=33)).run()
        after = rows(run)
        assert after[:25] == before
        names = [record.name for record in run.database.records()]
        assert [number for number, name in enumerate(names) if name == "consensus"] == [24, 32]
        assert len(names) == 33
    with create(tmp_path / "killed") as run:
        make(run, Machine(), consensus=True, budget=MORE).run()
        with pytest.raises(Killed):
            make(run, Machine(die_at=3), consensus=True, budget=Budget(candidates=33)).run()
        make(run, Machine(), consensus=True, budget=Budget(candidates=33)).run()
        assert rows(run) == after


def test_short_searches_and_those_with_choices_have_no_consensus(tmp_path) -> None:
    with create(tmp_path / "short") as run:
        make(run, Machine(), consensus=True, budget=Budget(candidates=19)).run()
        assert [record.is_consensus for record in run.database.records()] == [False] * 19

    class Whole(Plane):
        def __init__(self) -> None:
            self._genes = (Gene.integer("a", 0, 9, 3), Gene.integer("b", 0, 9, 3))

    with create(tmp_path / "whole") as run:
        stages = [Stage("search", 1.0, lambda best: VectorStrategy(Whole(), CMA(2, [0.25, 0.75], 3, population=6)))]
        make(run, Machine(), consensus=True, budget=MORE, stages=stages).run()
        assert not any(record.is_consensus for record in run.database.records())


def test_what_other_models_answered_is_used_and_makes_first_estimates_better(tmp_path) -> None:
    rng = np.random.default_rng(0)
    errors = {}
    for others in (False, True):
        with create(tmp_path / str(others)) as run:
            search = make(run, Machine(), items=6, choose="uniform", budget=Budget(candidates=6))
            if others:
                points = [{"a": float(a), "b": float(b)} for a, b in 0.4 + 0.8 * rng.random((40, 2))]
                recipes = [Recipe("linear", PARENTS, parameters={"weight": point}) for point in points]
                search.scoring.observe_others(
                    {t: np.array([[right(r, Split.SEARCH, t, i) for i in POOL[t]] for r in recipes]) for t in POOL}
                )
            search.run()
            found = []
            for record in run.database.records():
                truth = np.mean([np.mean([right(record.recipe, Split.SEARCH, t, i) for i in POOL[t]]) for t in POOL])
                found.append(abs(record.fitness - truth))
            errors[others] = np.mean(found)
    assert errors[True] < errors[False]


@pytest.mark.parametrize("name", ["ridge", "mixture", "evomerge.estimation.simple:Mean"])
def test_any_estimator_of_estimation_serves_a_search(tmp_path, name) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(), estimator=name).run()
        assert all(0.0 <= record.fitness <= 1.0 for record in run.database.records())


def test_intervals_of_estimated_shares_stay_within_0_and_1(tmp_path) -> None:
    with create(tmp_path / "run") as run:
        make(run, Machine(), items=3).run()
        scores = [r.scores[Split.SEARCH] for r in run.database.records() if r.scores]
    assert all(-1e-12 <= score.low <= score.mean <= score.high <= 1.0 + 1e-12 for score in scores)
    assert any(score.high - score.mean != pytest.approx(score.mean - score.low) for score in scores)
