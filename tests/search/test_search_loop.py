import contextlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import machines
import numpy as np
import pytest
from accuracy import Accuracy
from machines import Killed, order_of_answers

from evomerge.errors import CheckpointError, ConfigError, EvaluationError, ExecutionError, Interrupted
from evomerge.evaluation.objective import RecipeTerm
from evomerge.execution.base import StopSignal
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.base import Optimizer, Point
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Record, Result, Split, State
from evomerge.search.budget import Budget
from evomerge.search.loop import MAX_REPEATS
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.strategies.base import ARCHIVE
from evomerge.strategies.vector import VectorStrategy

pytestmark = pytest.mark.usefixtures("lazy_disk")

N_ITEMS = 5


class Line(GeneSpace):
    """A space of one gene, the weight of one parent, rounded so that proposals can repeat."""

    def __init__(self, digits: int = 12) -> None:
        self._genes = (Gene("weight", 0.0, 1.0, 0.5),)
        self.digits = digits

    def genome(self, x: np.ndarray) -> tuple[float, ...]:
        return (round(float(x[0]), self.digits),)

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": genome[0]})


class Walk(Optimizer):
    """An optimizer whose next point depends on all that it was told, so that a lost tell shows."""

    n_dims = 1

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.asked = 0
        self.told: dict[int, float | None] = {}

    def ask(self) -> Point:
        drift = 0.01 * sum(1 for fitness in self.told.values() if fitness is not None and fitness > 0.5)
        x = np.array([(self.rng.random() + drift) % 1.0])
        self.asked += 1
        return Point(self.asked - 1, x)

    def tell(self, number: int, result: Result | None) -> None:
        assert 0 <= number < self.asked
        assert number not in self.told
        self.told[number] = None if result is None else result.objectives[0]

    def dump_state(self) -> bytes:
        return pickle.dumps((self.rng.bit_generator.state, self.asked, self.told))

    def load_state(self, state: bytes) -> None:
        self.rng.bit_generator.state, self.asked, self.told = pickle.loads(state)


@dataclass
class Machine(machines.Machine):
    """Scores by the weight: item i is right where the weight is above i / N_ITEMS."""

    seconds: float = 0.1
    fails: Callable[[Job], State | None] = lambda job: None

    def answer(self, job: Job) -> Outcome:
        state = self.fails(job)
        if state is not None:
            return Outcome(job, state, (), self.seconds, "cpu", "it broke")
        weight = float(job.recipe.parameters["weight"])  # type: ignore[arg-type]
        shift = {Split.SEARCH: 0.0, Split.VALIDATION: 0.05, Split.TEST: 0.1}[job.split]
        scores = tuple(ItemScore("t", i, {"acc": float(weight > i / N_ITEMS + shift)}) for i in range(N_ITEMS))
        return Outcome(job, State.COMPLETE, scores, self.seconds, "cpu")


def baseline(weight: float) -> Recipe:
    return Recipe("linear", (Parent("p", ModelSource("p")),), parameters={"weight": weight})


def make(
    run: RunDir,
    machine: Machine,
    *,
    budget: Budget | None = None,
    digits: int = 12,
    stages=None,
    judge: Accuracy | None = None,
    **options,
) -> Search:
    return Search(
        run_dir=run,
        stages=stages or [Stage("search", 1.0, lambda best: VectorStrategy(Line(digits), Walk()))],
        executor=machine,
        scoring=Scoring(judge or Accuracy(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)])),
        baselines={"a": baseline(0.2), "average": baseline(0.5)},
        budget=budget or Budget(candidates=20),
        finalists=3,
        **options,
    )


@pytest.fixture
def run(tmp_path: Path):
    with RunDir.create(tmp_path / "run", config={"name": "test", "budget": {}}) as made:
        yield made


def rows(run: RunDir) -> list[tuple]:
    return [(r.number, r.state, r.genome, r.fitness, r.recipe.content_hash) for r in run.database.records()]


def test_parents_and_average_are_scored_before_the_first_candidate(run: RunDir) -> None:
    machine = Machine()
    make(run, machine).run()
    searched = [job.candidate for job in machine.ran if job.split == Split.SEARCH]
    assert searched[:3] == [-1, -2, 0]
    assert [b["name"] for b in run_status(run)["baselines"]] == ["a", "average"]


