"""Recognising errors that are the fault of the machine: memory that ran out, a device that broke.

torch has a class of its own for memory that runs out on a GPU, but raises a bare `RuntimeError` on a CPU and for most
CUDA errors, so only the text tells; that of its own class does, too. This is the one place that reads such texts: it
is asked where an error of torch's is caught, and `EvaluationError.fault` carries the answer on.
"""

from __future__ import annotations

from evomerge.errors import EvaluationError, Fault


def fault_of(error: BaseException) -> Fault | None:
    """Return what failed, if an error is the fault of the machine; None: it is not, as far as can be told.

    Args:
        error: one of torch's, one of a library that passes torch's on, or an `EvaluationError` made of such a one.
    """
    if isinstance(error, EvaluationError):
        return error.fault
    text = str(error).lower()
    if "out of memory" in text or "can't allocate memory" in text:
        return Fault.MEMORY
    return Fault.DEVICE if "cuda error" in text else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of a device or of the machine."""
    return fault_of(error) is Fault.MEMORY
