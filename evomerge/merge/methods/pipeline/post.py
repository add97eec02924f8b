"""The last slot: what is done to the merged Δ, and θ0 + λΔ.

==============  ====================================================================================================
``tall_mask``   keeps the entries that serve at least k tasks (consensus, https://arxiv.org/abs/2405.07813)
``iso``         moves the singular values of each matrix to their mean (https://arxiv.org/abs/2502.04959)
``laser``       cuts each matrix to its largest singular values (https://arxiv.org/abs/2312.13558)
==============  ====================================================================================================

ExPO's step of α beyond the merge (https://arxiv.org/abs/2404.16792) needs no word: with λ = 1 + α, it is θ0 + λΔ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evomerge.merge.methods.base import Inputs, Values, task_vectors
from evomerge.merge.methods.consensus_ta import consensus
from evomerge.merge.methods.matrices import holds_matrices
from evomerge.merge.methods.spectra import isotropic, low_rank
from evomerge.merge.methods.tensor_at import TensorAt

if TYPE_CHECKING:
    import torch

ON_MATRICES = ("iso", "laser")
"""Post-operations that leave other tensors as they are."""


def after(inputs: Inputs, delta: torch.Tensor) -> torch.Tensor:
    """Return the merged Δ after the chosen operation."""
    match inputs.word("post"):
        case "tall_mask":
            limits = [inputs.number("threshold")] * len(inputs.parents)
            return consensus(delta, task_vectors(inputs), threshold=limits, k=int(inputs.number("k")))
        case "iso":
            return isotropic(delta, inputs.place, beta=inputs.number("beta"))
        case "laser":
            return low_rank(delta, inputs.place, rank=inputs.number("rank"))
        case _:
            return delta


def post_at(values: Values, at: TensorAt) -> Values:
    """Return the values for one tensor, where operations that change nothing there are none."""
    idle = {"iso": values.get("beta") == 0.0, "laser": values.get("rank") == 1.0}.get(str(values["post"]), False)
    if idle or (values["post"] in ON_MATRICES and not holds_matrices(at)):
        return {**values, "post": "none"}
    return values


def added(base: torch.Tensor, delta: torch.Tensor, scale: float) -> torch.Tensor:
    """Return θ0 + λΔ, with `scale` for λ; Δ is changed in place."""
    return delta.mul_(scale).add_(base)
