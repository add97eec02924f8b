"""`evomerge evaluate RUN`: the winner scored again, beside what the run has of the parents and the average."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_search import composed, write_tiny

from evomerge import api
from evomerge.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    sizes = "evaluation.split={search: 12, validation: 8, test: 40}"
    return api.search(composed(write_tiny(folder), sizes), run_dir=folder / "run").path


def test_the_winner_is_compared_with_what_the_run_has_of_the_others(run: Path) -> None:
    status = api.status(run)
    found = api.evaluate_run(run)
    assert found.scores == api.evaluate(run)
    assert found.status["skills"] == status["skills"]  # the same answers come again
    assert found.status["skills"][0]["n"] == 40
    recorded = {row["name"]: row["tasks"] for row in status["baselines"]}
    assert {row["name"]: row["tasks"] for row in found.status["baselines"]} == recorded


def test_the_json_of_before_has_more_keys(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    (scores,) = json.loads(capsys.readouterr().out).values()
    status = api.status(run)
    assert {key: scores["acc"][key] for key in ("mean", "low", "high", "n")} == status["best"]["test"]
    assert scores["acc"]["baselines"] == {row["name"]: row["test"] for row in status["baselines"]}
    one = scores["acc"]["against_best_parent"]
    assert one["best_parent"] == status["best_parent"] and one["difference"] == status["skills"][0]["difference"]
    assert all(set(score) == {"mean", "low", "high", "n"} for name, score in scores.items() if name != "acc")


def test_people_see_a_table_of_the_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    assert "task by task, 40 test items each" in out and "gain over it [95 %]" in out
    assert "those that the run recorded on the same items" in out
    # With a task of one's own choice nothing is compared.
    tasks = next(run.parent.glob("tasks"))
    assert main(["evaluate", str(run), "--task", "tiny", "--include-path", str(tasks), "--limit", "4"]) == 0
    assert "task by task" not in capsys.readouterr().out
