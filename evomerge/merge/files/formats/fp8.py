"""Checkpoints of 8-bit floating-point weights with scales, whose numbers are computed as they are read.

A weight w (F8_E4M3 or F8_E5M2) has a scale s beside it, and stands for w · s. How many weights share a number of s
follows from the shapes, dimension by dimension: one for all, one for each, or one for each block. The layouts:

- fine-grained fp8 of transformers (DeepSeek-V3, Qwen3-FP8): `weight_scale_inv`, a number for each block of rows and
  columns; blocks at the end may be smaller. In spite of its name it multiplies.
- compressed-tensors and FBGEMM (vLLM, Llama 3.1 405B): `weight_scale`, a number for a tensor, a row or a block.

The product is computed in float32, where it is exact up to one rounding. Scales of activations and of the cache of keys
and values belong to the arithmetic of an engine and not to the weights; they are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import SCALED_DTYPES, SafetensorsCheckpoint, TensorInfo
from evomerge.merge.files.weights import few

_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_SCALES = ("_scale_inv", "_scale")
"""What follows a weight's name in that of its scale."""
_ENGINE = re.compile(r"\.(input_scale|activation_scale|output_scale|input_zero_point|[qkv]_scale|prob_scale)$")
"""Scales that an engine multiplies activations by."""


class Fp8Checkpoint:
    """The tensors of a folder of 8-bit floating-point weights, dequantised one at a time.

    Attributes:
        infos: shape and type of each tensor, without the scales.

    Raises:
        CheckpointError: if a file is missing or damaged, or a scale is missing or does not fit its weight.
    """

    mapped = False
    dequantises = True
    """Whether `load` computes what it returns, so that it is worth keeping."""

    def __init__(self, folder: Path, blocks: tuple[int, int] | None) -> None:
        """Open a folder.

        Args:
            folder: the folder.
            blocks: how many rows and columns share a scale where a scale has several of both; None: no such scale.
        """
        self.folder = folder
        self._stored = SafetensorsCheckpoint(folder, SCALED_DTYPES)
        self._blocks = blocks
        infos = self._stored.infos
        self._scales = {
            name: scale
            for name, info in infos.items()
            if info.dtype in _FP8
            for scale in (f"{name}{end}" for end in _SCALES)
            if scale in infos
        }
        self._check()
        dropped = {*self._scales.values(), *(name for name in infos if _ENGINE.search(name))}
        result = _main_dtype(infos[name] for name in infos.keys() - self._scales.keys() - dropped)
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {
                name: TensorInfo(info.shape, torch.float32, result) if name in self._scales else info
                for name, info in infos.items()
                if name not in dropped
            }
        )

    @property
    def storage(self) -> str:
        """How its weights are stored, for people."""
        size = "" if self._blocks is None else f" in blocks of {self._blocks[0]}×{self._blocks[1]}"
        return f"fp8{size}, dequantised as it is read ({self._stored.storage})"

    def reads(self, name: str) -> tuple[tuple[SafetensorsCheckpoint, str], ...]:
        """See `evomerge.merge.files.stored`."""
        return tuple((self._stored, one) for one in (name, self._scales.get(name)) if one is not None)

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor; of a quantised one, in float32.

        Raises:
            CheckpointError: if the file cannot be read any more.
        """
        weight = self._stored.load(name)
        if name not in self._scales:
            return weight
        return dequantised(weight, self._stored.load(self._scales[name]), self._blocks)

    def _check(self) -> None:
        infos = self._stored.infos
        problems = []
        bare = sorted(name for name, info in infos.items() if info.dtype in _FP8 and name not in self._scales)
        if bare:
            problems.append(f"{few(bare)} in fp8 without a scale beside it ({' or '.join(_SCALES)})")
        for name, scale in self._scales.items():
            kind = infos[scale].dtype
            if not kind.is_floating_point or kind in _FP8:
                problems.append(f"{scale} is of type {str(kind).removeprefix('torch.')}, which is no scale")
            elif _repeats(infos[name].shape, infos[scale].shape, self._blocks) is None:
                size = "no block size" if self._blocks is None else f"blocks of {self._blocks[0]}×{self._blocks[1]}"
                problems.append(
                    f"{scale} has shape {list(infos[scale].shape)}, which with {size} does not fit {name}, "
                    f"{list(infos[name].shape)}"
                )
        shifts = sorted(name for name in infos if name.endswith("weight_zero_point"))
        if shifts:
            problems.append(f"{few(shifts)}, which would shift the weights")
        if problems:
            raise CheckpointError(f"{self.folder} cannot be dequantised: it holds {'; '.join(problems)}")


def dequantised(weight: torch.Tensor, scale: torch.Tensor, blocks: tuple[int, int] | None) -> torch.Tensor:
    """Return `(*, m, n)` float32: weights times their scales.

    Args:
        weight: `(*, m, n)` or `(n,)`, fp8.
        scale: a number, or as many dimensions as the weight, each of size 1, the weight's own, or one per block.
        blocks: rows and columns of a block.
    """
    repeats = _repeats(tuple(weight.shape), tuple(scale.shape), blocks)
    assert repeats is not None  # checked when the file was opened
    factor = scale.to(torch.float32)
    factor = factor.reshape((1,) * weight.dim() if factor.numel() == 1 else factor.shape)
    for dim, times in enumerate(repeats):
        if times > 1:
            factor = factor.repeat_interleave(times, dim).narrow(dim, 0, weight.shape[dim])
    return weight.to(torch.float32).mul_(factor)


def _repeats(shape: tuple[int, ...], scale: tuple[int, ...], blocks: tuple[int, int] | None) -> tuple[int, ...] | None:
    """Return how many weights share a number of the scale in each dimension (1: as many as there are, or each its own).

    None: the scale does not fit.
    """
    if all(size == 1 for size in scale):
        return (1,) * len(shape)
    if len(scale) != len(shape):
        return None
    found = []
    sizes = (*(1,) * max(0, len(shape) - 2), *(blocks or (0, 0)))[-len(shape) :]
    for size, numbers, block in zip(shape, scale, sizes, strict=True):
        if numbers in (1, size):
            found.append(1)
        elif block > 1 and -(-size // block) == numbers:
            found.append(block)
        else:
            return None
    return tuple(found)


def _main_dtype(infos: Iterable[TensorInfo]) -> torch.dtype:
    """Return the type of most values that are not quantised, which is that of the model; bfloat16 without any."""
    size: dict[torch.dtype, int] = {}
    for info in infos:
        if info.dtype in (torch.float32, torch.float16, torch.bfloat16):
            size[info.dtype] = size.get(info.dtype, 0) + info.n_bytes
    return max(size, key=lambda dtype: size[dtype], default=torch.bfloat16)
