"""How Ray shares out GPUs: whole ones, several, parts of one. It counts what it is told, so none need be there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from ray_gpu_workers import Telling
from ray_workers import job

from evomerge.assembly.prepare import prepare
from evomerge.assembly.ray_workers import WorkerPlan, checkpoints, least_per_gpu, least_workers_here
from evomerge.cli.compose import compose
from evomerge.errors import CheckpointError
from evomerge.execution.pool.cluster import Cluster, places
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.merge.files.fingerprint import fingerprint

SMALL = ["experiment=zoo_ja_math", "evaluation.split={search:4,validation:4,test:4}", "execution=ray"]


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RayExecutor]]:
    """Make an executor on a machine of four CPUs that is said to have four GPUs."""
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made: list[RayExecutor] = []

    def make(worker: object, gpus: float | None) -> RayExecutor:
        executor = RayExecutor(worker, cluster=Cluster(cpus=4, gpus=4), settings=PoolSettings(gpus=gpus))  # type: ignore[arg-type]
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.close()


def told(*words: str) -> Telling:
    return Telling(compose([*SMALL, *words]))


@pytest.mark.slow
def test_each_worker_sees_as_many_gpus_as_it_takes_and_no_others(
    four_gpus: Callable[..., RayExecutor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        executor = four_gpus(told("execution.gpus_per_worker=2"), 2.0)
    assert executor.capacity == 2
    seen = sorted(set(worker.device.split(",")) for worker in executor.pool)
    assert [len(one) for one in seen] == [2, 2]
    assert set.union(*seen) == {"0", "1", "2", "3"}
    assert caplog.text.count("; 1 of 2; certain (1, 2)") == 2, "what a worker tells of its start stands in the log"
    executor.submit(job(0))
    assert executor.collect().device.split(",")[0] in "0123"
    executor.close()

    caplog.clear()
    with caplog.at_level(logging.INFO):
        executor = four_gpus(told("execution.gpus_per_worker=0.5"), 0.5)
    assert sorted(worker.device for worker in executor.pool) == ["0", "0", "1", "1"]  # it fills one before the next
    assert caplog.text.count("; 2 of 4; certain (1, 4)") == 4
    executor.close()

    prepared = prepare(compose([*SMALL, "execution.gpus_per_worker=2"]))
    prints = {
        name: fingerprint(prepared.sources.open(source).folder) for name, source in checkpoints(prepared.config).items()
    }
    if torch.cuda.device_count() == 0:
        # The plan of a real worker, where torch cannot see what Ray counts.
        with pytest.raises(CheckpointError, match="gpus_per_worker is 2, but torch sees 0 GPUs here"):
            four_gpus(WorkerPlan(dict(prepared.data), prepared.harness.split_data(), prints), 2.0)


@pytest.mark.parametrize(("n_gpus", "gpus", "expected"), [(4, 2, 2), (5, 2, 2), (8, 8, 1), (7, 8, 0), (4, 3, 1)])
def test_whole_gpus_make_whole_workers(n_gpus: int, gpus: float, expected: int) -> None:
    assert places({"CPU": 64.0, "GPU": float(n_gpus)}, cpus=1, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("here", "elsewhere", "wanted", "expected"),
    [(4, 0, None, 4), (4, 8, None, 4), (4, 0, 2, 2), (4, 8, 10, 2), (4, 8, 3, 1), (2, 8, 10, 2), (0, 8, 3, 1)],
)
def test_a_machine_gets_at_least_what_fits_nowhere_else(
    here: int, elsewhere: int, wanted: int | None, expected: int
) -> None:
    assert least_workers_here(here, elsewhere, wanted) == expected


@pytest.mark.parametrize(
    ("workers", "n_gpus", "gpus", "expected"),
    [
        (8, 2, 0.25, 4),
        (6, 2, 0.25, 2),
        (4, 2, 0.25, 1),
        (3, 1, 0.25, 3),
        (2, 2, 1.0, 1),
        (4, 0, 0.0, 1),
        (1, 4, 2, 1),
    ],
)
def test_a_gpu_is_shared_for_certain_where_the_others_are_full(
    workers: int, n_gpus: int, gpus: float, expected: int
) -> None:
    assert least_per_gpu(workers, n_gpus, gpus) == expected
