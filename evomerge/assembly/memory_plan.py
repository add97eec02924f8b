"""The memory plan: whether live models fit, where parents stay, and what is read anew if they do not; from headers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from evomerge.assembly.spaces import average, baselines
from evomerge.config.schema import SearchConfig
from evomerge.errors import CheckpointError
from evomerge.merge.adapters.model import bytes_read
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.live.placement import plan_devices
from evomerge.merge.methods.registry import find_method
from evomerge.merge.sources import Sources
from evomerge.merge.tokens.view import token_tensors
from evomerge.recipe import PASSTHROUGH, Parent, Recipe, Step, TokenizerBuild
from evomerge.system.memory import GIB, free_bytes, free_memory, total_bytes

log = logging.getLogger(__name__)

ROOM = 0.25
"""The share of a worker's memory that parents on its devices leave to forward passes."""


def model_bytes(opened: OpenModel, dtype: str | None) -> int:
    """Return the size of a model in memory, its parameters and saved buffers, in bytes.

    Args:
        opened: the model.
        dtype: the type of its floating-point values; None: the type of most of them in its files.
    """
    size = opened.dtype.itemsize if dtype is None else TORCH_DTYPES[dtype].itemsize
    shapes = opened.architecture.shapes
    return sum(size * math.prod(shapes[name]) for name in opened.architecture.places)


def live_bytes(config: SearchConfig, sources: Sources, dtype: str | None) -> int:
    """Return the least memory that the live models take, in bytes: one model for merges, and each parent for paths.

    The plain average, with which a search of paths is compared, is a merge too, and so are the parents as baselines,
    which have live models of their own where merges have other tokens. Paths that no merge lends its layers have
    embeddings and head of their own then.

    Raises:
        CheckpointError: if a model cannot be opened.
    """
    merges = [recipe for recipe in baselines(config, sources).values() if recipe.method != PASSTHROUGH]
    opened: list[OpenModel] = []
    for source in [average(config), *merges] if merges else []:
        one = sources.like(source)
        if all(one.architecture.shapes != other.architecture.shapes for other in opened):
            opened.append(one)
    total = sum(model_bytes(one, dtype) for one in opened)
    if config.stacks:
        total += sum(model_bytes(sources.like(parent.source), dtype) for parent in config.models.parents)
        if config.merges:  # the merge whose layers a path takes stands beside the one that is being made
            total += model_bytes(opened[0], dtype)  # its rows are in the order of the paths already
        elif isinstance(config.models.tokenizer, TokenizerBuild):
            parents = config.models.parents
            path = (Step(parents[0].name, 0),)
            stack = Recipe(PASSTHROUGH, parents, path=path, tokenizer=config.models.tokenizer)
            total += _row_bytes(sources.compatible_parents(stack).first, dtype)
    return total


def _row_bytes(opened: OpenModel, dtype: str | None) -> int:
    """Return the size of a model's embedding and head in memory."""
    size = opened.dtype.itemsize if dtype is None else TORCH_DTYPES[dtype].itemsize
    shapes = opened.architecture.shapes
    return sum(size * math.prod(shapes[opened.naming.targets[name]]) for name in token_tensors(opened))


def memory_problems(
    config: SearchConfig,
    sources: Sources,
    devices: Sequence[str],
    dtype: str | None,
    *,
    sharers: int = 1,
    at_least: int = 1,
) -> list[str]:
    """Return one sentence with the sizes if a worker's models do not fit into the free memory of its devices.

    Args:
        config: the configuration.
        sources: the opened models.
        devices: the devices of a worker; all of them can be used.
        dtype: the type in which candidates run; None: their own.
        sharers: how many workers, this one included, may share the devices; each gets an equal part.
        at_least: how many of them are certain to share the devices; live models are refused only if so many do not fit.
    """
    smaller = "" if dtype in ("bfloat16", "float16") else "set execution.dtype to bfloat16, or "
    fewer = "use fewer workers, or " if sharers > 1 else ""
    instead = f"; {fewer}{smaller}use fewer or smaller models, or a device with more memory"
    try:
        shares = device_shares(config, sources, devices, dtype, sharers=at_least)
    except CheckpointError as error:
        return [f"{error}{instead}"]
    each = f" for each of the {at_least} workers that share it" if at_least > 1 else ""
    for share in shares:
        if share.live > share.free:
            what = "model that candidates are written into takes"
            if config.stacks:
                what = "live models (for layer paths one of each parent) take"
            return [
                f"the {what} {share.live / GIB:.2f} GiB in {dtype or 'their own dtype'}, but {share.device} has "
                f"{share.free / GIB:.2f} GiB free{each}{instead}"
            ]
    if config.execution.parents != "device" or not config.merges:
        return []
    shares = device_shares(config, sources, devices, dtype, sharers=sharers)
    if _off_cpu(shares) and not _fit(shares):
        return [
            f"execution.parents is device, but the parents ({_sum(share.parents for share in shares)}) do not fit "
            f"beside the live model ({_sum(share.live for share in shares)}) into {_names(shares)}: "
            f"{_sum(share.free for share in shares)} are free for this worker, of which {ROOM:.0%} are kept for "
            "forward passes; set it to auto or host"
        ]
    return []


