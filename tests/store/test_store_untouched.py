"""Who only looks at a run leaves every byte of it as it is."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from store_samples import make_items, make_record

from evomerge.errors import RunError
from evomerge.record import Split
from evomerge.store import Database, RunDir

KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from evomerge.record import Split
from evomerge.store import RunDir
from store_samples import make_items, make_record

run = RunDir.open(sys.argv[1], write=True)
run.database._db.execute("PRAGMA cache_size = 1")  # what is changed goes to the disk before the commit
with run.database.together():
    for number in range(3, 60):
        run.database.add(make_record(number), scores={{Split.SEARCH: make_items(200, start=number)}})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def content(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder with its content and time."""
    return {
        one.name: (hashlib.sha256(one.read_bytes()).hexdigest(), one.stat().st_mtime_ns) for one in folder.iterdir()
    }


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A run of three records whose writer died in the middle of a transaction."""
    with RunDir.create(tmp_path / "run", config={"name": "killed"}) as run:
        for number in range(3):
            run.database.add(make_record(number), scores={Split.SEARCH: make_items(3)})
    writer = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run")], check=False, capture_output=True)
    assert writer.returncode == -9, writer.stderr
    assert any((tmp_path / "run" / "run.sqlite-journal").read_bytes()[:8]), "or this test shows nothing"
    return tmp_path / "run"


def test_what_a_killed_writer_left_is_undone_in_a_copy(killed: Path) -> None:
    before = content(killed)
    with RunDir.open(killed, frozen=True) as run:
        assert [record.number for record in run.database.records()] == [0, 1, 2]
        assert run.database.item_scores(2, Split.SEARCH) == make_items(3)
    with Database.open(killed / "run.sqlite", mend=False) as database:
        assert database.count() == 3
    assert content(killed) == before
    with Database.open(killed / "run.sqlite") as database:  # who goes on to write mends it
        assert database.count() == 3
    assert content(killed) != before


def test_no_lock_is_held_between_reads(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={}) as run, Database.open(run.path / "run.sqlite", mend=False) as own:
        for number in range(3):
            assert own.count() == number
            own_lock = sqlite3.connect(run.path / "run.sqlite", timeout=0, isolation_level=None)
            own_lock.execute("BEGIN EXCLUSIVE")
            own_lock.close()
            run.database.add(make_record(number))


def test_a_write_ahead_log_is_not_made_by_looking(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={}) as run:
        path = run.path / "run.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    before = content(path.parent)
    with pytest.raises(RunError, match="write-ahead log, which evomerge never does"):
        RunDir.open(path.parent, frozen=True)
    assert content(path.parent) == before


@pytest.mark.parametrize("name", ["run.sqlite", "run.sqlite-journal"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    with RunDir.create(tmp_path / "run", config={}) as run:
        path = run.path / "run.sqlite"
    (path.parent / name).unlink(missing_ok=True)
    os.mkfifo(path.parent / name)
    with pytest.raises(RunError, match=r"is no ordinary file|is not a run"):
        RunDir.open(path.parent, frozen=True)
    with pytest.raises(RunError, match=r"is no ordinary file|there is no database"):
        Database.open(path, mend=False)


def test_a_lock_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    from evomerge.store.status import run_status

    with RunDir.create(tmp_path / "run", config={}) as run:
        run.database.set_meta("state", "running")
    (run.path / "run.lock").unlink()
    os.mkfifo(run.path / "run.lock")
    with RunDir.open(run.path, frozen=True) as again:
        assert run_status(again)["state"] == "interrupted"


def test_a_reader_in_a_folder_that_may_not_be_written_sees_a_killed_run(killed: Path) -> None:
    killed.chmod(0o555)
    try:
        with RunDir.open(killed, frozen=True) as run:
            assert run.database.count() == 3
    finally:
        killed.chmod(0o755)
