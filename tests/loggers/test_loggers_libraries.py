"""The loggers with their real libraries, where these are installed; nothing leaves the machine."""

import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from made_runs import HOSTILE, made_run

from evomerge import api
from evomerge.loggers.row import LogRow
from evomerge.loggers.tensorboard import ROWS
from evomerge.store import RunDir
from evomerge.workflows.loggers import LogRows

READ_ALL = {"scalars": 0, "tensors": 0}

pytestmark = pytest.mark.timeout(300)


def needs(library: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(library) is not None
    return pytest.mark.skipif(not there, reason=f"{library} is not installed: pip install 'evomerge[{library}]'")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "runs" / "one", hostile=True, candidates=8, unjudged=(5,))


def rows_of(run: Path) -> dict[str, LogRow]:
    with RunDir.open(run) as opened:
        return {row.key: row for row in LogRows(opened).all()}


def sent(run: Path, to: str, options: Mapping[str, Any]) -> None:
    """Send a run twice, the second time with a row that its notes lack: it is there, and is not sent again."""
    rows = rows_of(run)
    assert api.log_run(run, to, options) == {"rows": len(rows), "sent": len(rows)}
    assert api.log_run(run, to, options) == {"rows": len(rows), "sent": 0}
    notes = next((run / "loggers").glob(f"{to}-*.jsonl"))
    notes.write_text("".join(line for line in notes.read_text().splitlines(True) if '"search 2"' not in line))
    assert api.log_run(run, to, options)["sent"] == (1 if to == "wandb" else 0)


@needs("tensorboard")
def test_tensorboard_reads_what_was_written(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sent(run, "tensorboard", {})
    rows = rows_of(run)
    assert api.log_run(run, "tensorboard", {}, again=True)["sent"] == len(rows)
    assert api.log_run(run, "tensorboard", {})["sent"] == 0
    first, again = (EventAccumulator(str(one), READ_ALL).Reload() for one in sorted(run.glob("tensorboard*")))
    assert again.Tags()["scalars"] == first.Tags()["scalars"]
    for found in (first, again):
        assert sorted(one.tensor_proto.string_val[0].decode() for one in found.Tensors(ROWS)) == sorted(rows)
    found = again
    tags = found.Tags()
    assert set(tags["scalars"]) == {name for row in rows.values() for name in row.numbers()}
    fitness = {one.step: one.value for one in found.Scalars("candidate/fitness")}
    own = [row for row in rows.values() if row.split == "search" and not row.is_baseline]
    assert fitness == pytest.approx({row.number: row.fitness for row in own if row.fitness is not None})
    texts = {tag: [one.tensor_proto.string_val[0].decode() for one in found.Tensors(tag)] for tag in tags["tensors"]}
    assert len(texts["run/failures"]) == len([row for row in rows.values() if row.error])
    assert HOSTILE in "".join(texts["run/failures"]) or HOSTILE in texts["run/configuration"][0]
    assert texts["run/verdict"] and api.status(run)["verdict"]["text"] in texts["run/verdict"][-1]


@needs("tensorboard")
def test_tensorboard_goes_on_in_a_folder_of_several_runs_and_loads_neither_torch_nor_tensorflow(
    run: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        api.log_run(run, "tensorboard", {"dir": str(tmp_path / "all")})
    (folder,) = (tmp_path / "all" / "runs").iterdir()
    assert folder.name.startswith("one-") and not (run / "tensorboard").exists()
    code = (
        "from evomerge.loggers.tensorboard import TensorBoardLogger as T\n"
        "from evomerge.loggers.row import RunFacts as F\n"
        f"one = T(); one.begin(F('n', 'g', 'p', {str(tmp_path)!r}), 'id', again=False); one.close();"
        "import sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "tensorflow", "transformers"} & set(done.stdout.split())


@needs("trackio")
def test_trackio_holds_what_was_sent(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    sent(run, "trackio", {"project": "merges"})
    code = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as S;"
        "(name,) = S.get_runs('merges'); print(json.dumps(S.get_logs('merges', run=name)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    logs = json.loads(done.stdout.strip().splitlines()[-1])
    rows = rows_of(run)
    found = {one["row"]: one for one in logs if "row" in one}
    assert found.keys() == rows.keys() and len(logs) == len(rows) + 1
    for key, row in rows.items():
        assert found[key]["step"] == row.step
        assert {name: found[key][name] for name in row.numbers()} == pytest.approx(row.numbers())
    assert api.status(run)["verdict"]["text"] in next(one["verdict"] for one in logs if "verdict" in one)


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a file of wandb's, which has the format of LevelDB's logs behind seven bytes of its own."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@needs("wandb")
def test_wandb_keeps_offline_what_was_sent(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    sent(run, "wandb", {"project": "merges"})
    from wandb.proto import wandb_internal_pb2

    rows, logged, ids, described = rows_of(run), [], set(), b""
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            described += data
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
            if kind == "history":
                items = {one.key or "/".join(one.nested_key): one.value_json for one in record.history.item}
                logged.append(items)
    keys = [json.loads(one["row"]) for one in logged]
    assert set(keys) == rows.keys() and len(ids) == 1
    assert sorted(keys) == sorted([*rows, "search 2"])  # offline nobody can ask what is there: its note was taken away
    for one, key in zip(logged, keys, strict=True):
        assert int(one["candidate"]) == rows[key].step
        assert {n: float(one[n]) for n in rows[key].numbers()} == pytest.approx(rows[key].numbers())
    assert os.uname().nodename.encode() not in described or len(os.uname().nodename) < 4


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_holds_what_was_sent(run: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sent(run, "mlflow", {"uri": uri, "experiment": "merges", "files": False})
    rows = rows_of(run)
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        runs = store.execute("SELECT run_uuid, name, status FROM runs").fetchall()
        metrics = store.execute("SELECT key, value, step FROM metrics").fetchall()
        tags = dict(store.execute("SELECT key, value FROM tags").fetchall())
        params = dict(store.execute("SELECT key, value FROM params").fetchall())
    assert [(name, status) for _, name, status in runs] == [("one", "FINISHED")]
    fitness = {step: value for key, value, step in metrics if key == "candidate/fitness"}
    own = [row for row in rows.values() if row.split == "search" and not row.is_baseline]
    assert fitness == pytest.approx({row.number: row.fitness for row in own if row.fitness is not None})
    assert sum(key.startswith("rows/") for key, _, _ in metrics) == len(rows)
    assert params["seed"] == "0" and api.status(run)["verdict"]["text"] in tags["mlflow.note.content"]
