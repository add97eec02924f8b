"""The parts of a worker, in this process or another one: live models, tasks, devices, dtype, threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evomerge.assembly.memory_plan import device_shares, live_bytes, merged_models, parents_stay, tell_streaming
from evomerge.assembly.spaces import average, path_vocabulary
from evomerge.config.schema import ExecutionConfig, SearchConfig
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.measures.registry import ALWAYS
from evomerge.merge.live.models import LiveModels, check_paths
from evomerge.merge.sources import Sources

log = logging.getLogger(__name__)


def make_live_models(
    config: SearchConfig, sources: Sources, *, sharers: int = 1, tell: Callable[[str], None] = log.info
) -> LiveModels:
    """Load the models into which candidates are written, and decide where their parents stay.

    Args:
        config: the configuration.
        sources: the opened models.
        sharers: how many workers, this one included, may share the device.
        tell: called with the decision in a sentence.

    Raises:
        CheckpointError: if a model cannot be loaded, or not used as the search needs it.
    """
    devices = find_devices(config.execution)
    dtype = running_dtype(config.execution.dtype, devices[0])
    live = LiveModels(dtype=dtype, device=devices, sources=sources)
    if config.merges:
        stay, sentence = parents_stay(
            config.execution.parents, device_shares(config, sources, devices, dtype, sharers=sharers)
        )
        tell(sentence)
        if not stay:
            taken = live_bytes(config, sources, dtype) if devices[0] == "cpu" else 0
            tell_streaming(sources, config.models.members, taken)
        live.load(average(config))
        if stay:
            live.keep(merged_models(config, sources))
    if config.stacks:
        check_paths(live, config.models.parents, config.models.dtype, path_vocabulary(config))
    return live


def make_harness(
    config: SearchConfig,
    *,
    recorded_splits: Mapping[str, Any] | None,
    batch_size: int | None = None,
    sharers: int = 1,
    halvings: int = 0,
    where_they_fit: bool = False,
) -> LmHarness:
    """Return the tasks of a configuration.

    Args:
        config: the configuration.
        recorded_splits: the splits of a run; None: draw them.
        batch_size: instead of the configuration's; None: the configuration's.
        sharers: how many workers, this one included, share the memory in which candidates run.
        halvings: how often the batch size is halved, because workers ran out of memory.
        where_they_fit: whether settings of a task are left out, rather than refused, where it cannot follow them.
    """
    evaluation = config.evaluation
    return LmHarness(
        evaluation.tasks,
        sizes=evaluation.split,
        seed=config.seed,
        include_path=include_paths(evaluation.include_path),
        batch_size=batch_size or evaluation.batch_size,
        chat=evaluation.chat,
        allow_unsafe_code=evaluation.allow_unsafe_code,
        recorded_splits=recorded_splits,
        engine=evaluation.engine,
        measures=ALWAYS,
        sharers=sharers,
        halvings=halvings,
        where_they_fit=where_they_fit,
    )


def include_paths(paths: tuple[str, ...] | list[str]) -> list[Path]:
    """Return the folders of task files: the zoo's for `zoo:tasks`, and the user's."""
    from evomerge.zoo import tasks_path

    return [tasks_path() if path == "zoo:tasks" else Path(path).expanduser() for path in paths]


def find_device(name: str) -> str:
    """Turn "auto" into the device that candidates run on."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def find_devices(execution: ExecutionConfig) -> tuple[str, ...]:
    """Return the devices of a worker: one device, or the GPUs over which its model is spread."""
    if execution.gpus_per_worker is not None and execution.gpus_per_worker > 1:
        return tuple(f"cuda:{number}" for number in range(int(execution.gpus_per_worker)))
    return tuple(map(find_device, execution.device.split(",")))


def running_dtype(name: str | None, device: str) -> str | None:
    """Return the dtype that candidates run in: what the user says; else float32 on a CPU, and elsewhere their own.

    Most CPUs have no arithmetic in half precision: a forward pass in float16 took 20 times as long as in float32.
    """
    return name or ("float32" if device == "cpu" else None)


def set_threads(threads: int | None) -> None:
    """Set the number of torch's CPU threads; None leaves it as it is."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def own_threads() -> Iterator[None]:
    """Give the number of torch's threads back as it was: it belongs to the whole process."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def device_problems_of(execution: ExecutionConfig) -> list[str]:
    """Return one sentence if a device cannot be used in this process."""
    import torch

    wanted, there = int(execution.gpus_per_worker or 0), torch.cuda.device_count()
    if wanted > 1 and wanted > there:
        return [
            f"execution.gpus_per_worker is {wanted}, but torch sees {there} GPUs here; lower it, or use machines that "
            "have as many"
        ]
    for name in find_devices(execution):
        try:
            torch.empty(0, device=torch.device(name))
        except (RuntimeError, AssertionError) as error:
            return [f"execution.device {name!r} cannot be used: {str(error).splitlines()[0]}; use cpu, cuda or auto"]
    return []
