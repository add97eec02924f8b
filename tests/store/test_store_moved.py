"""A run whose folder goes away while it is written: the error says so, and what was committed can be continued."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_search import composed, own_metric

from evomerge import api
from evomerge.errors import RunError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.store.log import logging_to
from evomerge.store.run_dir import RunDir

RECIPE = Recipe("linear", (Parent("a", ModelSource("a")),))


def move(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def move_and_make_another(folder: Path) -> None:
    move(folder)
    folder.mkdir()


def replace_database(folder: Path) -> None:
    shutil.copy(folder / "run.sqlite", folder / "copy")
    (folder / "copy").replace(folder / "run.sqlite")


def delete_database(folder: Path) -> None:
    (folder / "run.sqlite").unlink()


@pytest.mark.parametrize("how", [move, move_and_make_another, shutil.rmtree, replace_database, delete_database])
def test_a_run_that_went_away_is_not_called_read_only(how: Callable[[Path], None], tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", config={"name": "x"})
    run.database.set_meta("before", 1)
    how(tmp_path / "run")
    with pytest.raises(RunError, match=r"was moved or removed while it was in use.*resume") as told:
        run.database.set_meta("after", 2)
    assert "read-only for this user" not in str(told.value)
    if how in (move, shutil.rmtree):
        with pytest.raises(RunError, match=r"its folder is not there: was it moved or removed"):
            run.write_best(RECIPE)
    run.close()
    if how in (move, move_and_make_another):
        with RunDir.open(tmp_path / "moved", write=True) as again:
            assert (again.database.get_meta("before"), again.database.get_meta("after")) == (1, None)


def test_a_run_that_was_moved_in_the_middle_is_continued_where_it_is(tiny_file: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    code = (
        f"import os\nn = [0]\ndef f(doc, responses):\n    n[0] += 1\n    if n[0] == 43: os.rename('{run}', '{moved}')\n"
    )
    config = composed(tiny_file, own_metric(tmp_path, "metric", code + "    return 1.0\n"))
    with pytest.raises(RunError, match="was moved or removed"):
        api.search(config, run_dir=run)
    assert not run.exists() and api.status(moved)["candidates"] >= 1
    assert api.resume(moved).status()["state"] == "complete"


def test_a_log_that_cannot_be_written_loses_lines_and_says_so_once(capfd: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("evomerge.test")
    with logging_to(Path("/dev/full")) as handler:
        for number in range(2000):  # more than a buffer holds, and something left in it at the end
            log.info("line %d", number)
        log.info("a lone surrogate \ud800")
    assert handler.problem is not None and "/dev/full: the disk is full" in handler.problem
    assert capfd.readouterr().err == ""


def test_a_log_takes_every_text_and_cuts_what_has_no_end(tmp_path: Path) -> None:
    with logging_to(tmp_path / "run.log") as handler:
        logging.getLogger("evomerge.test").info("half a pair \ud800 and %s", "x" * 5_000_000)
    text = (tmp_path / "run.log").read_text()
    assert handler.problem is None and r"half a pair \ud800" in text and len(text) < 100_000
