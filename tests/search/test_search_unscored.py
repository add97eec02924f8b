"""Models that cannot be scored on some split: the search ends all the same, and says so."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_search_loop import Machine, make

from evomerge.analysis.cautions import cautions
from evomerge.errors import EvaluationError, ExecutionError, Fault
from evomerge.record import Job, Outcome, Record, Split, State
from evomerge.search.budget import Budget
from evomerge.search.verdicts import reasons_of
from evomerge.store.run_dir import RunDir
from evomerge.store.status import UNSCORED, run_status

pytestmark = pytest.mark.usefixtures("lazy_disk")


@pytest.fixture
def run(tmp_path: Path):
    with RunDir.create(tmp_path / "run", config={"models": {"parents": {"a": "a"}}}) as run:
        yield run


def texts_of(run: RunDir) -> list[str]:
    return [one.text for one in cautions(run_status(run))]


def on(split: Split, who: Callable[[int], bool] = lambda number: True) -> Callable[[Job], State | None]:
    return lambda job: State.FAILED if job.split == split and who(job.candidate) else None


def test_the_next_best_takes_the_place_of_a_finalist_that_cannot_be_scored(run: RunDir) -> None:
    make(run, Machine()).run()
    first = [record.number for record in run.database.records() if Split.VALIDATION in (record.scores or {})]
    assert len(first) == 3
    with RunDir.create(run.path.parent / "other", config={}) as other:
        winner = make(other, Machine(fails=on(Split.VALIDATION, lambda number: number in first))).run()
        scored = [record.number for record in other.database.records() if Split.VALIDATION in (record.scores or {})]
        assert len(scored) == 3 and not set(scored) & set(first) and winner.number in scored
        unscored = run_status(other)["unscored"]
        assert [(row["id"], row["split"], row["error"]) for row in unscored] == [
            (number, "validation", "it broke") for number in first
        ]


def test_where_no_finalist_can_be_scored_the_best_on_the_search_items_is_chosen_and_tested(run: RunDir) -> None:
    machine = Machine(fails=on(Split.VALIDATION))
    winner = make(run, machine).run()
    best = max(run.database.records(), key=lambda record: record.fitness or 0.0)
    assert winner.fitness == best.fitness and Split.TEST in (winner.scores or {})
    asked = [job.candidate for job in machine.ran if job.split == Split.VALIDATION and job.candidate >= 0]
    assert len(asked) == 6  # three, and as many again in their place
    said = texts_of(run)
    assert any("the best on the search items was chosen, whose score flatters: it broke" in text for text in said)
    assert any("a, average could not be scored on the validation items" in text for text in said)


def test_a_winner_without_a_test_score_is_a_winner_and_a_continued_run_tries_again(run: RunDir) -> None:
    winner = make(run, Machine(fails=on(Split.TEST, lambda number: number >= 0))).run()
    assert Split.TEST not in (winner.scores or {}) and run.database.choice() is not None
    [row] = run_status(run)["unscored"]
    assert (row["name"], row["split"], row["error"]) == (winner.name, "test", "it broke")
    assert any("its test score is not known: it broke" in text for text in texts_of(run))
    again = make(run, Machine()).run()  # what was wrong was mended
    assert again.number == winner.number and Split.TEST in (again.scores or {})
    assert run.database.get_meta(UNSCORED) == {} and run_status(run)["unscored"] == []


def test_a_baseline_that_cannot_be_scored_is_recorded_and_the_search_goes_on(run: RunDir) -> None:
    make(run, Machine(fails=on(Split.SEARCH, lambda number: number == -1))).run()
    records = {record.number: record for record in run.database.records(baselines=True)}
    assert records[-1].state == State.FAILED and records[-2].state == State.COMPLETE and len(records) == 22
    said = texts_of(run)
    assert any("a could not be scored on the search items, so nothing is compared with it" in text for text in said)


def test_where_no_baseline_can_be_scored_the_search_ends_at_once_and_a_continued_one_scores_them(run: RunDir) -> None:
    machine = Machine(fails=on(Split.SEARCH))
    with pytest.raises(EvaluationError, match=r"no baseline could be scored.*it broke \(2 times\)"):
        make(run, machine).run()
    assert len(machine.ran) == 2 and run.database.count(baselines=True) == 0
    make(run, Machine()).run()
    assert run.database.count() == 20


def test_a_device_that_breaks_under_a_baseline_is_not_recorded_against_it(run: RunDir) -> None:
    class Broken(Machine):
        def answer(self, job: Job) -> Outcome:
            return Outcome(job, State.FAILED, (), 0.1, "cuda:0", "CUDA error", Fault.DEVICE)

    with pytest.raises(ExecutionError, match="while baseline 'a' was scored: CUDA error"):
        make(run, Broken()).run()
    assert run.database.count(baselines=True) == 0


def test_a_search_in_which_everything_fails_ends_with_the_commonest_reasons(run: RunDir) -> None:
    def fails(job: Job) -> State | None:
        return State.FAILED if job.candidate >= 0 else None

    with pytest.raises(EvaluationError, match=r"no candidate could be scored.*it broke \(8 times\).*resume"):
        make(run, Machine(fails=fails), budget=Budget(candidates=8)).run()
    winner = make(run, Machine(), budget=Budget(candidates=16)).run()  # mended, and with more to spend
    assert winner.number >= 8


def test_reasons_that_differ_in_numbers_are_one_and_long_ones_are_cut(run: RunDir) -> None:
    recipe = make(run, Machine()).baselines["a"]

    def failed(error: str | None) -> Record:
        return Record(0, "candidate", State.FAILED, recipe, error=error)

    texts = [f"item {number}: NaN" for number in range(7)] + ["b" * 10_000, None, "c", "d", "e"]
    said = reasons_of(map(failed, texts))
    assert said.startswith("item 0: NaN (7 times); bbb") and said.endswith("and 2 further reasons")
    assert len(said) < 700
    assert reasons_of([failed(None)]) == ""
