"""Workers elsewhere: what a process on any machine needs to become a worker of a search, as plain data."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.build import (
    device_problems_of,
    find_device,
    lender,
    make_harness,
    running_dtype,
    set_threads,
)
from evomerge.config import SearchConfig
from evomerge.errors import CheckpointError
from evomerge.evaluation.lm_harness import LmHarness
from evomerge.evaluation.memory import free_bytes, share_with
from evomerge.execution.base import StopSignal
from evomerge.execution.ray_actor import Hints
from evomerge.execution.ray_cluster import Cluster
from evomerge.execution.ray_pool import Demand, RayExecutor
from evomerge.execution.worker import Worker
from evomerge.footprint import live_bytes
from evomerge.memory import GIB
from evomerge.merge.fingerprint import fingerprint
from evomerge.merge.live import LiveModels, check_paths
from evomerge.merge.prepared import budget_bytes
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlan:
    """Makes a worker in the process that it is called in; holds plain data only.

    Attributes:
        data: the composed configuration.
        splits: the recorded splits, as `LmHarness` takes them.
        fingerprints: of each checkpoint by the name that messages use, as the driver has it.
        whole: whether they are of every byte.
    """

    data: Mapping[str, Any]
    splits: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    whole: bool = False

    def __call__(self, stop: StopSignal, hints: Hints) -> Worker:
        """Open the parents, prepare the tasks and load the live models.

        Raises:
            CheckpointError: if a parent is missing here, or is not what the driver has; or memory does not suffice.
            ConfigError: if a task cannot be prepared here, or the device cannot be used.
        """
        config = SearchConfig.from_data(self.data)
        execution = config.execution
        set_threads(execution.threads or max(1, int(execution.cpus_per_worker)))
        cache: str | float = execution.cache
        if cache == "auto":
            cache = budget_bytes("auto") / GIB / hints.neighbours
        sources = Sources(cache=cache)
        self._check_parents(config, sources)
        problems = device_problems_of(execution.device)
        if problems:
            raise CheckpointError(problems[0])
        device = find_device(execution.device)
        dtype = running_dtype(execution.dtype, device)
        _check_memory(config, sources, device, dtype, hints)
        share_with(hints.neighbours if device == "cpu" else hints.per_device)
        harness = make_harness(
            config,
            recorded_splits=self.splits,
            batch_size=max(1, config.evaluation.batch_size >> hints.halvings),
        )
        harness.prepare()
        live = LiveModels(dtype=dtype, device=device, sources=sources)
        if any(stage.space.merges for stage in config.stages):
            live.load(lender(config))
        if any(stage.space.stacks for stage in config.stages):
            check_paths(live, config.models.parents, config.models.dtype)
        return Worker(live, harness, stop=stop)

    def _check_parents(self, config: SearchConfig, sources: Sources) -> None:
        problems = []
        for name, source in checkpoints(config).items():
            try:
                mine = fingerprint(sources.open(source).folder, whole=self.whole)
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


def checkpoints(config: SearchConfig) -> dict[str, ModelSource]:
    """Return every checkpoint that a search reads, by a name for messages: those of parents that are recipes, too."""
    found: dict[str, ModelSource] = {}

    def visit(name: str, source: ModelSource | Recipe) -> None:
        if isinstance(source, ModelSource):
            found[name] = source
            return
        for parent in (*source.parents, *([source.base] if source.base else [])):
            visit(f"{name}.{parent.name}", parent.source)

    models = config.models
    for parent in (*models.parents, *([models.base] if models.base else [])):
        visit(parent.name, parent.source)
    return found


def make_executor(
    config: SearchConfig, data: Mapping[str, Any], sources: Sources, harness: LmHarness, stop: StopSignal
) -> RayExecutor:
    """Start the workers of a checked configuration.

    Raises:
        ExecutionError: if there is no cluster, or no worker can be started.
        CheckpointError: if a machine does not see the driver's parents.
    """
    execution = config.execution
    named = checkpoints(config)
    # On this machine alone, the files are the same ones; elsewhere they are copies, of which every byte counts.
    whole = execution.address is not None
    prints = {name: fingerprint(sources.open(source).folder, whole=whole) for name, source in named.items()}
    mapped = sum(info.n_bytes for source in named.values() for info in sources.open(source).tensors.infos.values())
    dtype = running_dtype(execution.dtype, "cpu" if execution.gpus_per_worker == 0 else find_device(execution.device))
    log.info(
        "parents: %.2f GiB, memory-mapped, so that the workers of a machine share one copy; live models: %.2f GiB in "
        "each worker",
        mapped / GIB, live_bytes(config, sources, dtype) / GIB,
    )  # fmt: skip
    plain = {key: value for key, value in data.items() if key != "run"}
    local_cpus = None
    if execution.address is None and execution.workers is not None:
        # Processes that share cores are the user's choice here: Ray only counts.
        local_cpus = max(1, -(-execution.workers * execution.cpus_per_worker // 1))
    return RayExecutor(
        WorkerPlan(plain, harness.split_data(), prints, whole),
        cluster=Cluster(
            address=execution.address,
            cpus=None if local_cpus is None else int(local_cpus),
            runtime_env=execution.runtime_env,
        ),
        demand=Demand(
            workers=execution.workers,
            cpus=execution.cpus_per_worker,
            gpus=execution.gpus_per_worker,
            timeout=execution.timeout,
            share=execution.share,
        ),
        stop=stop,
    )


def _check_memory(config: SearchConfig, sources: Sources, device: str, dtype: str | None, hints: Hints) -> None:
    """Make sure that the live models of all workers that share a memory fit into it."""
    import torch

    sharing = hints.neighbours if device == "cpu" else hints.per_device
    needed, free = live_bytes(config, sources, dtype), free_bytes(torch.device(device))
    # The others may have loaded theirs already, so only this one's is certain to come.
    if needed > free:
        raise CheckpointError(
            f"the live models take {needed / GIB:.2f} GiB, but {device} has {free / GIB:.2f} GiB free for this one of "
            f"{sharing} workers; use fewer workers, or set execution.dtype to bfloat16"
        )
