"""Full disks, read-only folders, damaged and foreign databases."""

import os
import shutil
import sqlite3
import subprocess

import numpy as np
import pytest
from store_samples import make_items, make_record

from evomerge.errors import RunError
from evomerge.record import Split
from evomerge.store import Database, RunDir
from evomerge.store.database import FORMAT


def fill(database, n=30):
    for number in range(n):
        database.add(make_record(number), strategy_state=bytes([number]) * 9000, scores={Split.SEARCH: make_items(50)})


def test_a_full_disk_loses_nothing_that_was_committed(database):
    fill(database)
    pages = database._all("PRAGMA page_count")[0][0]
    database._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(RunError, match=r"run\.sqlite: the disk is full .*committed before is kept.*evomerge resume"):
        database.add(make_record(30), strategy_state=bytes(200_000))
    assert list(database.records()) == [make_record(number) for number in range(30)]
    assert database.strategy_state() == bytes([29]) * 9000
    database._db.execute("PRAGMA max_page_count = 1000000")  # the user made room
    database.add(make_record(30), strategy_state=bytes(200_000))
    database.close()
    with Database.open(database.path, write=True) as again:
        assert again.count() == 31


READ_ONLY = """
from evomerge.errors import RunError

with RunDir.open({path!r}) as run:
    assert list(run.database.records()) == [make_record(0)]
    assert run.config == {{"seed": 1}}
for attempt in (
    lambda: RunDir.open({path!r}, write=True),
    lambda: RunDir.create({path!r} + "/inner", config={{}}),
    lambda: Database.open({path!r} + "/run.sqlite", write=True),
):
    try:
        attempt()
    except RunError as error:
        print(error)
    else:
        raise SystemExit("was not refused")
"""


def test_a_read_only_run_can_be_read_and_refuses_to_be_written(open_tmp, run_unprivileged):
    with RunDir.create(open_tmp / "run", config={"seed": 1}) as run:
        run.database.add(make_record(0))
    for path in (*run.path.iterdir(), run.path):
        path.chmod(path.stat().st_mode & 0o555)
    done = run_unprivileged(READ_ONLY.format(path=str(run.path)))
    assert done.returncode == 0, done.stderr
    lock, create, database = done.stdout.splitlines()
    assert "run.lock: the folder is read-only for this user" in lock
    assert "to continue the run make it writable, or copy it" in lock
    assert "inner: the folder is read-only" in create
    assert "cannot write the database" in database
    assert "it is read-only for this user" in database
    assert [path.name for path in run.path.glob(".*")] == []


def test_an_interrupted_write_in_a_read_only_folder_says_what_to_do(open_tmp, run_unprivileged):
    with RunDir.create(open_tmp / "run", config={}) as run:
        fill(run.database, 5)
        # A copy made while a transaction is under way is what a kill leaves behind.
        run.database._db.execute("PRAGMA cache_size = 1")
        run.database._db.execute("BEGIN IMMEDIATE")
        run.database._db.execute("UPDATE candidates SET name = 'half'")
        run.database._db.execute("UPDATE strategy SET state = ?", (bytes(900_000),))
        shutil.copytree(run.path, open_tmp / "copy")
        run.database._db.execute("ROLLBACK")
    copy = open_tmp / "copy"
    assert (copy / "run.sqlite-journal").stat().st_size > 0
    for path in (*copy.iterdir(), copy):
        path.chmod(path.stat().st_mode & 0o555)
    code = f"try:\n    RunDir.open({str(copy)!r})\nexcept Exception as error:\n    print(type(error).__name__, error)"
    done = run_unprivileged(code)
    assert "RunError" in done.stdout, done.stderr
    assert "left in the middle of a write" in done.stdout
    assert "with run.sqlite-journal" in done.stdout
    for path in (copy, *copy.iterdir()):
        path.chmod(path.stat().st_mode | 0o200)
    with RunDir.open(copy) as again:
        assert [record.name for record in again.database.records()] == [f"candidate {i}" for i in range(5)]


