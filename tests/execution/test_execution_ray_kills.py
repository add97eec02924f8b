"""kill -9 at random moments, of workers, of the driver and of Ray itself: each candidate is recorded once."""

import contextlib
import ipaddress
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray_driver
from ray_workers import Dummy, noted

from evomerge.errors import RunError
from evomerge.execution.base import StopSignal
from evomerge.execution.local import LocalExecutor
from evomerge.execution.pool.actor import WorkerContext
from evomerge.record import Split
from evomerge.store.run_dir import RunDir

HERE = Path(__file__).parent


def rows(path: Path) -> list[tuple]:
    with RunDir.open(path) as run:
        database = run.database
        return [(r.to_data(), database.item_scores(r.number, Split.SEARCH)) for r in database.records(baselines=True)]


def peek(path: Path) -> tuple[int, list[int]]:
    """Return how many candidates are recorded, and the processes of the workers, as the driver wrote them last."""
    try:
        with RunDir.open(path) as run:
            workers = run.database.progress().get("workers", {}).get("workers", [])
            return run.database.count(), [worker["pid"] for worker in workers if worker["pid"]]
    except RunError:
        return 0, []


def start(path: Path, address: str, notes: Path, candidates: int) -> subprocess.Popen:
    words = [sys.executable, str(HERE / "ray_driver.py"), str(path), address, str(notes), str(candidates)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE, *HERE.parents[:2])))}
    if address == "own":
        environment.pop("RAY_AUTH_MODE", None)  # as a user's
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, at_least: int, process: subprocess.Popen) -> list[int]:
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline and process.poll() is None:
        count, pids = peek(path)
        if count >= at_least and pids:
            return pids
        time.sleep(0.05)
    out = process.communicate(timeout=10)[0] if process.poll() is not None else "it still runs"
    raise AssertionError(f"there were never {at_least} records: {out[-2000:]}")


def locally(path: Path, notes: Path, candidates: int) -> list[tuple]:
    """Return the records of the same search in this process."""
    with RunDir.create(path, config={"name": "k"}) as run:
        worker = Dummy(str(notes))(StopSignal(), WorkerContext())
        ray_driver.search(run, LocalExecutor(worker), candidates).run()
    return rows(path)


@pytest.mark.slow
def test_whoever_is_killed_the_records_are_those_of_a_quiet_local_search(ray_cluster, tmp_path: Path) -> None:
    rng = random.Random(0)
    deaths = ["worker"] * 13 + ["driver"] * 7
    rng.shuffle(deaths)
    candidates = 20 * (len(deaths) + 1)
    notes, other = tmp_path / "notes", tmp_path / "other"
    notes.mkdir(), other.mkdir()
    expected = locally(tmp_path / "local", other, candidates)
    path = tmp_path / "ray"
    process = start(path, ray_cluster.address, notes, candidates)
    try:
        for i, death in enumerate(deaths):
            pids = wait_for(path, 20 * i + rng.randrange(1, 15), process)
            time.sleep(0.1 * rng.random())  # anywhere: in a job, between two, in a commit
            if death == "driver":
                process.kill()
                process.wait()
                assert peek(path)[0] < candidates
                process = start(path, ray_cluster.address, notes, candidates)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(pids), signal.SIGKILL)
        out, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, out[-3000:]
    assert rows(path) == expected
    ran = [noted(notes, f"ran{number}") for number in range(candidates)]
    repeated = sum(n > 4 for n in ran)  # on three splits, and once more where a finalist was in flight
    assert repeated <= 2 * len(deaths)


@pytest.mark.slow
def test_a_cluster_of_its_own_is_started_again_once_and_ends_with_the_driver(tmp_path: Path) -> None:
    notes, other = tmp_path / "notes", tmp_path / "other"
    notes.mkdir(), other.mkdir()
    expected = locally(tmp_path / "local", other, 120)
    path = tmp_path / "ray"
    process = start(path, "own", notes, 120)
    try:
        wait_for(path, 5, process)
        before = descendants(process.pid)
        assert listening(before), "Ray's servers listen somewhere"
        assert set(listening(before)) <= {"127.0.0.1", "::1"}
        raylets = [pid for pid, name in before.items() if name.endswith("raylet")]
        assert len(raylets) == 1
        os.kill(raylets[0], signal.SIGKILL)
        pids = wait_for(path, 80, process)
        everything = {**before, **descendants(process.pid), **dict.fromkeys(pids, "worker")}
        process.kill()
        process.wait()
        deadline = time.monotonic() + 60.0
        while (alive := [pid for pid in everything if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert alive == [], {pid: everything[pid] for pid in alive}
        process = start(path, "own", notes, 120)
        out, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, out[-3000:]
    assert rows(path) == expected


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below one, with the names of their programs."""
    parents: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_text().split("\0")[0]
        except OSError:
            continue
        parents.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(int(folder.name))
    found, waiting = {}, list(parents.get(pid, []))
    while waiting:
        one = waiting.pop()
        found[one] = names.get(one, "")
        waiting += parents.get(one, [])
    return found


def listening(pids: dict[int, str]) -> list[str]:
    """Return the addresses at which processes listen."""
    sockets = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            sockets |= {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                raw = bytes.fromhex(words[1].split(":")[0])  # words of four bytes, each in the machine's order
                ordered = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                address = ipaddress.ip_address(ordered)
                found.append(str(getattr(address, "ipv4_mapped", None) or address))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
