"""Isotropic merging: all directions of the merged task matrix count alike. https://arxiv.org/abs/2502.04959.

Iso-C, of each matrix: Δ = Σ w_i τ_i = U Σ Vᵀ, and the merged delta is σ̄ U Vᵀ with σ̄ the mean singular value. Iso-CTS
keeps of U and V only the k largest directions of Δ and adds for each parent the s largest of what these leave of it,
τ_i − U_c U_cᵀ τ_i; the directions of all are made orthonormal by polar factors. With β < 1 (ours) the result lies
between: the singular values are (1 − β) Σ + β σ̄. Tensors that are no matrices get the weighted mean of the τ_i.

Differences from the authors' code: singular values that count as 0 have no direction of their own and stay 0, where
theirs raises arbitrary ones to σ̄; Iso-CTS never gives the parents more directions than there are, where theirs fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from evomerge.merge.methods.base import (
    Inputs,
    Method,
    ParentTensors,
    Values,
    nonzero,
    out_of_range,
    task_vectors,
    weighted_sum,
)
from evomerge.merge.methods.matrices import (
    TOLERANCE,
    LastFound,
    Svd,
    exact_task_vectors,
    holds_matrices,
    over_matrices,
    polar,
    thin_svd,
)
from evomerge.merge.methods.mean_elsewhere import (
    as_mean,
    as_sum,
    mean_problems,
    merge_sum,
    plain,
    sum_one_input,
    sum_program,
)
from evomerge.merge.methods.parameters import WEIGHT
from evomerge.merge.methods.spectra import between, isotropic
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

PAPER = "https://arxiv.org/abs/2502.04959"


def common_and_specific(
    task: Sequence[torch.Tensor], *, fraction: float, tolerance: float = TOLERANCE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return U⊥ Σ V⊥ᵀ and σ̄ U⊥ V⊥ᵀ of Iso-CTS; call it within `one_thread`.

    Args:
        task: τ_i with their weights, float64, each `(m, n)`.
        fraction: f, the share of directions that is common: k₀ = ⌊f·r⌋, s = min(round((r − k₀)/N), ⌊r/N⌋), k = r − s·N.
        tolerance: singular values up to this share of the largest, of Δ and of τ_i, count as 0.
    """
    import torch

    r, n = min(task[0].shape), len(task)
    s = min(round((r - math.floor(fraction * r)) / n), r // n)
    common = thin_svd(torch.stack(list(task)).sum(0), tolerance).top(r - s * n)
    parts = []
    if s:
        # In a basis of what is outside of the common directions: τ_i − U_c U_cᵀ τ_i without its zeros.
        outside = torch.linalg.qr(common.u, mode="complete").Q[:, common.rank :]
        for tau in task:
            rest = thin_svd(outside.T @ tau, tolerance, float(torch.linalg.matrix_norm(tau, 2))).top(s)
            parts.append(Svd(outside @ rest.u, rest.sigma, rest.vt))
    parts.append(common)
    sigma = torch.cat([part.sigma for part in parts])
    if not len(sigma):
        return task[0] * 0.0, task[0] * 0.0
    u = polar(torch.cat([part.u for part in parts], dim=1))
    vt = polar(torch.cat([part.vt for part in parts]))
    return (u * sigma) @ vt, (u @ vt) * sigma.mean()


def _iso_c_values_at(values: Values, at: TensorAt) -> Values:
    if not holds_matrices(at):
        return as_mean(values)
    return as_sum(values) if values["beta"] == 0.0 else values


def _problems(values: Values) -> list[str]:
    problems = out_of_range(values, "beta", 0.0, 1.0) + mean_problems(values)
    tolerance = cast(float, values["tolerance"])
    if not 0.0 <= tolerance < 1.0:
        problems.append(f"tolerance must be at least 0 and below 1, but came {tolerance:g}")
    return problems


def _even_of(inputs: Inputs) -> torch.Tensor:
    """Return σ̄ U Vᵀ on the CPU."""
    total = weighted_sum(exact_task_vectors(inputs), inputs.numbers("weight"))
    return isotropic(total, inputs.place, tolerance=inputs.number("tolerance"))


def _prepare_iso_c(inputs: Inputs, tensors: ParentTensors) -> torch.Tensor | None:
    """Return σ̄ U Vᵀ; weights that change need another one."""
    if plain(inputs.values):
        return None
    last: LastFound[torch.Tensor] = tensors.once(
        ("iso_c", tensors.name), LastFound, lambda _: 4 * inputs.origin.numel(), what="the isotropic task matrices"
    )
    key = (inputs.numbers("weight"), inputs.number("tolerance"))
    return last.find(key, lambda: _even_of(inputs))


def _iso_c(inputs: Inputs) -> torch.Tensor:
    if plain(inputs.values):
        return merge_sum(inputs)
    even = (_even_of(inputs) if inputs.prepared is None else inputs.prepared).to(inputs.origin.device)
    beta = inputs.number("beta")
    delta = even if beta == 1.0 else between(weighted_sum(task_vectors(inputs), inputs.numbers("weight")), even, beta)
    return delta * inputs.number("alpha") + inputs.origin


def _pair_of(inputs: Inputs) -> list[torch.Tensor]:
    """Return U⊥ Σ V⊥ᵀ and σ̄ U⊥ V⊥ᵀ on the CPU."""
    fraction, tolerance, weight = inputs.number("fraction"), inputs.number("tolerance"), inputs.numbers("weight")
    return over_matrices(
        lambda task: common_and_specific(task, fraction=fraction, tolerance=tolerance),
        inputs.place,
        [tau * w for tau, w in zip(exact_task_vectors(inputs), weight, strict=True)],
    )


def _prepare_iso_cts(inputs: Inputs, tensors: ParentTensors) -> list[torch.Tensor] | None:
    """Return U⊥ Σ V⊥ᵀ and σ̄ U⊥ V⊥ᵀ; weights or a share that change need others."""
    if plain(inputs.values):
        return None
    last: LastFound[list[torch.Tensor]] = tensors.once(
        ("iso_cts", tensors.name),
        LastFound,
        lambda _: 8 * inputs.origin.numel(),
        what="the common and specific directions",
    )
    key = (inputs.numbers("weight"), inputs.number("fraction"), inputs.number("tolerance"))
    return last.find(key, lambda: _pair_of(inputs))


def _iso_cts(inputs: Inputs) -> torch.Tensor:
    if plain(inputs.values):
        return merge_sum(inputs)
    spectrum, even = _pair_of(inputs) if inputs.prepared is None else inputs.prepared
    device = inputs.origin.device
    beta = inputs.number("beta")
    delta = even.to(device) if beta == 1.0 else between(spectrum.to(device), even.to(device), beta)
    return delta * inputs.number("alpha") + inputs.origin


_WEIGHT = replace(
    WEIGHT, gene=False, doc="w_i, how much of each task vector is summed; other weights need new decompositions"
)
_ALPHA = Parameter("alpha", 1.0, 0.3, 3.0, doc="α, scales the merged delta; the paper tries 0 to 3")
_BETA = Parameter(
    "beta", 1.0, 0.0, 1.0, matrices=True, doc="β, how far singular values move to their mean: 0 not at all, 1 wholly"
)
_TOLERANCE = Parameter(
    "tolerance",
    TOLERANCE,
    1e-6,
    0.1,
    log=True,
    gene=False,
    scope="global",
    matrices=True,
    doc="singular values up to this share of the largest are noise and stay 0; raise it for LoRA parents in 16 bits",
)
_COST = (
    "Embeddings, norms and biases get θ0 + α Σ w_i τ_i / Σ w_i, as in the authors' code, by the fused kernels. "
    "A decomposition is made in float64 by one thread, so that the bytes are the same with any number of threads and "
    "on a GPU; it takes about 0.5 s of a core for a matrix of 1024 × 1024, and eight times that for twice the sides. "
    "Directions that the task vectors do not have (LoRA, frozen layers) stay 0. "
)

ISO_C = Method(
    spec=MethodSpec(
        name="iso_c",
        summary="the summed task vectors with all singular values equal",
        paper=PAPER,
        topic="subspaces",
        parameters=(_WEIGHT, _ALPHA, _BETA, _TOLERANCE),
        formula="θ0 + α U [(1 − β) Σ + β σ̄] Vᵀ, where U Σ Vᵀ = Σ w_i τ_i and σ̄ is the mean of Σ; of each matrix",
        notes=_COST + "One decomposition a matrix and search, as long as the weights stay; σ̄ U Vᵀ is kept (4 bytes an "
        "entry), and a candidate with other α and β costs two passes. One parent is not its own result unless β = 0, "
        "which is task arithmetic on the matrices.",
    ),
    merge=_iso_c,
    program=sum_program,
    prepare=_prepare_iso_c,
    values_at=_iso_c_values_at,
    active=lambda values: nonzero(values, "weight"),
    one_input=sum_one_input,
    problems=_problems,
)

ISO_CTS = Method(
    spec=MethodSpec(
        name="iso_cts",
        summary="common directions and some of each parent's own, with all singular values equal",
        paper=PAPER,
        topic="subspaces",
        parameters=(
            _WEIGHT,
            _ALPHA,
            _BETA,
            Parameter(
                "fraction",
                0.8,
                0.0,
                1.0,
                gene=False,
                matrices=True,
                doc="f, share of common directions; 1 is Iso-C; another one needs new decompositions",
            ),
            _TOLERANCE,
        ),
        formula="θ0 + α U⊥ [(1 − β) Σ + β σ̄] V⊥ᵀ with the top k of Σ w_i τ_i and the top s of each w_i τ_i outside of "
        "these; s = min(round((r − ⌊f·r⌋)/N), ⌊r/N⌋), k = r − s·N; of each matrix",
        notes=_COST + "N + 3 decompositions a matrix and search, as long as weights and fraction stay; two matrices "
        "are kept (8 bytes an entry), and a candidate with other α and β costs two passes. With β = 0 the singular "
        "values stay, but the directions are still made orthonormal. A parent of weight 0 is not counted.",
    ),
    merge=_iso_cts,
    program=sum_program,
    prepare=_prepare_iso_cts,
    values_at=lambda values, at: values if holds_matrices(at) else as_mean(values),
    active=lambda values: nonzero(values, "weight"),
    one_input=sum_one_input,
    problems=lambda values: _problems(values) + out_of_range(values, "fraction", 0.0, 1.0),
)
