"""A probe asks each parent a few items, in bounds, and times three merges."""

import machines
import pytest

from evomerge.errors import CheckpointError, ExecutionError, Fault, Interrupted
from evomerge.execution.base import StopSignal
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State
from evomerge.search.budget import Budget
from evomerge.search.probe import probe, probe_items

POOL = {"sums": tuple(range(100, 160)), "words": tuple(range(40))}
PARENTS = {name: Recipe("linear", (Parent(name, ModelSource(name)),)) for name in ("a", "b")}
MERGES = [
    Recipe("linear", tuple(Parent(name, ModelSource(name)) for name in "ab"), parameters={"weight": weight})
    for weight in (0.1, 0.2, 0.3)
]
ITEMS = {"sums": tuple(range(100, 108)), "words": tuple(range(8))}


class Timed(machines.Machine):
    """Takes a second for a merge, two for a batch and a tenth for an item; states and faults may be given."""

    def __init__(self, states: dict[str, State] | None = None, fault: Fault | None = None) -> None:
        super().__init__()
        self.states, self.fault, self.asked = states or {}, fault, []

    def answer(self, job: Job) -> Outcome:
        name = "+".join(parent.name for parent in job.recipe.parents)
        assert job.split == Split.SEARCH and job.items is not None
        state = self.states.get(name, State.COMPLETE)
        n = sum(map(len, job.items.values()))
        self.asked.append((name, n))
        if state != State.COMPLETE:
            return Outcome(job, state, (), 0.1, "cpu", "broken", self.fault)
        scores = tuple(ItemScore(task, item, {"acc": 1.0}) for task, own in job.items.items() for item in own)
        return Outcome(job, state, scores, 3.0 + 0.1 * n, "cpu", build_seconds=1.0)


def ask(machine: Timed, stop: StopSignal | None = None, merges: list[Recipe] = MERGES):
    return probe(machine, PARENTS, merges, ITEMS, batch_size=64, stop=stop or StopSignal())


def chosen(budget: Budget, pool: dict[str, tuple[int, ...]] = POOL, batch_size: int = 64):
    per_candidate = sum(map(len, pool.values()))
    return probe_items(
        pool, per_candidate=per_candidate, budget=budget, parents=2, validation=20, batch_size=batch_size
    )


def test_each_parent_is_asked_once_and_merges_are_timed_with_few_and_more_items() -> None:
    machine = Timed()
    found = ask(machine)
    assert sorted(machine.asked[:2]) == [("a", 16), ("b", 16)]
    assert machine.asked[2:] == [("a+b", 16), ("a+b", 4), ("a+b", 16)]
    assert {name: len(scores) for name, scores in found.scores.items()} == {"a": 16, "b": 16}
    assert found.cost is not None
    assert found.cost.build == 1.0
    assert (found.cost.batch, found.cost.item) == (pytest.approx(2.0), pytest.approx(0.1))


def test_a_parent_that_cannot_be_built_has_the_error_of_a_baseline() -> None:
    with pytest.raises(CheckpointError, match="baseline 'b' cannot be built: broken"):
        ask(Timed({"b": State.INVALID}))
    with pytest.raises(ExecutionError, match="the device failed while baseline 'b' was scored: broken"):
        ask(Timed({"b": State.FAILED}, Fault.DEVICE))


def test_a_parent_or_merge_that_cannot_be_scored_is_left_to_the_search() -> None:
    found = ask(Timed({"b": State.FAILED}))
    assert list(found.scores) == ["a"] and found.cost is not None
    assert ask(Timed({"a+b": State.INVALID})).cost is None
    assert ask(Timed(), merges=MERGES[:2]).cost is None


def test_a_probe_can_be_stopped() -> None:
    stop = StopSignal()
    stop.request()
    machine = Timed()
    with pytest.raises(Interrupted):
        ask(machine, stop)
    assert not machine.asked


def test_the_first_items_of_each_task_are_asked_a_twentieth_of_the_search_at_most() -> None:
    assert chosen(Budget(candidates=500)) == ITEMS
    assert chosen(Budget(seconds=60.0)) == ITEMS
    few = chosen(Budget(candidates=6))  # (2 * 120 + 600) / 20 = 42 items for five jobs on two tasks
    assert few == {task: own[:4] for task, own in POOL.items()}
    assert chosen(Budget(candidates=500), batch_size=10) == {task: own[:5] for task, own in POOL.items()}


def test_a_short_search_has_no_probe() -> None:
    assert chosen(Budget(candidates=3)) is None
    assert chosen(Budget(items=300)) is None
    assert chosen(Budget(candidates=500), {"sums": tuple(range(8))}) is None  # the baselines are as short