def test_the_winner_is_chosen_on_validation_items_among_the_best_k_and_only_it_meets_the_test_items(
    run: RunDir,
) -> None:
    machine = Machine()
    winner = make(run, machine).run()
    validated = [job.candidate for job in machine.ran if job.split == Split.VALIDATION and job.candidate >= 0]
    best = sorted(run.database.records(), key=lambda r: (-r.fitness, r.number))[:3]
    assert validated == [record.number for record in best]
    assert [job.candidate for job in machine.ran if job.split == Split.TEST] == [-1, -2, winner.number]
    assert winner.scores is not None and set(winner.scores) == set(Split)
    validation = {n: run.database.record(n).scores[Split.VALIDATION].mean for n in validated}
    assert validation[winner.number] == max(validation.values())
    assert run.best() == winner.recipe


def test_a_budget_in_candidates_is_kept_exactly(run: RunDir) -> None:
    make(run, Machine(), budget=Budget(candidates=7)).run()
    assert [record.number for record in run.database.records()] == list(range(7))


@pytest.mark.parametrize(("items", "candidates"), [(5, 1), (9, 1), (10, 2), (52, 10)])
@pytest.mark.parametrize("capacity", [1, 3])
def test_a_budget_in_items_is_never_exceeded(tmp_path: Path, items: int, candidates: int, capacity: int) -> None:
    with RunDir.create(tmp_path / "r", config={}) as run:
        make(run, Machine(capacity=capacity), budget=Budget(items=items)).run()
        assert run.database.count() == candidates
        assert run_status(run)["items"] == candidates * N_ITEMS <= items


def test_a_budget_below_one_candidate_is_refused(run: RunDir) -> None:
    with pytest.raises(ConfigError, match=r"budget.items is 4, but one candidate takes 5 items"):
        make(run, Machine(), budget=Budget(items=4))


def test_a_budget_in_seconds_drops_the_candidate_that_runs_over(run: RunDir) -> None:
    now = [0.0]
    stop = StopSignal(clock=lambda: now[0])

    def before() -> None:
        now[0] += 1.0
        if stop.deadline is not None and stop.now():
            raise Interrupted("deadline")

    make(run, Machine(before=before), budget=Budget(seconds=4.5), stop=stop, clock=lambda: now[0]).run()
    assert run.database.count() == 4
    assert run_status(run)["best"]["test"] is not None
    # The one that was dropped is proposed again when there is more to spend, and counts once.
    make(run, Machine(), budget=Budget(candidates=7), clock=lambda: now[0]).run()
    assert [record.number for record in run.database.records()] == list(range(7))


def test_without_validation_items_the_best_on_the_search_items_wins(run: RunDir) -> None:
    winner = make(run, Machine(), splits=(Split.SEARCH, Split.TEST)).run()
    assert winner.fitness == max(record.fitness for record in run.database.records())
    assert winner.scores is not None and set(winner.scores) == {Split.SEARCH, Split.TEST}


def test_the_first_limit_counts(run: RunDir) -> None:
    make(run, Machine(), budget=Budget(candidates=9, items=17)).run()
    assert run.database.count() == 3


@pytest.mark.parametrize("capacity", [1, 4])
def test_a_recipe_is_not_scored_twice(tmp_path: Path, capacity: int) -> None:
    with RunDir.create(tmp_path / "r", config={}) as run:
        machine = Machine(capacity=capacity)
        make(run, machine, digits=1, budget=Budget(candidates=60)).run()
        hashes = [job.recipe.content_hash for job in machine.ran if job.split == Split.SEARCH]
        assert len(set(hashes)) == len(hashes) <= 11 + 2
        records = list(run.database.records())
        assert [record.number for record in records] == list(range(60))
        first: dict[str, Record] = {}
        for record in records:
            original = first.setdefault(record.recipe.content_hash, record)
            assert record.fitness == original.fitness
            assert record.same_as == (None if record is original else original.number) or capacity > 1
        assert run_status(run)["cache_hits"] == 60 - len(first)


