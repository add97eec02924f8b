"""Partial answers: who steals what, and that together they are the answers of one process, bit for bit."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import Tiny

from evomerge.errors import EvaluationError
from evomerge.evaluation import SplitSizes, TaskSpec
from evomerge.evaluation.engines.batching import TokenBudget
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.harness import LmHarness
from evomerge.record import Split

SIZES = SplitSizes(search=None, validation=0, test=0)
SPECS = (TaskSpec("copy", "exact_match"), TaskSpec("choice", "acc"), TaskSpec("texts", "bits_per_byte"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def begun(units: int, *, building: float, took: tuple[float, ...], **options: Any) -> tuple[UnitRange, Clock]:
    """A range whose worker took some units; the last of them is running."""
    clock = Clock()
    own = UnitRange(**options, clock=clock)
    clock.now += building
    own.open(units)
    for unit, seconds in enumerate(took):
        assert own.take(own.first + unit, own.first + unit + 1) == (own.first + unit, own.first + unit + 1)
        clock.now += seconds
    return own, clock


def test_units_are_taken_from_the_front_and_stolen_from_the_back() -> None:
    own, _ = begun(10, building=0.0, took=(1.0, 1.0))
    assert own.steal() == (6, 10)
    assert not own.whole
    assert own.overlaps(5, 9)
    assert not own.overlaps(6, 10)
    assert own.take(2, 8) == (2, 6)
    assert own.take(6, 10) == (6, 6)
    assert own.steal() is None
    thief = UnitRange(6, 10)
    thief.open(10)
    assert not thief.whole
    assert thief.take(0, 6) == (6, 6)
    assert thief.take(4, 8) == (6, 8)
    assert thief.take(8, 10) == (8, 10)


@pytest.mark.parametrize(
    ("units", "building", "took", "stolen"),
    [
        (2, 0.0, (1.0,), 1),  # half of one and one, against one and a half
        (10, 100.0, (1.0, 1.0), 0),  # the other one would build for longer than what is left takes
        (10, 4.0, (1.0, 1.0), 2),  # 6.5 against 4 + 2
        (100, 0.0, (1.0,) * 10, 45),
        (3, 0.0, (1.0, 1.0, 1.0), 0),
    ],
)
def test_as_much_is_stolen_as_lets_both_finish_soonest(units, building, took, stolen) -> None:
    own, _ = begun(units, building=building, took=took)
    found = own.steal()
    assert found == (None if not stolen else (units - stolen, units))


def test_nothing_is_stolen_before_the_pace_is_known() -> None:
    clock = Clock()
    own = UnitRange(clock=clock)
    assert own.steal() is None
    clock.now = 1.0
    own.open(8)
    assert own.steal() is None
    known = UnitRange(pace=1.0, clock=clock)
    assert known.steal() is None  # not counted yet
    known.open(8)
    assert known.steal() == (4, 8)
    begun_now, clock = begun(8, building=0.0, took=(0.001,), pace=1.0)
    assert begun_now.pace == 1.0
    clock.now = 3.0
    assert begun_now.pace == 3.0


def harness(tasks: Path, *specs: TaskSpec, batch_size: int = 4, **options: Any) -> LmHarness:
    return LmHarness(specs, sizes=SIZES, seed=3, include_path=[tasks], batch_size=batch_size, **options)


def answers_of(made: LmHarness, tiny: Tiny, first: int, end: int | None, items: Any = None) -> tuple[Any, int]:
    own = UnitRange(first, end)
    found = made.answers(tiny.model, tiny.tokenizer, Split.SEARCH, items, own)
    assert own.n_units is not None
    assert (own.first, own.end) == (first, end or own.n_units)
    return pickle.loads(pickle.dumps(found)), own.n_units


@pytest.mark.parametrize("engine", ["hf", "lm-eval"])
@pytest.mark.parametrize("batch_size", [4, 7])
def test_parts_from_other_processes_give_the_scores_of_one(
    tiny: Tiny, tasks: Path, engine: str, batch_size: int
) -> None:
    one = harness(tasks, *SPECS, batch_size=batch_size, engine=engine, measures=["generated_tokens"])
    expected = one.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    others = [
        harness(tasks, *SPECS, batch_size=batch_size, engine=engine, measures=["generated_tokens"]) for _ in range(3)
    ]
    whole, n = answers_of(one, tiny, 0, None)
    assert n >= (8 if engine == "hf" else 3)
    for cut in range(1, n, 3):
        parts = [answers_of(others[0], tiny, 0, cut)[0], answers_of(others[1], tiny, cut, None)[0]]
        assert [{**a, **b} for a, b in zip(*parts, strict=True)] == whole
        assert not any(a.keys() & b.keys() for a, b in zip(*parts, strict=True))
        assert others[2].scores(tiny.model, tiny.tokenizer, Split.SEARCH, None, parts) == expected
    with pytest.raises(EvaluationError, match=r"\d+ of \d+ generate_until requests were not answered"):
        one.scores(tiny.model, tiny.tokenizer, Split.SEARCH, None, [answers_of(others[0], tiny, 1, None)[0]])


def test_a_few_items_in_parts(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, *SPECS)
    items = {name: chosen[:7] for name, chosen in made.split_items(Split.SEARCH).items()}
    expected = made.score(tiny.model, tiny.tokenizer, Split.SEARCH, items)
    _, n = answers_of(made, tiny, 0, None, items)
    parts = [answers_of(made, tiny, unit, unit + 1, items)[0] for unit in reversed(range(n))]
    assert made.scores(tiny.model, tiny.tokenizer, Split.SEARCH, items, parts) == expected


def test_what_is_stolen_in_the_middle_is_left_out(tiny: Tiny, tasks: Path, monkeypatch) -> None:
    made = harness(tasks, *SPECS)
    expected = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    times = itertools.chain([0.0, 0.0], itertools.repeat(1.0))  # built at once, then a second for what was taken
    own, stolen = UnitRange(clock=lambda: next(times)), []
    take = UnitRange.take

    def take_and_steal(self: UnitRange, start: int, stop: int) -> tuple[int, int]:
        found = take(self, start, stop)
        if self is own and not stolen:
            stolen.append(self.steal())
        return found

    monkeypatch.setattr(UnitRange, "take", take_and_steal)
    mine = made.answers(tiny.model, tiny.tokenizer, Split.SEARCH, None, own)
    ((first, end),) = stolen
    assert own.end == first > 0
    theirs, n = answers_of(harness(tasks, *SPECS), tiny, first, None)
    assert end == n
    assert made.scores(tiny.model, tiny.tokenizer, Split.SEARCH, None, [theirs, mine]) == expected


def test_parts_are_complete_where_memory_makes_the_batches_smaller(tiny: Tiny, tasks: Path, monkeypatch) -> None:
    def three_rows(self, kind, lengths, device, probe):
        return iter([(i, min(i + 3, len(lengths))) for i in range(0, len(lengths), 3)])

    monkeypatch.setattr(TokenBudget, "batches", three_rows)
    made = harness(tasks, *SPECS)
    whole, n = answers_of(made, tiny, 0, None)
    for cut in range(1, n, 3):
        parts = [answers_of(made, tiny, 0, cut)[0], answers_of(made, tiny, cut, None)[0]]
        together = [{**a, **b} for a, b in zip(*parts, strict=True)]
        assert [one.keys() for one in together] == [one.keys() for one in whole]
        assert together[0] == whole[0]  # greedy texts, in float32


def test_a_worker_with_smaller_batches_cuts_as_the_others_do(tiny: Tiny, tasks: Path) -> None:
    made, halved = harness(tasks, *SPECS, batch_size=8), harness(tasks, *SPECS, batch_size=8, halvings=1, sharers=2)
    whole, n = answers_of(made, tiny, 0, None)
    parts = [answers_of(halved, tiny, 0, n // 2)[0], answers_of(made, tiny, n // 2, None)[0]]
    together = [{**a, **b} for a, b in zip(*parts, strict=True)]
    assert [one.keys() for one in together] == [one.keys() for one in whole]
    assert answers_of(halved, tiny, 0, None)[1] == n
    assert halved._engine._budget.batch_size == 4  # type: ignore[union-attr]
    assert together[0] == whole[0]
