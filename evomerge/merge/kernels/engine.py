"""The contract of an engine, which computes programs, and the choice of the engine for a device."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evomerge.merge.kernels.program import BitRange, Program, Survey

if TYPE_CHECKING:
    import torch

VARIABLE = "EVOMERGE_KERNELS"
"""The environment variable that forces an engine, "numba" or "torch", for example to compare them."""

_log = logging.getLogger(__name__)


class KernelEngine(Protocol):
    """Computes on contiguous floating-point tensors of one size, all on one device.

    What callers may assume: every engine gives the same bits, for any number of threads; it does not change its inputs;
    apart from what it returns, it takes no memory that grows with the tensors.
    """

    def run(
        self,
        program: Program,
        base: torch.Tensor | None,
        parents: Sequence[torch.Tensor],
        out: torch.Tensor,
        *,
        roundings: Sequence[torch.dtype] = (),
    ) -> int | torch.Tensor:
        """Write a program's result into `out`, rounded to each of `roundings` (at most two) and then to out's dtype.

        Returns:
            Whether an entry of the result is not finite: a number or, to avoid waiting for a GPU, a tensor.
        """
        ...

    def product(self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
        """Write left · right, fp32 `(m, k)` and `(k, n)`, into `out`, fp32 `(m, n)`; sums go from the first k on."""
        ...

    def finite(self, tensor: torch.Tensor) -> bool:
        """Return whether every entry is finite."""
        ...

    def dots(self, a: torch.Tensor, b: torch.Tensor, base: torch.Tensor | None = None) -> tuple[float, float, float]:
        """Return ⟨a,a⟩, ⟨a,b⟩ and ⟨b,b⟩, accumulated in float64 in a fixed order.

        With a base they are those of a − base and b − base, which are rounded to fp32 first, as in programs.
        """
        ...

    def tally(self, base: torch.Tensor, parent: torch.Tensor, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the distinct bits of |θ − θ0|, rising, and how many entries have each; None if more than `most`.

        Both arrays are int64, `(n_distinct,)`.
        """
        ...

    def histogram(
        self, base: torch.Tensor, parent: torch.Tensor, shift: int, counts: np.ndarray, member: np.ndarray
    ) -> None:
        """Count the entries by the upper bits u of |θ − θ0| as fp32, which are all bits but the `shift` lowest.

        counts[u] grows by the number of entries. member[u], int32, becomes all the bits of one of them, if one of them
        is at an index divisible by 4.
        """
        ...

    def survey(self, base: torch.Tensor, parents: Sequence[torch.Tensor], ranges: Sequence[BitRange]) -> list[Survey]:
        """Return, after one pass, the entries of each parent whose |θ − θ0| has bits in the parent's range."""
        ...

    def nth(self, base: torch.Tensor, parent: torch.Tensor, bits: int, n: int) -> tuple[int, int]:
        """Return the flat index of the n-th (from 1) entry whose |θ − θ0| has these bits, and n.

        If there are only c < n such entries, it is −1 and c.
        """
        ...


def engine_for(device: torch.device) -> KernelEngine:
    """Return the fastest engine for tensors of a device.

    Raises:
        ValueError: if the environment variable names no engine.
    """
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", "numba", "torch"):
        raise ValueError(f"{VARIABLE} must be numba or torch, but is {forced!r}")
    if forced == "torch":
        return _torch_engine()
    if device.type != "cpu":
        return (_triton_engine() if device.type == "cuda" else None) or _torch_engine()
    return _numba_engine() or _torch_engine()


def compiled() -> bool:
    """Return whether CPU tensors are computed by the compiled kernels, which need no torch."""
    return os.environ.get(VARIABLE, "") in ("", "numba") and _numba_engine() is not None


@cache
def _torch_engine() -> KernelEngine:
    from evomerge.merge.kernels.torch_engine import TorchEngine

    return TorchEngine()


@cache
def _triton_engine() -> Any:
    import torch

    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return None
    try:
        from evomerge.merge.kernels.triton_engine import TritonEngine, works

        if works():
            return TritonEngine()
        problem: object = "its kernel gives a wrong result"
    except Exception as error:  # no compiler on this machine, an older card, another version of Triton, …
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    _log.warning("Triton cannot be used (%s): merging on a GPU runs on plain torch, several times slower", problem)
    return None


@cache
def _numba_engine() -> Any:
    if importlib.util.find_spec("numba") is None:
        _log.warning("numba is not installed: merging runs on plain torch, several times slower (pip install numba)")
        return None
    try:
        from evomerge.merge.kernels.numba_engine import NumbaEngine

        return NumbaEngine()
    except ImportError as error:  # numba refuses versions of numpy that are newer than itself
        _log.warning("numba cannot be used (%s): merging runs on plain torch, several times slower", error)
        return None