def test_a_search_bounded_by_items_ends_when_the_optimizer_has_nothing_new(run: RunDir) -> None:
    make(run, Machine(), digits=0, budget=Budget(items=100)).run()
    assert MAX_REPEATS <= run.database.count() <= MAX_REPEATS + 20


def test_failed_and_invalid_candidates_are_records_and_the_search_goes_on(run: RunDir) -> None:
    def fails(job: Job) -> State | None:
        return {2: State.FAILED, 3: State.INVALID}.get(job.candidate)

    search = make(run, Machine(fails=fails), budget=Budget(candidates=10))
    search.run()
    records = list(run.database.records())
    assert [records[i].state for i in (1, 2, 3, 4)] == [State.COMPLETE, State.FAILED, State.INVALID, State.COMPLETE]
    assert records[2].error == "it broke"
    told = search._questions.strategy.optimizer.told
    assert told[2] is None and told[4] is not None
    assert run_status(run)["failed"] == 2


def test_a_search_in_which_everything_fails_says_why(run: RunDir) -> None:
    def fails(job: Job) -> State | None:
        return State.FAILED if job.candidate >= 0 else None

    with pytest.raises(EvaluationError, match=r"no candidate could be scored.*it broke"):
        make(run, Machine(fails=fails), budget=Budget(candidates=3)).run()
    assert run.database.count() == 3


def test_a_parent_that_cannot_be_built_ends_the_search_before_the_first_candidate(run: RunDir) -> None:
    def fails(job: Job) -> State | None:
        return State.INVALID if job.candidate == -1 else None

    with pytest.raises(CheckpointError, match=r"baseline 'a' cannot be built: it broke"):
        make(run, Machine(fails=fails)).run()
    assert run.database.count(baselines=True) == 0
    make(run, Machine()).run()  # the parent was mended
    assert run.database.count() == 20


def test_a_nan_objective_is_a_failed_candidate(run: RunDir) -> None:
    class Strange(Accuracy):
        def result_of(self, means, recipe=None) -> Result:
            result = super().result_of(means, recipe)
            if result.objectives[0] > 0.7:
                raise EvaluationError("the objective is not a number (NaN) on the search items")
            return result

    make(run, Machine(), budget=Budget(candidates=12), judge=Strange()).run()
    failed = [record for record in run.database.records() if record.state == State.FAILED]
    assert failed and all("not a number" in (record.error or "") for record in failed)


def test_a_finalist_whose_validation_scores_are_nan_is_passed_over(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    class Strange(Accuracy):
        def score(self, scores, split=Split.SEARCH):
            found = super().score(scores, split)
            if split == Split.VALIDATION and found.mean == 1.0:
                raise EvaluationError("metric 'acc' is nan")
            return found

    winner = make(run, Machine(), judge=Strange()).run()
    scored = [record for record in run.database.records() if Split.VALIDATION in (record.scores or {})]
    assert 0 < len(scored) < 3 and winner.number in {record.number for record in scored}
    assert "could not be scored on the validation items: metric 'acc' is nan" in caplog.text


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_search_killed_anywhere_and_resumed_has_each_candidate_once(tmp_path: Path, capacity: int) -> None:
    with RunDir.create(tmp_path / "whole", config={}) as run:
        machine = Machine(capacity=capacity)
        whole = make(run, machine, digits=2).run()
        expected = rows(run)
    for die_at in range(0, len(machine.ran), 2):
        path = tmp_path / f"killed{die_at}"
        with RunDir.create(path, config={}) as run, pytest.raises(Killed):
            make(run, Machine(capacity=capacity, die_at=die_at), digits=2).run()
        with RunDir.open(path, write=True) as run:
            winner = make(run, Machine(capacity=capacity), digits=2).run()
            found = rows(run)
        assert [row[0] for row in found] == list(range(20))
        if capacity == 1:  # with one worker the order of tells is fixed, so the trajectory is the same bit for bit
            assert found == expected
            assert winner.number == whole.number


def test_a_run_killed_again_and_again_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "whole", config={}) as run:
        make(run, Machine(), digits=2).run()
        expected = rows(run)
    path = tmp_path / "killed"
    RunDir.create(path, config={}).close()
    for _ in range(100):
        with RunDir.open(path, write=True) as run:
            try:
                make(run, Machine(die_at=1), digits=2).run()
                break
            except Killed:
                continue
    with RunDir.open(path) as run:
        assert rows(run) == expected
        assert run_status(run)["best"]["test"] is not None