@pytest.mark.parametrize("how", ["truncated", "emptied", "header", "middle", "text"])
def test_a_damaged_database_is_named_with_the_way_to_recover_and_stays_untouched(tmp_path, how):
    with Database.create(tmp_path / "run.sqlite") as database:
        fill(database)
    path = database.path
    whole = path.read_bytes()
    noise = np.random.default_rng(1).bytes(8192)
    broken = {
        "truncated": whole[: len(whole) // 2],
        "emptied": b"",
        "header": noise[:100] + whole[100:],
        "middle": whole[:4096] + noise + whole[4096 + 8192 :],
        "text": b"not a database at all\n" * 1000,
    }[how]
    path.write_bytes(broken)
    with pytest.raises(RunError, match=r"run\.sqlite is damaged .*Nothing was written.*sqlite3 .* \.recover"):
        Database.open(path, write=True)
    assert path.read_bytes() == broken
    with pytest.raises(RunError, match="is damaged"), Database.open(path) as reader:
        list(reader.records())
        for number in range(30):
            reader.item_scores(number, Split.SEARCH)


def test_damage_inside_values_is_noticed_when_they_are_read(database):
    fill(database, 2)
    database._db.execute("UPDATE strategy SET state = x'00'")
    with pytest.raises(RunError, match="strategy's state does not match its checksum"):
        database.strategy_state()
    database._db.execute("UPDATE item_scores SET \"values\" = x'0102' WHERE candidate = 0")
    with pytest.raises(RunError, match="is damaged"):
        database.item_scores(0, Split.SEARCH)
    with pytest.raises(RunError, match="is damaged"):
        database.response_matrix("arithmetic", "exact_match")
    database._db.execute("UPDATE candidates SET genome = '[0.1,' WHERE number = 0")
    database._db.execute("UPDATE recipes SET data = '{}' WHERE hash = (SELECT recipe FROM candidates WHERE number = 1)")
    for number in (0, 1):
        with pytest.raises(RunError, match="is damaged"):
            database.record(number)


def can_recover(folder):
    """Whether the sqlite3 command is there and was built with `.recover` (Debian 12's was not)."""
    if shutil.which("sqlite3") is None:
        return False
    with sqlite3.connect(folder / "healthy.sqlite") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    done = subprocess.run(["sqlite3", folder / "healthy.sqlite", ".recover"], capture_output=True, text=True)
    return "CREATE TABLE" in done.stdout


def test_the_recovery_command_of_the_message_gets_records_back(tmp_path):
    if not can_recover(tmp_path):
        pytest.skip("needs a sqlite3 command with .recover")
    with Database.create(tmp_path / "run.sqlite") as database:
        fill(database, 40)
    whole = database.path.read_bytes()
    database.path.write_bytes(whole[: len(whole) - 4096 * 4])
    with pytest.raises(RunError) as caught:
        Database.open(database.path, write=True)
    subprocess.run(str(caught.value).split("tool: ")[1], shell=True, check=True, capture_output=True)
    with Database.open(tmp_path / "recovered.sqlite") as recovered:
        assert recovered.record(0) == make_record(0)
        assert recovered.count() > 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (FORMAT + 1, rf"has format {FORMAT + 1}, but this evomerge reads format {FORMAT}: upgrade evomerge"),
        (FORMAT - 1, rf"has format {FORMAT - 1}, of an evomerge before this one.*version that wrote it.*start a new"),
    ],
)
def test_another_format_is_refused_with_the_way_out(database, found, message):
    database.add(make_record(0))
    database._db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(found),))
    database.close()
    for write in (False, True):
        with pytest.raises(RunError, match=message):
            Database.open(database.path, write=write)


def test_a_format_that_is_no_number_is_damage(database):
    database.close()
    with sqlite3.connect(database.path) as db:
        db.execute("UPDATE meta SET value = '\"one\"' WHERE key = 'format'")
    db.close()
    with pytest.raises(RunError, match="its format is 'one'"):
        Database.open(database.path)


def test_a_database_of_another_program_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        db.execute("CREATE TABLE trials (id INTEGER)")
    db.close()
    with pytest.raises(RunError, match="no database of evomerge"):
        Database.open(tmp_path / "run.sqlite", write=True)


def test_a_missing_database_and_one_in_the_way_are_named(tmp_path, database):
    with pytest.raises(RunError, match=r"there is no database .*other\.sqlite"):
        Database.open(tmp_path / "other.sqlite")
    with pytest.raises(RunError, match="exists already"):
        Database.create(database.path)


def test_a_database_held_by_another_program_is_named_and_nothing_is_lost(database):
    fill(database, 2)
    database.close()
    with Database.open(database.path, write=True, busy_seconds=0.05) as again:
        holder = sqlite3.connect(database.path)
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM candidates").fetchone()
        with pytest.raises(RunError, match=r"held by another program .*evomerge resume"):
            again.add(make_record(2))
        holder.close()
        again.add(make_record(2))
        assert again.count() == 3


def test_paths_with_signs_that_mean_something_in_addresses_work(tmp_path):
    folder = tmp_path / "a b?c#d%20&e='日本"
    folder.mkdir()
    with RunDir.create(folder / "run", config={}) as run:
        run.database.add(make_record(0))
    with RunDir.open(os.path.relpath(folder / "run")) as again:
        assert again.database.count() == 1


def test_mistakes_in_our_own_sql_are_not_called_damage(database):
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        database._all("SELEKT 1")
