import os
import signal
import subprocess
import sys
from pathlib import Path

from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, Record, Score, Split, State
from evomerge.store import RunDir
from evomerge.store.status import run_status


def recipe(weight: float) -> Recipe:
    return Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": weight})


def record(number: int, fitness: float | None, **options) -> Record:
    scores = None if fitness is None else {Split.SEARCH: Score(fitness, 0.0, 1.0, 10)}
    state = State.FAILED if fitness is None else State.COMPLETE
    return Record(number, f"r{number}", state, recipe(number), (0.5,), fitness, scores, **options)


def test_an_empty_run_has_no_best(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={"name": "x", "budget": {"candidates": 3}}) as run:
        status = run_status(run)
    assert (status["candidates"], status["best"], status["baselines"]) == (0, None, [])
    assert (status["name"], status["budget"]) == ("x", {"candidates": 3})


def test_the_best_is_the_winner_once_there_is_one_and_the_best_on_search_items_before(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={}) as run:
        for number, fitness in ((-1, 0.9), (0, 0.1), (1, 0.5), (2, 0.5), (3, None)):
            run.database.add(record(number, fitness), progress={"spent": {"items": 40, "hits": 1, "seconds": 2.0}})
        status = run_status(run)
        assert (status["candidates"], status["items"], status["failed"], status["cache_hits"]) == (4, 40, 1, 1)
        assert status["best"]["id"] == 1
        assert [baseline["name"] for baseline in status["baselines"]] == ["r-1"]
        run.database.set_choice(Choice("winner", (0,)))
        assert run_status(run)["best"]["id"] == 0
        assert run_status(run)["best"]["recipe_hash"] == recipe(0).content_hash


def test_a_run_whose_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    program = f"""
import os, sys, time
from evomerge.store import RunDir
run = RunDir.create({str(tmp_path / "run")!r}, config={{}})
run.database.set_meta("state", "running")
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    with RunDir.open(tmp_path / "run") as run:
        assert run_status(run)["state"] == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with RunDir.open(tmp_path / "run") as run:
        assert run_status(run)["state"] == "interrupted"


def test_the_rate_and_the_time_left_follow_from_the_budget_and_what_workers_report(tmp_path: Path) -> None:
    budget = {"candidates": 100, "items": 1000, "seconds": None}
    with RunDir.create(tmp_path / "run", config={"name": "x", "budget": budget}) as run:
        assert (run_status(run)["per_minute"], run_status(run)["seconds_left"]) == (None, None)
        spent = {"candidates": 30, "items": 200, "hits": 10, "seconds": 60.0}
        run.database.add(record(0, 0.1), progress={"spent": spent})
        status = run_status(run)
        assert (status["per_minute"], status["workers"]) == (20.0, None)
        assert status["seconds_left"] == 60.0 * 70 / 20.0  # the items would last for 120 candidates more
        workers = {"jobs_per_minute": 140.0, "workers": []}
        run.database.update_progress({"workers": workers})
        run.database.set_meta("budget", {"candidates": 300})
        status = run_status(run)
        assert (status["per_minute"], status["workers"]) == (140.0, workers)
        assert status["seconds_left"] == 60.0 * 800 / (200 / 30) / 140.0
        run.database.set_meta("budget", {"seconds": 61.0})
        assert run_status(run)["seconds_left"] == 1.0