def on_a_slow_disk(run: RunDir, machine: Machine, patch: pytest.MonkeyPatch) -> tuple[Search, list[int]]:
    """A search with candidates of 1 ms and transactions of 20 ms, and how many are on disk after each of these."""
    now, written = [0.0], []
    together = run.database.together

    @contextlib.contextmanager
    def slowly():
        with together():
            yield
        now[0] += 0.02
        written.append(run.database.count())

    def before() -> None:
        now[0] += 0.001

    machine.before = before
    patch.setattr(run.database, "together", slowly)
    return make(run, machine, budget=Budget(candidates=300), clock=lambda: now[0]), written


def test_candidates_that_cost_nothing_share_transactions_and_those_that_cost_something_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, transactions = [], []
    for seconds in (0.0, 0.1):
        with RunDir.create(tmp_path / str(seconds), config={}) as run:
            search, written = on_a_slow_disk(run, Machine(seconds=seconds), monkeypatch)
            search.run()
            found.append(rows(run))
            transactions.append(len(written))
            assert run.best() is not None
            assert order_of_answers(run) == list(range(300))
    assert found[0] == found[1]
    assert transactions[0] < 20
    assert transactions[1] == 302 + 8  # the baselines', too, and those of five validations and three tests


def test_what_waits_for_a_transaction_is_written_before_an_error_and_found_again_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: Job) -> None:
        if job.candidate == 200:
            raise ExecutionError("no workers are left")

    with RunDir.create(tmp_path / "whole", config={}) as run:
        on_a_slow_disk(run, Machine(seconds=0.0), monkeypatch)[0].run()
        expected = rows(run)
    with RunDir.create(tmp_path / "error", config={}) as run:
        search, written = on_a_slow_disk(run, Machine(seconds=0.0, fails=stop), monkeypatch)
        with pytest.raises(ExecutionError):
            search.run()
        assert written[-2] < written[-1] == run.database.count() == 200
    with RunDir.create(tmp_path / "killed", config={}) as run:
        search, _ = on_a_slow_disk(run, Machine(seconds=0.0, die_at=202), monkeypatch)
        with pytest.raises(Killed):
            search.run()
        assert 0 < run.database.count() < 200
    for name in ("error", "killed"):
        with RunDir.open(tmp_path / name, write=True) as run:
            on_a_slow_disk(run, Machine(seconds=0.0), monkeypatch)[0].run()
            assert rows(run) == expected


def test_a_larger_budget_continues_as_if_it_had_been_there_from_the_start(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "whole", config={}) as run:
        make(run, Machine(), budget=Budget(candidates=20)).run()
        expected = rows(run)
    with RunDir.create(tmp_path / "parts", config={}) as run:
        make(run, Machine(), budget=Budget(candidates=8)).run()
    with RunDir.open(tmp_path / "parts", write=True) as run:
        make(run, Machine(), budget=Budget(candidates=20)).run()
        assert rows(run) == expected


def test_one_request_to_stop_finishes_the_running_candidate(run: RunDir) -> None:
    stop = StopSignal()
    machine = Machine()

    def before() -> None:
        if machine.jobs[0].candidate == 5:
            stop.request()

    machine.before = before
    with pytest.raises(Interrupted, match="stopped as asked"):
        make(run, machine, stop=stop).run()
    assert [record.number for record in run.database.records()] == list(range(6))
    make(run, Machine()).run()
    assert run.database.count() == 20


class Niches(VectorStrategy):
    """Keeps the best of each half of the line."""

    def __init__(self) -> None:
        super().__init__(Line(), Walk())
        self.choice = ARCHIVE

    def finalists(self, ranked: Sequence[Record], n: int) -> list[Record]:
        halves = [[one for one in ranked if (one.genome[0] > 0.5) == upper] for upper in (True, False)]
        return [half[0] for half in halves if half]


