"""Searches with loggers: the same records, whatever a logger does; continued, killed, stopped."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from logged import fake, keys, told
from tiny_search import composed, write_tiny

from evomerge import api
from evomerge.cli.log import _option
from evomerge.errors import ConfigError, Interrupted
from evomerge.store import RunDir
from evomerge.workflows.loggers import log_command


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def searched(file: Path, folder: Path, *loggers: dict[str, Any], **more: Any) -> Path:
    data = composed(file)
    data["loggers"] = list(loggers)
    api.search(data, run_dir=folder, **more)
    return folder


def facts(run: Path) -> list[Any]:
    """What must not depend on loggers: records without times, item scores, the strategy's state."""
    with RunDir.open(run) as opened:
        database = opened.database
        return [
            *(one.to_data() for one in database.records(baselines=True)),
            *(database.item_scores(one.number, split) for one in database.records() for split in one.scores or {}),
            database.strategy_state(),
        ]


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tiny, tmp_path_factory.mktemp("plain") / "run")


def expected(run: Path) -> set[str]:
    with RunDir.open(run) as opened:
        return {
            f"{split} {one.number}" for one in opened.database.records(baselines=True) for split in one.scores or {}
        }


def test_a_search_sends_each_row_while_it_runs_and_its_records_are_the_same(
    tiny: Path, plain: Path, tmp_path: Path
) -> None:
    file, notes = tmp_path / "told.jsonl", list[str]()
    run = searched(tiny, tmp_path / "run", fake(file, "noisy"), note=notes.append)
    assert facts(run) == facts(plain)
    assert set(keys(file)) == expected(run) and len(keys(file)) == len(expected(run))
    (end,) = told(file, "finished")
    assert end["state"] == "complete" and end["files"]["best.yaml"] == str(run / "best.yaml")
    assert any(text.startswith("logger ") for text in notes) and "SHOUTING" not in "".join(notes)
    rows = {f"{row['split']} {row['number']}": row for row in told(file, "row")}
    other = tmp_path / "afterwards.jsonl"
    entry = fake(other)
    api.log_run(run, entry["name"], {"file": entry["file"]})
    assert {f"{row['split']} {row['number']}": row for row in told(other, "row")} == rows


@pytest.mark.slow
@pytest.mark.parametrize("mood", ["no begin", "breaks", "dies", "unmade"])
def test_a_logger_that_fails_changes_nothing_and_is_named_once(
    mood: str, tiny: Path, plain: Path, tmp_path: Path
) -> None:
    notes = list[str]()
    run = searched(tiny, tmp_path / "run", fake(tmp_path / "told.jsonl", mood), note=notes.append)
    assert facts(run) == facts(plain) and api.status(run)["state"] == "complete"
    (said,) = [text for text in notes if text.startswith("warning: the logger")]
    entry = fake(tmp_path / "told.jsonl", mood)
    how = log_command(run, entry["name"], {"file": entry["file"], "mood": mood})
    assert said.endswith(f"`{how}` sends what is missing")
    assert "left out" in (run / "run.log").read_text()
    entry = fake(tmp_path / "told.jsonl")
    assert api.log_run(run, entry["name"], {"file": entry["file"]})["sent"] > 0
    assert set(keys(tmp_path / "told.jsonl")) == expected(run)


