"""KnOTS: task vectors are merged in one basis that all of them share, made for LoRA. https://arxiv.org/abs/2410.19735.

Of each matrix: [τ_1 … τ_N] = U Σ [V_1 … V_N]ᵀ, the parents side by side, so that τ_i = U R_i with R_i = Σ V_iᵀ. The R_i
are merged to R by TIES (trim, elect, disjoint mean), and the result is θ0 + λ U R. Their plain sum would be that of the
task vectors themselves, so `combine: sum` is task arithmetic and needs no decomposition.

Differences from the authors' code: R_i is trimmed within each matrix, where theirs ranks the entries of all layers
together; exactly ⌊density·q⌋ of q entries are kept; singular values count as 0 relative to the largest, where theirs
must be above 1e−5; and weights w_i are ours. Tensors that are no matrices, which LoRA leaves alone, are merged by TIES.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Inputs, Method, ParentTensors, Values, nonzero
from evomerge.merge.methods.matrices import (
    TOLERANCE,
    exact_task_vectors,
    holds_matrices,
    matrices,
    one_thread,
    rejoin,
    thin_svd,
)
from evomerge.merge.methods.parameters import ELECTION, MEAN_LAMBDA, NORMALIZE_MEAN, WEIGHT
from evomerge.merge.methods.pipeline.sparsify import keep, magnitude
from evomerge.merge.methods.task_arithmetic import METHOD as SUM
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.merge.methods.ties import METHOD as TIES
from evomerge.merge.methods.ties import elect_and_merge
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

_ALIGNED = "in a shared basis"


@dataclass(frozen=True)
class SharedBasis:
    """The task vectors of one matrix in the basis that they share, fp32 on the CPU.

    Attributes:
        u: `(m, rank)`, orthonormal columns.
        parts: R_i, each `(rank, n)`, with τ_i = U R_i.
    """

    u: torch.Tensor
    parts: tuple[torch.Tensor, ...]

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return 4 * (self.u.numel() + sum(part.numel() for part in self.parts))


def shared_basis(task: Sequence[torch.Tensor]) -> SharedBasis:
    """Return the task vectors of one matrix, float64 `(m, n)`, in the left singular vectors of all side by side.

    The sign of a column of U is such that its entry of the largest size is positive. Call it within `one_thread`.
    """
    import torch

    wide = torch.cat(list(task), dim=1)
    m, columns = wide.shape
    if m > columns or not wide.any():
        u = thin_svd(wide).u
    else:  # the eigenvectors of Σ τ_i τ_iᵀ are the same and take a fraction of the time; the R_i are exact in any basis
        squares, vectors = torch.linalg.eigh(wide @ wide.T)
        u = vectors[:, squares > TOLERANCE**2 * squares[-1]].flip(1)
    if u.shape[1]:
        u = u * u.gather(0, u.abs().argmax(0, keepdim=True)).sign()
    return SharedBasis(u.float().contiguous(), tuple((u.T @ tau).float().contiguous() for tau in task))


def _aligned(values: Values) -> bool:
    return bool(values.get(_ALIGNED))


def _sums(values: Values) -> bool:
    return values["combine"] == "sum"


def _summed(values: Values) -> Values:
    """Return the parameters of task arithmetic; `normalize` is one of TIES here."""
    return {**values, "normalize": False}


def _values_at(values: Values, at: TensorAt) -> Values:
    return {**values, _ALIGNED: holds_matrices(at) and not _sums(values)}


def _active(values: Values) -> tuple[int, ...]:
    if _sums(values):
        return nonzero(values, "weight")
    # A parent of weight 0 still shapes the basis: a search meets no jump there, and finds the basis only once.
    found = nonzero(values, "weight", "density")
    return tuple(range(len(values["weight"]))) if found and _aligned(values) else found  # type: ignore[arg-type]


def _problems(values: Values) -> list[str]:
    return [] if _sums(values) else TIES.problems(values)


def _one_input(values: Values) -> int | None:
    return SUM.one_input(_summed(values)) if _sums(values) else TIES.one_input(values)


def _find(inputs: Inputs) -> list[SharedBasis]:
    with one_thread():
        rows = zip(*(matrices(tau, inputs.place) for tau in exact_task_vectors(inputs)), strict=True)
        return [shared_basis(row) for row in rows]


def _prepare(inputs: Inputs, tensors: ParentTensors) -> Any:
    """Return the shared basis of each matrix; of other tensors what TIES needs."""
    if _sums(inputs.values):
        return None
    if not _aligned(inputs.values):
        assert TIES.prepare is not None
        return TIES.prepare(inputs, tensors)
    return tensors.once(
        ("knots", tensors.name),
        lambda: _find(inputs),
        lambda found: sum(each.n_bytes for each in found),
        what="the shared bases of task vectors",
    )


def _program(inputs: Inputs) -> Program | None:
    if _aligned(inputs.values):
        return None
    assert SUM.program is not None
    assert TIES.program is not None
    if _sums(inputs.values):
        return SUM.program(replace(inputs, values=_summed(inputs.values)))
    return TIES.program(inputs)


def _knots(inputs: Inputs) -> torch.Tensor:
    if not _aligned(inputs.values):
        if _sums(inputs.values):
            return SUM.merge(replace(inputs, values=_summed(inputs.values)))
        return TIES.merge(inputs)
    counted = nonzero(inputs.values, "weight", "density")
    with one_thread():
        parts = [each.u @ _elected(inputs, each, counted) for each in inputs.prepared or _find(inputs)]
    delta = rejoin(parts, inputs.place, inputs.origin.device)
    return delta.mul_(inputs.number("lambda")).add_(inputs.origin)


def _elected(inputs: Inputs, shared: SharedBasis, counted: Sequence[int]) -> torch.Tensor:
    """Return R, the disjoint mean of the trimmed R_i."""
    import torch

    weight, density = inputs.numbers("weight"), inputs.numbers("density")
    zero = torch.zeros_like(shared.parts[0])
    if not math.prod(zero.shape):
        return zero
    return elect_and_merge(
        [keep(part.clone(), magnitude(part, density[i])) for i, part in enumerate(shared.parts) if i in counted],
        weight=[weight[i] for i in counted],
        election=inputs.word("election"),
        normalize=bool(inputs.values["normalize"]),
    )


_TIES = {"combine": ("ties",)}

METHOD = Method(
    spec=MethodSpec(
        name="knots",
        summary="task vectors merged by TIES in one basis that they share (for LoRA)",
        paper="https://arxiv.org/abs/2410.19735",
        topic="subspaces",
        parameters=(
            WEIGHT,
            Parameter(
                "combine",
                "ties",
                choices=("ties", "sum"),
                gene=False,
                scope="global",
                doc="merge the parts in the shared basis by TIES, or sum them, which is task arithmetic",
            ),
            Parameter(
                "density",
                0.2,
                0.05,
                1.0,
                per_parent=True,
                when=_TIES,
                doc="share of the entries of each parent's part of a matrix that is kept, the largest",
            ),
            MEAN_LAMBDA,
            replace(ELECTION, when=_TIES),
            replace(NORMALIZE_MEAN, when=_TIES),
        ),
        formula="θ0 + λ U TIES(R_1 … R_N) with τ_i = U R_i, U the left singular vectors of [τ_1 … τ_N]; of each matrix",
        notes="Made for parents that are LoRA fine-tunes merged into their base; it takes any. The basis is found once "
        "per search, whatever the weights and densities, and kept with the R_i: 4·rank·(m + N·n) bytes for a matrix of "
        "m × n, where the rank is at most the sum of the ranks of the τ_i (N + 1 times an fp32 matrix if they are "
        "full). A candidate trims and elects in that space and multiplies by U. A parent of weight 0 still shapes the "
        "basis. Embeddings, norms and biases are merged by TIES as they are.",
    ),
    merge=_knots,
    program=_program,
    prepare=_prepare,
    values_at=_values_at,
    active=_active,
    one_input=_one_input,
    problems=_problems,
)
