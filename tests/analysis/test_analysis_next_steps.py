"""What to do next follows from how a search ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skill_runs import three_skills

from evomerge.analysis.next_steps import next_steps
from evomerge.analysis.verdict import with_verdict
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, State
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status

RECIPE = Recipe("linear", (Parent("a", ModelSource("org/a")),))


def steps(status: dict[str, Any], n: int = 20) -> list[str]:
    records = [Record(number, f"candidate {number}", State.COMPLETE, RECIPE) for number in range(n)]
    return [f"{one.text} | {one.command}" for one in next_steps(status, records)]


def ended(use: bool | None = True, best: int = 3, *kinds: str) -> dict[str, Any]:
    return {
        "path": "my runs/1",
        "state": "complete",
        "budget": {"candidates": 20, "items": None, "seconds": 7.5},
        "best": {"id": best},
        "choice": {"kind": "winner", "records": [{"id": best, "skills": []}]},
        "verdict": {"use": use, "text": ""},
        "warnings": [{"kind": kind, "text": ""} for kind in kinds],
        "skills": [],
    }


def test_a_merge_to_use_is_exported() -> None:
    assert steps(ended()) == ["export the best merge | evomerge export 'my runs/1' --out merged"]
    assert steps(ended(use=None)) == []


def test_merges_of_which_each_has_lost_a_skill_are_exported_last() -> None:
    lost = {"task": "add", "lost": True, "share": True, "difference": -0.5, "p_value": 1e-9, "floor": False}
    rows = [{"id": number, "skills": [lost]} for number in (3, 4)]
    status = {**ended(False), "choice": {"kind": "front", "records": rows}}
    assert [one.partition(" ")[0] for one in steps(status)] == ["keep", "read", "export"]
    status["verdict"]["use"] = None
    assert steps(status)[0].startswith("export the merges of the choice")


def test_a_search_that_still_climbed_goes_on() -> None:
    (step,) = steps(ended(None, 19))
    assert step.endswith("| evomerge resume 'my runs/1' budget.candidates=40 budget.seconds=15")
    assert steps(ended(None, 17)) == []  # the last two found nothing better


def test_a_consensus_is_as_late_as_the_best_of_the_candidates() -> None:
    status = {**ended(), "best": {"id": 20}}
    consensus = Record(20, "consensus", State.COMPLETE, RECIPE, fitness=0.6)
    for late, more in ((19, 2), (7, 1)):
        scored = {late: 0.5}
        records = [
            Record(number, f"candidate {number}", State.COMPLETE, RECIPE, fitness=scored.get(number, 0.1))
            for number in range(20)
        ]
        assert len(next_steps(status, [*records, consensus])) == more


def test_what_stopped_is_continued() -> None:
    assert [one.rpartition("| ")[2] for one in steps({**ended(), "state": "failed"})] == ["evomerge resume 'my runs/1'"]
    assert len(steps({**ended(), "state": "interrupted"})) == 1


def test_lost_skills_come_before_noise(tmp_path: Path) -> None:
    run = three_skills(tmp_path / "run")
    run.close()
    with RunDir.open(tmp_path / "run") as opened:
        status = with_verdict(opened, run_status(opened))
        found = [one.text for one in next_steps(status, list(opened.database.records()))]
    assert found[0].startswith("keep reverse with a `floor: {of_best_parent: 0.95}`")
    assert found[1] == "read the answers that it has lost"


def test_at_most_a_few_are_named() -> None:
    assert len(steps(ended(True, 19, "cut_answers", "noise", "order", "behind"))) == 4
