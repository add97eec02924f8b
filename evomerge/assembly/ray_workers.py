"""Ray workers: what a process on any machine needs to become a worker of a search, as plain data."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evomerge.assembly.hub_models import bring_models
from evomerge.assembly.hub_pins import Pins, pin_config
from evomerge.assembly.inputs import checkpoints
from evomerge.assembly.memory_plan import live_bytes, memory_problems
from evomerge.assembly.workers import (
    device_problems_of,
    find_devices,
    make_harness,
    make_live_models,
    running_dtype,
    set_threads,
)
from evomerge.config.reader import from_data
from evomerge.config.schema import ExecutionConfig, SearchConfig
from evomerge.errors import CheckpointError
from evomerge.evaluation.harness import LmHarness
from evomerge.execution.base import StopSignal
from evomerge.execution.pool.actor import WorkerContext
from evomerge.execution.pool.cluster import Cluster, alive_nodes, gpus_of_a_worker, places
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.execution.worker import LiveWorker
from evomerge.merge.adapters.contents import model_fingerprint
from evomerge.merge.cache import budget_bytes
from evomerge.merge.sources import Sources
from evomerge.record import Split
from evomerge.system.memory import GIB

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlan:
    """Makes a worker in the process in which it is called; holds plain data only.

    Attributes:
        data: the composed configuration.
        splits: the recorded splits, as `LmHarness` takes them.
        fingerprints: name of a checkpoint in messages to the fingerprint of the driver's copy.
        whole: whether fingerprints cover every byte.
        pins: the commits of the models of the Hub that `data` names otherwise.
    """

    data: Mapping[str, Any]
    splits: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    whole: bool = False
    pins: Pins = field(default_factory=dict)

    def __call__(self, stop: StopSignal, context: WorkerContext) -> LiveWorker:
        """Open the parents, prepare the tasks and load the live models.

        Raises:
            CheckpointError: if a parent is missing here or differs from the driver's, or memory does not suffice.
            ConfigError: if a task cannot be prepared here, or the device cannot be used.
        """
        config = pin_config(from_data(self.data), self.pins)
        execution = config.execution
        set_threads(execution.threads or max(1, int(execution.cpus_per_worker)))
        cache: str | float = execution.cache
        if cache == "auto":
            cache = budget_bytes("auto") / GIB / context.neighbours
        sources = Sources(cache=cache, keep=True)
        self._check_parents(config, sources)
        problems = device_problems_of(execution)
        if problems:
            raise CheckpointError(problems[0])
        on_cpu = find_devices(execution)[0] == "cpu"
        sharers = context.neighbours if on_cpu else context.per_device
        _check_memory(config, sources, sharers)
        harness = make_harness(config, recorded_splits=self.splits, sharers=sharers, halvings=context.halvings)
        harness.prepare()
        log_lines: list[str] = []
        live = make_live_models(config, sources, sharers=sharers, tell=log_lines.append)
        return LiveWorker(live, harness, stop=stop, log_lines=log_lines)

    def _check_parents(self, config: SearchConfig, sources: Sources) -> None:
        problems = []
        with contextlib.suppress(CheckpointError):  # what cannot be opened is named below
            for source in checkpoints(config).values():
                sources.open(source)
        bring_models(sources, log.info)
        for name, source in checkpoints(config).items():
            try:
                mine = model_fingerprint(sources.open(source), whole=self.whole)
            except CheckpointError as error:
                problems.append(f"{name}: {error}")
                continue
            if mine != self.fingerprints[name]:
                problems.append(
                    f"{name} ({source.path}) is another model here than where the search was started: the contents "
                    "differ; copy it anew, or name a Hub id with its revision"
                )
        if problems:
            raise CheckpointError("; ".join(problems))


def make_ray_executor(
    config: SearchConfig,
    data: Mapping[str, Any],
    sources: Sources,
    harness: LmHarness,
    stop: StopSignal,
    *,
    pins: Pins,
) -> RayExecutor:
    """Start the workers of a checked configuration.

    Raises:
        ExecutionError: if there is no cluster, or no worker can be started.
        CheckpointError: if a machine does not have the driver's parents.
    """
    execution = config.execution
    named = checkpoints(config)
    # On this machine alone, workers read the driver's own files; elsewhere they read copies, whose every byte counts.
    whole = execution.address is not None
    prints = {name: model_fingerprint(sources.open(source), whole=whole) for name, source in named.items()}
    mapped = sum(info.n_bytes for source in named.values() for info in sources.open(source).tensors.infos.values())
    dtype = running_dtype(execution.dtype, "cpu" if execution.gpus_per_worker == 0 else find_devices(execution)[0])
    log.info(
        "parents: %.2f GiB, memory-mapped, so that the workers of a machine share one copy; live models: %.2f GiB in "
        "each worker",
        mapped / GIB, live_bytes(config, sources, dtype) / GIB,
    )  # fmt: skip
    plain = {key: value for key, value in data.items() if key != "run"}
    local_cpus = None
    if execution.address is None and execution.workers is not None:
        # The user may choose more workers than there are cores, since Ray only counts them.
        local_cpus = max(1, -(-execution.workers * execution.cpus_per_worker // 1))
    return RayExecutor(
        WorkerPlan(plain, harness.split_data(), prints, whole, pins),
        cluster=Cluster(
            address=execution.address,
            cpus=None if local_cpus is None else int(local_cpus),
            runtime_env=execution.runtime_env,
        ),
        settings=PoolSettings(
            workers=execution.workers,
            cpus=execution.cpus_per_worker,
            gpus=execution.gpus_per_worker,
            timeout=execution.timeout,
            n_items={split: sum(map(len, harness.split_items(split).values())) for split in Split},
            share=execution.share,
        ),
        stop=stop,
    )


def _check_memory(config: SearchConfig, sources: Sources, sharers: int) -> None:
    """Make sure that the live models of all workers that share a memory fit into it.

    Other workers may have loaded their models already or not, so the free memory shows only whether this worker's fit.
    Whether all fit can be checked where it is certain how many workers there will be.

    Args:
        config: the configuration.
        sources: the opened models.
        sharers: how many workers may share the memory, this one included.

    Raises:
        CheckpointError: if they do not fit.
    """
    devices = find_devices(config.execution)
    dtype = running_dtype(config.execution.dtype, devices[0])
    at_least = min(sharers, _certain_sharers(config.execution, on_cpu=devices[0] == "cpu"))
    problems = memory_problems(config, sources, devices, dtype, sharers=sharers, at_least=at_least)
    if problems:
        raise CheckpointError(problems[0])


def _certain_sharers(execution: ExecutionConfig, *, on_cpu: bool) -> int:
    """Return how many workers are sure to share the memory in which this process computes; 1 if Ray does not say."""
    ray = sys.modules.get("ray")  # not imported here, since the environment variables that it reads may not be set yet
    if ray is None or not ray.is_initialized():
        return 1
    mine = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["Resources"] for node in alive_nodes()}
    gpus = gpus_of_a_worker(execution.gpus_per_worker)
    fit = {node: places(resources, cpus=execution.cpus_per_worker, gpus=gpus) for node, resources in nodes.items()}
    here = fit.pop(mine, 1)
    workers = least_workers_here(here, sum(fit.values()), execution.workers)
    return workers if on_cpu else least_per_gpu(workers, int(nodes.get(mine, {}).get("GPU", 0.0)), gpus)


def least_workers_here(here: int, elsewhere: int, wanted: int | None) -> int:
    """Return how many workers a machine gets at least, however Ray spreads them; this one included.

    Args:
        here: how many workers fit into this machine.
        elsewhere: how many fit into the others.
        wanted: how many workers there are to be; None: as many as fit.
    """
    return max(1, here if wanted is None else min(here, wanted - elsewhere))


def least_per_gpu(workers: int, n_gpus: int, gpus: float) -> int:
    """Return how many of a machine's workers are sure to share the GPU of one of them.

    Ray need not spread them evenly, so this is certain only where they take all GPUs.

    Args:
        workers: how many workers the machine has.
        n_gpus: how many GPUs the machine has.
        gpus: how many GPUs each worker takes.
    """
    if not 0.0 < gpus < 1.0 or n_gpus == 0:
        return 1
    most = int(1.0 / gpus + 1e-9)
    return max(1, workers - (n_gpus - 1) * most)
