"""Whether the live models of a search fit into memory, from headers only; what is read anew where parents do not."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch

from evomerge.config import SearchConfig
from evomerge.evaluation.memory import free_bytes
from evomerge.memory import GIB, free_memory
from evomerge.merge.parents import TORCH_DTYPES, OpenModel
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe
from evomerge.stages import baselines

log = logging.getLogger(__name__)


def model_bytes(opened: OpenModel, dtype: str | None) -> int:
    """Return the size of a model in memory, its parameters and saved buffers, in bytes.

    Args:
        dtype: of its floating-point values; None: the type of most of them in its files.
    """
    size = opened.dtype.itemsize if dtype is None else TORCH_DTYPES[dtype].itemsize
    shapes = opened.architecture.shapes
    return sum(size * math.prod(shapes[name]) for name in opened.architecture.places)


def live_bytes(config: SearchConfig, sources: Sources, dtype: str | None) -> int:
    """Return the least memory that the live models take, in bytes: one for merges, for paths one of each parent.

    The plain average, which a search of paths is measured against, is a merge too.

    Raises:
        CheckpointError: if a model cannot be opened.
    """
    models: list[ModelSource | Recipe] = []
    if any(recipe.method != PASSTHROUGH for recipe in baselines(config, sources).values()):
        models.append((config.models.base or config.models.parents[0]).source)
    if any(stage.space.stacks for stage in config.stages):
        models += [parent.source for parent in config.models.parents]
    return sum(model_bytes(sources.like(source), dtype) for source in models)


def memory_problems(config: SearchConfig, sources: Sources, device: str, dtype: str | None) -> list[str]:
    """Return one sentence with the sizes if the live models do not fit into what the device has free.

    Args:
        device: that candidates run on; one that can be used.
        dtype: that they run in; None: their own.
    """
    needed, free = live_bytes(config, sources, dtype), free_bytes(torch.device(device))
    if needed <= free:
        return []
    what = "model that candidates are written into takes"
    if any(stage.space.stacks for stage in config.stages):
        what = "live models (for layer paths one of each parent) take"
    smaller = "" if dtype in ("bfloat16", "float16") else "set execution.dtype to bfloat16, or "
    return [
        f"the {what} {needed / GIB:.2f} GiB in {dtype or 'their own dtype'}, but {device} has {free / GIB:.2f} GiB "
        f"free; {smaller}use fewer or smaller models, or a device with more memory"
    ]


def tell_streaming(sources: Sources, members: Sequence[Parent], taken: int = 0) -> None:
    """Log how much each candidate reads from disk, if the parents do not stay in memory beside what else is there.

    They are memory-mapped, so the system drops their pages when memory is short and reads them again.

    Args:
        members: parents and base of the merges.
        taken: bytes of the memory that will be used, but are not yet.
    """
    opened = {id(one): one for one in (sources.like(member.source) for member in members)}
    mapped = sum(info.n_bytes for one in opened.values() for info in one.tensors.infos.values())
    free = free_memory() - taken
    if mapped > free:
        log.warning(
            "the parents' files (%.2f GiB) do not fit into memory beside the live model (%.2f GiB are free): parents "
            "are streamed from disk for each candidate, about %.2f GiB each, which is slower; give more memory",
            mapped / GIB, max(0, free) / GIB, mapped / GIB,
        )  # fmt: skip
