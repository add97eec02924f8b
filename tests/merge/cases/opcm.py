"""OPCM by the paper's recursion, with λ_t at each step, and by full singular bases; in float64, with numpy."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from method_case import MethodCase, Values

from evomerge.merge.methods.tensor_at import TensorAt


def projected(m: np.ndarray, d: np.ndarray, alpha: float, variant: str) -> np.ndarray:
    """P(D) = Σ p_ij u_i v_jᵀ over the pairs (i, j) that are kept, by the full bases of M."""
    u, s, vt = np.linalg.svd(m, full_matrices=True)
    rank = int((s > 1e-6 * s[0]).sum()) if s.size and s[0] > 0 else 0
    if rank == 0:
        return d
    share = np.cumsum(s[:rank]) / s[:rank].sum()
    if alpha == 1.0:
        r = rank
    elif variant == "paper":
        r = next(k for k in range(rank + 1) if k and share[k - 1] >= alpha) if alpha > 0 else 0
    else:
        r = int((share <= alpha).sum())
    p = u.T @ d @ vt.T
    i, j = np.indices(p.shape)
    kept = (i >= r) & (j >= r) if variant == "paper" else (i >= r) | (j >= r)
    if variant != "official":
        kept &= ~((i == j) & (i < rank))
    return u @ np.where(kept, p, 0.0) @ vt


def whole(
    base: Mapping[str, torch.Tensor],
    parents: Sequence[Mapping[str, torch.Tensor]],
    values: Values,
    places: Mapping[str, TensorAt],
) -> Mapping[str, torch.Tensor]:
    weight, order = values["weight"], values["order"]
    sequence = [i for _, i in sorted((order[i], i) for i in range(len(parents)) if weight[i] != 0)]
    deltas = [{name: weight[i] * (parents[i][name] - x).numpy() for name, x in base.items()} for i in sequence]
    if not deltas:
        return base
    norms = [length(delta) for delta in deltas]
    merged, scale = deltas[0], 1.0  # M_1, λ_1
    for t, delta in enumerate(deltas[1:], start=2):
        z = {
            name: scale * merged[name] + step(places[name], merged[name], d, values["alpha"], values["variant"])
            for name, d in delta.items()
        }
        mean = sum(norms[:t]) / t
        scale = length(z) / mean if mean else 0.0
        if scale == 0.0:
            merged, scale = {name: 0.0 * x for name, x in z.items()}, 1.0
        else:
            merged = {name: x / scale for name, x in z.items()}
    return {name: x + torch.tensor(values["norm"] * merged[name]) for name, x in base.items()}


def length(tensors: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum((x**2).sum() for x in tensors.values())))


def step(at: TensorAt, m: np.ndarray, d: np.ndarray, alpha: float, variant: str) -> np.ndarray:
    project: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda x, y: projected(x, y, alpha, variant)  # noqa: E731
    if at.kind == "stack":
        return np.stack([project(x, y) for x, y in zip(m, d, strict=True)])
    if at.kind != "matrix":
        return d
    return project(m.T, d.T).T if at.transposed else project(m, d)


CASES = {
    "opcm": MethodCase(
        None,
        values=(
            {"alpha": 0.8, "order": (0.7, 0.1, 0.4)},
            {"alpha": 0.3, "variant": "official", "weight": (0.5, 1.0, 1.2), "norm": 1.3},
            {"alpha": 0.6, "variant": "paper", "order": (0.2, 0.2, 0.1)},
            {"alpha": 0.0, "weight": (1.0, 0.0, 0.5)},
            {"alpha": 1.0, "variant": "paper"},
            {"alpha": 1.0},
        ),
        holds={
            "P1": {},
            "P3": {"alpha": 0.7},
            "P4": {"weight": (0.0, 0.0, 0.0)},
            "P10": {"alpha": 0.7, "order": (0.9, 0.3, 0.1)},
        },
        rtol=2e-5,
        jumps=True,
        whole=whole,
    )
}
