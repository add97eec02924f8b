"""Clusters: three machines of which one is lost in the middle, and the bounds of a cluster that is started here."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import ray_driver
from ray_workers import Placed, job, noted
from test_execution_ray_kills import locally, start, wait_for
from test_execution_ray_kills import rows as records

from evomerge.execution.pool.cluster import OBJECT_STORE_BYTES, Cluster
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.record import Outcome, Record, Score, Split, State
from evomerge.store.run_dir import RunDir


@pytest.fixture(scope="module")
def added(ray_cluster) -> Iterator[list]:
    """Machines beside the first one of the cluster; they leave when these tests are over."""
    machines: list = []
    yield machines
    for machine in machines:
        if machine in ray_cluster.worker_nodes:
            ray_cluster.remove_node(machine)


@pytest.fixture
def machines(ray_cluster, added: list) -> list:
    """Two machines beside the first one; those that an earlier test lost are replaced."""
    added[:] = [machine for machine in added if machine in ray_cluster.worker_nodes]
    while len(added) < 2:
        added.append(ray_cluster.add_node(num_cpus=2, object_store_memory=100 << 20))
    ray_cluster.wait_for_nodes()
    return list(added)


@pytest.fixture
def executor(ray_cluster, machines, tmp_path: Path) -> Iterator[RayExecutor]:
    """As many workers as fit: two on the first machine, one on each of the others; a job takes 0.2 s."""
    made = RayExecutor(
        Placed(str(tmp_path), seconds=0.2), cluster=Cluster(address=ray_cluster.address), settings=PoolSettings(cpus=2)
    )
    yield made
    made.close()


def machine_of(device: str) -> str:
    """The machine that a worker noted with its answer; the executor adds the worker's number."""
    return device.partition(",")[0]


def test_a_machine_of_three_is_lost_and_each_job_comes_back_once(executor, ray_cluster, machines, tmp_path) -> None:
    assert executor.capacity == 4
    for number in range(60):
        executor.submit(job(number))
    found: list[Outcome] = []
    while len({machine_of(outcome.device) for outcome in found}) < 3:
        found.append(executor.collect())
    assert len(found) < 50, "the others wait, so that each worker is at one of them"
    lost = machines[0].node_id
    ray_cluster.remove_node(machines[0], allow_graceful=False)
    while len(found) < 60:
        found.append(executor.collect())
    assert sorted(outcome.job.candidate for outcome in found) == list(range(60))
    assert {outcome.state for outcome in found} == {State.COMPLETE}
    twice = {number for number in range(60) if noted(tmp_path, f"ran{number}") > 1}
    assert executor.pool.retries == len(twice) == 1
    assert all(machine_of(outcome.device) != lost for outcome in found if outcome.job.candidate in twice)
    assert {machine_of(outcome.device) for outcome in found[-20:]} == {
        machines[1].node_id,
        ray_cluster.head_node.node_id,
    }


@dataclass
class Loses:
    """Watches a search, and does something when so many of its candidates are recorded."""

    what: Callable[[], None]
    after: int
    machines: list[str] = field(default_factory=list)

    def phase(self, name: str, total: int | None, done: int) -> None:
        """A phase begins."""

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """A candidate was recorded."""
        if split == Split.SEARCH:
            self.machines.append(machine_of(record.device))
            if record.number == self.after:
                self.what()


def test_a_search_that_loses_a_machine_of_three_has_the_records_of_a_local_one(
    executor, ray_cluster, machines, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    expected = locally(tmp_path / "local", other, 40)
    with RunDir.create(tmp_path / "ray", config={"name": "k"}) as run:
        watch = Loses(lambda: ray_cluster.remove_node(machines[0], allow_graceful=False), after=11)
        ray_driver.search(run, executor, 40, listener=watch).run()
    assert records(tmp_path / "ray") == expected
    assert set(watch.machines[:18]) == {ray_cluster.head_node.node_id, *(machine.node_id for machine in machines)}
    assert machines[0].node_id not in watch.machines[-8:]
    assert executor.pool.lost == 1


HEAD = """
import time
from evomerge.execution.pool import cluster as ray_cluster
ray_cluster._before_ray_is_imported()
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20})
print("address", cluster.address, flush=True)
time.sleep(1000)
"""


@pytest.mark.slow
def test_when_the_head_of_a_cluster_dies_the_driver_says_so_and_another_cluster_continues_the_run(
    ray_cluster, tmp_path: Path
) -> None:
    notes, other = tmp_path / "notes", tmp_path / "other"
    notes.mkdir(), other.mkdir()
    expected = locally(tmp_path / "local", other, 400)
    head = subprocess.Popen([sys.executable, "-c", HEAD], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    driver = None
    try:
        assert head.stdout is not None
        address = next(line.split()[1] for line in head.stdout if line.startswith("address"))
        driver = start(tmp_path / "ray", address, notes, 400)
        wait_for(tmp_path / "ray", 5, driver)
        head.kill()
        out, _ = driver.communicate(timeout=100)
        assert driver.returncode == 1
        assert "ExecutionError: all machines of the Ray cluster are gone" in out
        assert "evomerge resume" in out
        driver = start(tmp_path / "ray", ray_cluster.address, notes, 400)
        out, _ = driver.communicate(timeout=200)
        assert driver.returncode == 0, out[-3000:]
    finally:
        head.kill()
        if driver is not None:
            driver.kill()
    assert records(tmp_path / "ray") == expected


def test_the_store_of_a_cluster_started_here_is_bounded_and_never_becomes_a_file() -> None:
    cluster = Cluster(cpus=1)
    cluster.connect()
    try:
        import ray
        from ray._private.worker import global_worker

        assert ray.cluster_resources()["object_store_memory"] == OBJECT_STORE_BYTES == 128 << 20
        kept = ray.put(np.ones(80 << 20, dtype=np.uint8))
        with pytest.raises(ray.exceptions.OutOfDiskError):
            ray.put(np.ones(80 << 20, dtype=np.uint8))
        with pytest.raises(ray.exceptions.OutOfDiskError):
            ray.put(np.ones(OBJECT_STORE_BYTES + 1, dtype=np.uint8))
        assert ray.get(kept)[-1] == 1
        session = Path(global_worker.node.get_session_dir_path())
        assert not [path for path in session.glob("ray_spilled_objects*/*") if path.is_file()]
        raylets = [process.process.pid for process in global_worker.node.all_processes["raylet"]]
        open_files = [str(fd.readlink()) for pid in raylets for fd in Path(f"/proc/{pid}/fd").iterdir()]
        stores = [name for name in open_files if "plasma" in Path(name).name and not name.startswith("socket")]
        assert [name for name in stores if name.startswith(str(session)) and "deleted" in name] == []
        assert any("plasma" in name for name in stores), "the store itself is seen"
    finally:
        cluster.disconnect()