@pytest.mark.parametrize("splits", [tuple(Split), (Split.SEARCH, Split.TEST)])
def test_a_search_can_end_with_an_archive_whose_members_are_all_tested(run: RunDir, splits: tuple[Split, ...]) -> None:
    best = make(run, Machine(), stages=[Stage("search", 1.0, lambda elite: Niches())], splits=splits).run()
    choice = run.database.choice()
    assert choice is not None and choice.kind == ARCHIVE and len(choice.records) == 2
    assert choice.best == best.number
    chosen = [run.database.record(number) for number in choice.records]
    assert sorted(record.genome[0] > 0.5 for record in chosen) == [False, True]
    assert all(set(record.scores) == set(splits) for record in chosen)
    machine = Machine()
    make(run, machine, stages=[Stage("search", 1.0, lambda elite: Niches())], splits=splits).run()
    assert machine.ran == [] and run.database.choice() == choice


def test_a_finished_search_run_again_scores_nothing(run: RunDir) -> None:
    first = make(run, Machine()).run()
    machine = Machine()
    assert make(run, machine).run() == first
    assert machine.ran == []


class From(Line):
    """A space whose weights lie above that of the recipe that the stage began with."""

    def __init__(self, elite: Recipe) -> None:
        super().__init__()
        self.low = float(elite.parameters["weight"])  # type: ignore[arg-type]

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return Recipe("linear", (Parent("b", ModelSource("b")),), parameters={"weight": self.low + genome[0] / 4})


def two_stages(begun: list[Recipe | None] | None = None) -> list[Stage]:
    def begin(elite: Recipe | None) -> VectorStrategy:
        if begun is not None:
            begun.append(elite)
        return VectorStrategy(*((Line(), Walk()) if elite is None else (From(elite), Walk(seed=9))))

    return [Stage("one", 0.4, begin), Stage("two", 1.0, begin)]


def test_a_later_stage_begins_with_the_best_recipe_so_far_and_both_share_one_budget(run: RunDir) -> None:
    begun: list[Recipe | None] = []
    make(run, Machine(), budget=Budget(candidates=20), stages=two_stages(begun)).run()
    records = list(run.database.records())
    assert [record.number for record in records] == list(range(20))
    first = records[:8]
    best = max(first, key=lambda r: (r.fitness, -r.number))
    assert begun == [None, best.recipe]
    assert [r.recipe.parents[0].name for r in records] == ["a"] * 8 + ["b"] * 12


@pytest.mark.parametrize("budget", [Budget(items=103), Budget(candidates=21)])
@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("die_at", [3, 9, 10, 11, 12, 17])
def test_a_run_of_two_stages_that_is_killed_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, budget: Budget, die_at: int, capacity: int
) -> None:
    with RunDir.create(tmp_path / "whole", config={}) as run:
        make(run, Machine(capacity=capacity), budget=budget, stages=two_stages()).run()
        expected = rows(run)
    with RunDir.create(tmp_path / "killed", config={}) as run, pytest.raises(Killed):
        make(run, Machine(capacity=capacity, die_at=die_at), budget=budget, stages=two_stages()).run()
    with RunDir.open(tmp_path / "killed", write=True) as run:
        make(run, Machine(capacity=capacity), budget=budget, stages=two_stages()).run()
        assert len(rows(run)) == len(expected)
        if capacity == 1:  # with more, the order of tells depends on the moment of the kill
            assert rows(run) == expected


def test_a_stage_without_any_scored_candidate_ends_the_search_with_the_reasons(run: RunDir) -> None:
    fails = Machine(fails=lambda job: State.FAILED if job.candidate >= 0 else None)
    with pytest.raises(EvaluationError, match=r"no candidate could be scored.*it broke"):
        make(run, fails, stages=two_stages()).run()
    assert len(rows(run)) == 8


def test_what_a_recipe_costs_is_taken_off_its_fitness_and_counts_for_the_winner(run: RunDir) -> None:
    def cost(recipe: Recipe) -> float:
        return 2.0 if float(recipe.parameters["weight"]) > 0.5 else 0.0  # type: ignore[arg-type]

    winner = make(run, Machine(), judge=Accuracy([RecipeTerm("cost", -1.0, cost)])).run()
    assert float(winner.recipe.parameters["weight"]) <= 0.5  # type: ignore[arg-type]
    for record in run.database.records():
        assert record.fitness == pytest.approx(record.scores[Split.SEARCH].mean - cost(record.recipe))
