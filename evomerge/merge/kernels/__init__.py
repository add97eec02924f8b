"""The element-wise arithmetic of merging, fused: a tensor is read once, worked on in fp32 and written once.

================= =============================================================================
``program``       what is computed for one tensor, as data
``engine``        the contract of engines, which compute it, and the choice among them
``native``        the loops for CPUs, compiled by numba
``native_sparse`` the loops for masks by rank, bands and pooled means, compiled too
``numba_engine``  those loops on tensors, with torch's number of threads
``torch_engine``  the same bits with plain torch: where numba is not installed, or Triton on a GPU
``triton_engine`` the same bits on GPUs, one kernel for a tensor
``lanes``         vectors of eight numbers inside of numba's functions
``parallel``      chunks of a tensor spread over threads
``philox``        random numbers from (seed, index)
================= =============================================================================
"""

__all__: list[str] = []
