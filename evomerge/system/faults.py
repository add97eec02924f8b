"""Recognising errors that are faults of the machine: memory that ran out, a device that broke.

torch has a class for memory that runs out on a GPU, but raises a bare `RuntimeError` on a CPU and for most CUDA errors,
so the text must tell; the text of that class tells, too. Such texts are read only here: code that catches an error of
torch's calls `fault_of`, and `EvaluationError.fault` passes the answer on.
"""

from __future__ import annotations

from evomerge.errors import EvaluationError, Fault, Interrupted
from evomerge.system.text import error_text

PASSED_ON = (KeyboardInterrupt, Interrupted)
"""What code that runs anybody's functions passes on; everything else that such a function raises is its failure."""


def fault_of(error: BaseException) -> Fault | None:
    """Return what failed, if an error is a fault of the machine; None: it is not, as far as its text tells.

    Args:
        error: an error of torch's, of a library that passes torch's on, or an `EvaluationError` made from one.
    """
    if isinstance(error, EvaluationError):
        return error.fault
    if isinstance(error, MemoryError):
        return Fault.MEMORY
    text = error_text(error).lower()
    if "out of memory" in text or "can't allocate memory" in text:
        return Fault.MEMORY
    return Fault.DEVICE if "cuda error" in text else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a device or on the machine."""
    return fault_of(error) is Fault.MEMORY