@dataclass(frozen=True)
class Share:
    """The memory of a device for one worker, and what the worker would put there, in bytes.

    Attributes:
        device: the device's name.
        free: what is free now, but no more than an equal part of the whole where workers share the device.
        live: the size of the live models.
        parents: the size of the tensors that merges read, if they are to stay here.
        engine: the size of the second copy of the live model that vLLM makes.
    """

    device: str
    free: int
    live: int
    parents: int
    engine: int = 0


def device_shares(
    config: SearchConfig, sources: Sources, devices: Sequence[str], dtype: str | None, *, sharers: int = 1
) -> list[Share]:
    """Return what a worker's models will take on each of its devices once they are loaded.

    Args:
        config: the configuration.
        sources: the opened models.
        devices: the devices of a worker; over several, its model is spread.
        dtype: the type in which candidates run; None: their own.
        sharers: how many workers, this one included, share the devices.

    Raises:
        CheckpointError: if a model cannot be opened, or cannot be spread over several devices.
    """
    free = {one: free_bytes(torch.device(one)) for one in devices}
    if sharers > 1:
        free = {one: min(most, total_bytes(torch.device(one)) // sharers) for one, most in free.items()}
    parents = parent_bytes(config, sources)
    if len(devices) == 1:
        live = live_bytes(config, sources, dtype)
        return [Share(devices[0], free[devices[0]], live, parents, live if config.evaluation.engine == "vllm" else 0)]
    opened = sources.like(average(config))
    torch_dtype = opened.dtype if dtype is None else TORCH_DTYPES[dtype]
    _, taken = plan_devices(opened.architecture, torch_dtype, {torch.device(one): n for one, n in free.items()})
    whole = max(1, sum(taken.values()))
    # A parent's tensor stays on the device of the tensor into which it is merged.
    return [Share(str(one), free[str(one)], n, parents * n // whole) for one, n in taken.items()]


def merged_models(config: SearchConfig, sources: Sources) -> list[OpenModel]:
    """Return the models that merges read: the parents, and the base where a method takes task vectors.

    Raises:
        CheckpointError: if a model cannot be opened.
    """
    models = [model for _, model in sources.family(average(config)).members]
    methods = [find_method(name) for name in config.methods]
    if config.models.base is not None and not any(m.spec.needs_base or m.reads_base is not None for m in methods):
        models.pop()
    return list({id(one): one for one in models}.values())


def parent_bytes(config: SearchConfig, sources: Sources) -> int:
    """Return the bytes of the tensors that merges read; 0 where a search merges nothing.

    Raises:
        CheckpointError: if a model cannot be opened.
    """
    if not config.merges:
        return 0
    return bytes_read(merged_models(config, sources))


def parents_stay(setting: str, shares: Sequence[Share]) -> tuple[bool, str]:
    """Decide whether the parents of merges stay on the devices of the live model.

    Args:
        setting: "auto", "device" or "host".
        shares: the memory of each device, before anything is loaded.

    Returns:
        The decision, and a sentence with the reason and the sizes.
    """
    size, live = _sum(share.parents for share in shares), _sum(share.live for share in shares)
    if any(share.engine for share in shares):
        live += ", and as much in the engine"
    free, names = _sum(share.free for share in shares), _names(shares)
    mapped = f"parents ({size}) are read from the machine's memory, one copy for all its workers"
    if not _off_cpu(shares):
        return False, f"{mapped}: candidates are merged on the CPU, which reads them there"
    copied = f"so each candidate copies at most {size} to {names}"
    if setting == "host":
        return False, f"{mapped}: execution.parents is host, {copied}"
    if not _fit(shares):
        return False, (
            f"{mapped}: beside the live model ({live}) they would not leave {ROOM:.0%} of the {free} that are free for "
            f"this worker on {names} to forward passes, {copied}"
        )
    return True, f"parents ({size}) stay on {names} beside the live model ({live}): {free} are free for this worker"


def _off_cpu(shares: Sequence[Share]) -> bool:
    return all(torch.device(share.device).type != "cpu" for share in shares)


def _fit(shares: Sequence[Share]) -> bool:
    return all(share.live + share.engine + share.parents <= (1 - ROOM) * share.free for share in shares)


def _sum(sizes: Iterable[int]) -> str:
    return f"{sum(sizes) / GIB:.2f} GiB"


def _names(shares: Sequence[Share]) -> str:
    return " and ".join(share.device for share in shares)


def tell_streaming(sources: Sources, members: Sequence[Parent], taken: int = 0) -> None:
    """Log how much each candidate reads from disk, if the parents' files do not fit into memory.

    They are memory-mapped, so the system drops their pages when memory is short and reads them again.

    Args:
        sources: the opened models.
        members: parents and base of the merges.
        taken: bytes that will be used, but are free still.
    """
    mapped = bytes_read([sources.like(member.source) for member in members])
    free = free_memory() - taken
    if mapped > free:
        log.warning(
            "the parents' files (%.2f GiB) do not fit into memory beside the live model (%.2f GiB are free): parents "
            "are streamed from disk for each candidate, about %.2f GiB each, which is slower; give more memory",
            mapped / GIB, max(0, free) / GIB, mapped / GIB,
        )  # fmt: skip
