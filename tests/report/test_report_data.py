"""What the one reader of a run finds in made-up runs."""

from __future__ import annotations

from made_runs import THREE_OBJECTIVES

from evomerge.record import Split, State
from evomerge.report.data import RunData


def test_a_made_up_run_is_a_run(open_made) -> None:
    run: RunData = open_made(answers=True)
    assert run.status["state"] == "complete" and run.status["best"]["id"] == run.best.number
    assert run.status["best"]["test"]["mean"] > run.status["baselines"][0]["test"]["mean"]
    assert [record.state for record in run.records].count(State.FAILED) == 1
    assert run.records[6].same_as == 2 and run.records[6].fitness == run.records[2].fitness
    assert len(run.traces) == 16 and [one["candidates"] for one in run.course] == [4, 8, 12, 16]
    assert len(run.genes) == 9 and len(run.kinship["pairs"]) == 6  # with the base, too
    assert run.best_parent.name in ("math", "words", "code")
    numbers, items, values = run.responses("add", "acc")
    assert values.shape == (len(numbers), len(items)) == (18, 20)
    assert run.run.database.answers.kept()


def test_any_kind_of_run_can_be_read(any_run: RunData) -> None:
    assert any_run.status["verdict"] is None or any_run.status["verdict"]["text"]
    assert len(any_run.records) == any_run.status["candidates"]


def test_further_kinds(open_made) -> None:
    front = open_made(specs=THREE_OBJECTIVES, choice="front")
    assert [one["direction"] for one in front.status["objectives"]] == ["maximize", "maximize", "minimize"]
    assert len(front.chosen) == 4 and all(len(one.result.objectives) == 3 for one in front.chosen)
    worst = open_made(combination="worst")
    assert worst.status["objective"] == "worst" and worst.best.scores[Split.TEST].mean > 0
    assert open_made(choice="archive", measures={"length": [1.0, 2.0]}).chosen[0].result.measures["length"] in (1, 2)
