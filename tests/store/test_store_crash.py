"""What a killed writer leaves behind."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_samples import make_items, make_record

from evomerge.errors import RunError
from evomerge.record import Split
from evomerge.store import RunDir

WRITER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from evomerge.record import Split
from evomerge.store import RunDir
from store_samples import make_items, make_record

run = RunDir.open(sys.argv[1], write=True)
number = run.database.count()
print("ready", flush=True)
while True:
    run.database.add(
        make_record(number),
        strategy_state=number.to_bytes(4, "little") * 20_000,
        scores={{Split.SEARCH: make_items(200, start=number)}},
        progress={{"last": number}},
    )
    print(number, flush=True)
    run.write_best(make_record(number).recipe)
    number += 1
"""


def check(run: RunDir, acknowledged: int) -> int:
    """Assert that the run holds whole records only, at least the acknowledged ones; return how many."""
    records = list(run.database.records())
    assert len(records) > acknowledged
    assert records == [make_record(number) for number in range(len(records))]
    for record in records[-20:]:
        assert run.database.item_scores(record.number, Split.SEARCH) == make_items(200, start=record.number)
    last = len(records) - 1
    if last >= 0:
        assert run.database.strategy_state() == last.to_bytes(4, "little") * 20_000
        assert run.database.progress() == {"last": last}
    best = run.best()
    assert best is None or best in [record.recipe for record in records]
    return len(records)


def is_hot(journal: Path) -> bool:
    """Whether the journal holds a transaction that was not finished: its header is there, and not zeroed."""
    return journal.exists() and any(journal.read_bytes()[:8])


def test_kill_9_at_any_moment_loses_no_committed_record_and_shows_no_half_one(tmp_path):
    delays = random.Random(5)
    RunDir.create(tmp_path / "run", config={}).close()
    acknowledged, kills, hot_journals = -1, 0, 0
    while kills < 14 or (hot_journals == 0 and kills < 100):  # on, until one kill fell into a transaction
        kills += 1
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout.readline() == "ready\n"
        time.sleep(delays.uniform(0.0, 0.15))
        writer.kill()
        lines = writer.stdout.read().splitlines()
        writer.wait()
        acknowledged = max([acknowledged, *(int(line) for line in lines)])
        hot_journals += is_hot(tmp_path / "run" / "run.sqlite-journal")
        with RunDir.open(tmp_path / "run") as reader:  # a reader may be the first to open what the kill left
            n = check(reader, acknowledged)
        assert n <= acknowledged + 2  # at most the one that was committed but not yet acknowledged
        with RunDir.open(tmp_path / "run", write=True) as run:
            assert check(run, acknowledged) == n
        acknowledged = n - 1  # what was seen once must stay as well
    assert n >= 5
    assert hot_journals > 0  # or this test shows nothing


def test_a_second_process_is_refused_by_name_and_the_lock_dies_with_the_first(tmp_path):
    RunDir.create(tmp_path / "run", config={}).close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert writer.stdout.readline() == "ready\n"
    with pytest.raises(RunError, match=rf"being written by process {writer.pid} on .+ since \d{{4}}-.*evomerge resume"):
        RunDir.open(tmp_path / "run", write=True)
    with RunDir.open(tmp_path / "run") as reader:
        assert not reader.writable
    writer.kill()
    writer.wait()
    writer.stdout.close()
    with RunDir.open(tmp_path / "run", write=True) as run:
        assert run.writable


def test_a_forked_child_does_not_keep_the_lock_after_the_writers_death(tmp_path):
    RunDir.create(tmp_path / "run", config={}).close()
    code = (
        "import os, sys, time\nfrom evomerge.store import RunDir\n"
        "run = RunDir.open(sys.argv[1], write=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n    time.sleep(30)\n    os._exit(0)\n"
        "print(child, flush=True)\ntime.sleep(30)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    child = int(writer.stdout.readline())
    try:
        time.sleep(0.1)  # the child closes its handle just after the fork
        with pytest.raises(RunError, match="being written by"):
            RunDir.open(tmp_path / "run", write=True)
        writer.kill()
        writer.wait()
        assert Path(f"/proc/{child}").exists() or sys.platform != "linux"
        RunDir.open(tmp_path / "run", write=True).close()
    finally:
        subprocess.run(["kill", "-9", str(child)], check=False)
        writer.stdout.close()


def test_a_start_that_was_killed_before_its_end_can_be_repeated(tmp_path, monkeypatch):
    from evomerge.store import database

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database.Database, "create", die)
        with pytest.raises(KeyboardInterrupt):
            RunDir.create(tmp_path / "run", config={"seed": 1})
    assert (tmp_path / "run" / "config.yaml").exists()
    (tmp_path / "run" / ".run.sqlite.partial").write_bytes(b"half a database")
    with pytest.raises(RunError, match="is not a run"):
        RunDir.open(tmp_path / "run")
    with RunDir.create(tmp_path / "run", config={"seed": 2}) as run:
        assert run.config == {"seed": 2}
        assert sorted(path.name for path in run.path.iterdir()) == [
            "config.yaml",
            "environment.json",
            "run.lock",
            "run.sqlite",
        ]
