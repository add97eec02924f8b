"""Errors that are the machine's fault are told from those that are the candidate's."""

import pytest
import torch

from evomerge.errors import EvaluationError, Fault
from evomerge.system.faults import fault_of, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (torch.OutOfMemoryError("XPU out of memory. Tried to allocate 2.00 GiB"), Fault.MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), Fault.MEMORY),
        (RuntimeError("CUDA error: out of memory"), Fault.MEMORY),
        (RuntimeError("CUDA error: device-side assert triggered"), Fault.DEVICE),
        (RuntimeError("a bug"), None),
        (EvaluationError("too little", fault=Fault.MEMORY), Fault.MEMORY),
        (EvaluationError("task 'memory': the text 'out of memory' is no number"), None),
    ],
)
def test_a_fault_is_recognised(error: Exception, fault: Fault | None) -> None:
    assert fault_of(error) == fault
    assert is_out_of_memory(error) == (fault == Fault.MEMORY)


def test_the_memory_of_a_cpu_that_does_not_suffice_is_recognised() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(found.value)