@pytest.mark.slow
def test_a_search_that_is_continued_sends_what_is_new(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "told.jsonl"
    run = searched(tiny, tmp_path / "run", fake(file))
    api.resume(run, budget={"candidates": 8})
    assert set(keys(file)) == expected(run) and len(keys(file)) == len(expected(run))
    first, second = told(file, "begin")
    assert first["run"] == second["run"] and second["again"] is True
    assert [end["state"] for end in told(file, "finished")] == ["complete", "complete"]


@pytest.mark.slow
def test_loggers_may_be_changed_when_a_run_is_continued(tiny: Path, plain: Path, tmp_path: Path) -> None:
    run = searched(tiny, tmp_path / "run")
    assert not (run / "loggers").exists()
    file = tmp_path / "told.jsonl"
    api.resume(run, changes={"loggers": [fake(file)]})
    assert set(keys(file)) == expected(run)  # those of the first session, too
    assert facts(run) == facts(plain)


def test_a_stopped_search_says_so_and_does_not_wait_for_long(tiny: Path, tmp_path: Path) -> None:
    file, stop = tmp_path / "told.jsonl", api.StopSignal()

    class StopAtOnce:
        def phase(self, name: str, total: int | None, done: int) -> None: ...

        def scored(self, record: Any, split: Any, score: Any) -> None:
            if record.number == 2:
                stop.request()

    with pytest.raises(Interrupted):
        searched(tiny, tmp_path / "run", fake(file), stop=stop, listener=StopAtOnce())
    assert {"search -1", "search 0", "search 2"} <= set(keys(file))
    assert [end["state"] for end in told(file, "finished")] == ["interrupted"]


def test_mistakes_are_said_together_and_before_a_model_is_read(tiny: Path, tmp_path: Path) -> None:
    data = composed(tiny)
    wrong = f"{Path(__file__).with_name('fake_logger.py')}:NotALogger"
    data["loggers"] = [{"name": "wandb", "projct": "x"}, "tensorbord", "wandb", {"name": wrong}]
    data["budget"] = {}
    with pytest.raises(ConfigError) as error:
        api.search(data, run_dir=tmp_path / "run")
    text = "\n".join(error.value.problems)
    for part in (
        "`loggers` names wandb twice",
        "'projct'; did you mean 'project'",
        "'tensorbord'; did you mean",
        "budget",
    ):
        assert part in text
    assert "must be a class that inherits" in text and not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [[{"project": "x"}], [3], [""], {"project": "x"}])
def test_what_is_no_logger_at_all_is_said(value: Any, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`loggers.*` must list names of loggers"):
        api.search({**composed(tiny), "loggers": value}, run_dir=tmp_path / "run")


def test_a_missing_library_is_said_with_its_extra(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evomerge.loggers.wandb import WandbLogger

    monkeypatch.setattr(WandbLogger, "LIBRARY", "no_such_library")
    with pytest.raises(ConfigError, match=r'needs no_such_library, .*: pip install "evomerge\[wandb\]"'):
        api.search({**composed(tiny), "loggers": "wandb"}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_search_sends_the_rest_when_it_is_continued(tiny: Path, tmp_path: Path) -> None:
    file, run = tmp_path / "told.jsonl", tmp_path / "run"
    own = tiny.with_name("with_logger.yaml")
    own.write_text(f"{tiny.read_text()}loggers: {json.dumps([fake(file, 'slow')])}\n")
    words = [sys.executable, "-m", "evomerge", "search", str(own), f"run.dir={run}", "budget.candidates=2000"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not {"search 0", "search 1"} <= set(keys(file)):
            time.sleep(0.05)
    finally:
        process.kill()
        said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, said  # in the middle
    with RunDir.open(run) as opened:
        done = opened.database.count()
    assert 2 <= done < 2000 and not told(file, "finished")
    api.resume(run, budget={"candidates": done + 3})
    assert sorted(keys(file)) == sorted(expected(run)) and f"search {done + 2}" in keys(file)
    first, second = told(file, "begin")
    assert first["run"] == second["run"] and [end["state"] for end in told(file, "finished")] == ["complete"]


def test_a_hint_brings_what_is_missing_to_the_same_place() -> None:
    options = {"project": "my merges", "files": False, "dir": None}
    said = log_command(Path("my runs/1"), "my loggers.py:Mine", options)
    assert said == "evomerge log 'my runs/1' --to 'my loggers.py:Mine' 'project=my merges' files=false"
    assert dict(map(_option, shlex.split(said)[5:])) == {"project": "my merges", "files": False}
