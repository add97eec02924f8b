"""Methods on singular values, in float64 and by numpy's decompositions; polar factors by the formula X (XᵀX)^(−1/2)."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from method_case import MethodCase, Values

from evomerge.merge.methods.tensor_at import TensorAt

Matrices = list["np.ndarray"]


def by_matrix(
    function: Callable[[Matrices], np.ndarray], tensors: Sequence[torch.Tensor], at: TensorAt
) -> torch.Tensor:
    arrays = [x.numpy() for x in tensors]
    if at.kind == "stack":
        return torch.tensor(np.stack([function([x[k] for x in arrays]) for k in range(len(arrays[0]))]))
    if at.transposed:
        return torch.tensor(function([x.T for x in arrays]).T.copy())
    return torch.tensor(function(arrays))


def svd(x: np.ndarray, keep: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = int((s > 1e-6 * s[0]).sum()) if s[0] > 0 else 0
    k = rank if keep is None else min(rank, keep)
    return u[:, :k], s[:k], vt[:k]


def orthonormal(x: np.ndarray) -> np.ndarray:
    """X (XᵀX)^(−1/2), with the inverse on the range alone."""
    values, vectors = np.linalg.eigh(x.T @ x)
    kept = values > 1e-12 * values.max()
    half = vectors[:, kept] / np.sqrt(values[kept])
    return x @ (half @ vectors[:, kept].T)


def is_matrix(at: TensorAt) -> bool:
    return len(at.shape) in (2, 3) and at.role not in ("embedding", "head")


def mean_elsewhere(base: torch.Tensor, task: Sequence[torch.Tensor], values: Values) -> torch.Tensor:
    total = sum(values["weight"])
    if total == 0:
        return base
    return base + values["alpha"] * sum(w * t for w, t in zip(values["weight"], task, strict=True)) / total


def iso_c(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    task = [x - base for x in parents]
    if not is_matrix(at):
        return mean_elsewhere(base, task, values)

    def merge(found: Matrices) -> np.ndarray:
        delta = sum((w * t for w, t in zip(values["weight"], found, strict=True)), np.zeros_like(found[0]))
        u, s, vt = svd(delta)
        even = u @ vt * s.mean() if len(s) else 0 * delta
        return (1 - values["beta"]) * delta + values["beta"] * even

    return base + values["alpha"] * by_matrix(merge, task, at)


def iso_cts(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    task = [x - base for x in parents]
    if not is_matrix(at):
        return mean_elsewhere(base, task, values)

    def merge(found: Matrices) -> np.ndarray:
        scaled = [w * t for w, t in zip(values["weight"], found, strict=True) if w]
        if not scaled:
            return 0 * found[0]
        r, n = min(scaled[0].shape), len(scaled)
        s = min(round((r - math.floor(values["fraction"] * r)) / n), r // n)
        us, ss, vs = ([each] for each in svd(sum(scaled), r - s * n))
        for t in scaled:
            rest = t - us[0] @ us[0].T @ t
            u, sigma, vt = np.linalg.svd(rest, full_matrices=False)
            k = min(s, int((sigma > 1e-6 * np.linalg.svd(t)[1][0]).sum()))
            us.append(u[:, :k]), ss.append(sigma[:k]), vs.append(vt[:k])
        sigma = np.concatenate(ss)
        left, right = orthonormal(np.hstack(us)), orthonormal(np.vstack(vs).T)
        moved = (1 - values["beta"]) * sigma + values["beta"] * sigma.mean()
        return left @ np.diag(moved) @ right.T

    return base + values["alpha"] * by_matrix(merge, task, at)


def tsv_m(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    task, n = [x - base for x in parents], len(parents)
    if not is_matrix(at) or min(at.shape[-2:]) < n:
        return mean_elsewhere(base, task, values)

    def merge(found: Matrices) -> np.ndarray:
        parts = [svd(t, min(t.shape) // n) for t in found]
        sigma = np.concatenate([w * s for w, (_, s, _) in zip(values["weight"], parts, strict=True)])
        left = orthonormal(np.hstack([u for u, _, _ in parts]))
        right = orthonormal(np.vstack([vt for _, _, vt in parts]).T)
        return left @ np.diag(sigma) @ right.T

    return base + values["alpha"] * by_matrix(merge, task, at)


def laser(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    (theta,) = parents
    if not is_matrix(at):
        return theta

    def cut(found: Matrices) -> np.ndarray:
        u, s, vt = svd(found[0], math.floor(values["rank"] * min(found[0].shape)))
        return u * s @ vt

    if base is None:
        return by_matrix(cut, [theta], at)
    return base + by_matrix(cut, [theta - base], at)


def ties_of(task: Sequence[np.ndarray], values: Values) -> np.ndarray:
    """Trim, elect and average, entry by entry."""
    trimmed = []
    for tau, density in zip(task, values["density"], strict=True):
        order = np.argsort(-np.abs(tau.reshape(-1)), kind="stable")[: math.floor(density * tau.size)]
        kept = np.zeros(tau.size)
        kept[order] = tau.reshape(-1)[order]
        trimmed.append(kept.reshape(tau.shape))
    votes = [np.sign(t) * (w != 0) if values["election"] == "count" else w * t
             for w, t in zip(values["weight"], trimmed, strict=True)]  # fmt: skip
    sign = np.where(sum(votes) >= 0, 1, -1)
    agree = [(np.sign(t) == sign) & (t != 0) for t in trimmed]
    total = sum(w * t * a for w, t, a in zip(values["weight"], trimmed, agree, strict=True))
    divisor = sum(w * a for w, a in zip(values["weight"], agree, strict=True))
    if not values["normalize"]:
        return np.asarray(total)
    return np.where(divisor == 0, 0.0, total / np.where(divisor == 0, 1.0, divisor))


def knots(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    task = [x - base for x in parents]
    if values["combine"] == "sum":
        return base + values["lambda"] * sum(w * t for w, t in zip(values["weight"], task, strict=True))
    if not is_matrix(at):
        return base + values["lambda"] * torch.tensor(ties_of([t.numpy() for t in task], values))

    def merge(found: Matrices) -> np.ndarray:
        u = svd(np.hstack(found))[0]
        u = u * np.sign(u[np.abs(u).argmax(0), range(u.shape[1])])
        return u @ ties_of([u.T @ t for t in found], values)

    return base + values["lambda"] * by_matrix(merge, task, at)


def twin(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    shared = base + sum(g * (x - base) for g, x in zip(values["gamma"], parents, strict=True))
    rest = [x - shared for x in parents]
    if not is_matrix(at):
        return shared + sum(w * x for w, x in zip(values["weight"], rest, strict=True))

    def merge(found: Matrices) -> np.ndarray:
        parts = [svd(x, math.floor(values["rank"] * min(x.shape))) for x in found]
        return np.asarray(sum(w * (u * s @ vt) for w, (u, s, vt) in zip(values["weight"], parts, strict=True)))

    return shared + by_matrix(merge, rest, at)


WEIGHTS = {"weight": (0.7, 1.2, 0.3)}

CASES = {
    "iso_c": MethodCase(
        iso_c,
        values=(
            {**WEIGHTS, "alpha": 1.4},
            {"beta": 0.0},
            {"beta": 0.3, "weight": (1.0, 0.0, 0.5)},
            {"weight": (0.0, 0.0, 0.0)},
        ),
        holds={"P1": {"beta": 0.0}, "P3": {}, "P4": {"alpha": 0.0}, "P10": {"beta": 0.6, "alpha": 1.3}},
        jumps=True,
    ),
    "iso_cts": MethodCase(
        iso_cts,
        values=(
            {"fraction": 0.0, **WEIGHTS},
            {"fraction": 0.5, "beta": 0.4, "alpha": 1.2},
            {"fraction": 0.5, "beta": 0.0, "weight": (0.5, 0.0, 1.0)},
            {"fraction": 1.0},
        ),
        holds={"P3": {}, "P4": {"alpha": 0.0}, "P10": {"fraction": 0.5}},
        rtol=1e-4,
        jumps=True,
    ),
    "tsv_m": MethodCase(
        tsv_m,
        values=({**WEIGHTS, "alpha": 1.5}, {"weight": (1.0, 0.0, 0.4)}, {"weight": (0.0, 0.0, 0.0)}),
        holds={"P1": {}, "P3": {}, "P4": {"alpha": 0.0}, "P10": WEIGHTS},
        rtol=1e-4,
        jumps=True,
    ),
    "laser": MethodCase(
        laser,
        values=tuple({"rank": rank, "of": of} for rank in (0.0, 0.4, 0.8, 1.0) for of in ("weights", "task_vectors")),
        holds={
            "P1": {},
            "P3": {"of": "task_vectors", "rank": 0.4},
            "P10": {"of": "task_vectors", "rank": 0.5},
        },
        jumps=True,
    ),
    "knots": MethodCase(
        knots,
        values=(
            {**WEIGHTS, "density": (0.5, 0.9, 1.0), "lambda": 1.3},
            {"density": 1.0, "weight": (1.0, 0.0, 0.4), "election": "count"},
            {"density": 0.6, "normalize": False, **WEIGHTS},
            {"combine": "sum", "weight": (0.6, 0.0, -0.2), "lambda": 0.8},
        ),
        holds={
            "P1": {"density": 1.0},
            "P2": {"density": 1.0},
            "P3": {},
            "P4": {"weight": (0.0, 0.0, 0.0)},
            "P10": {"density": 0.5, **WEIGHTS},
        },
        jumps=True,
    ),
    "twin": MethodCase(
        twin,
        values=(
            {"rank": 0.5, **WEIGHTS},
            {"rank": 0.7, "gamma": (0.0, 0.5, 0.2), "weight": (1.0, 0.0, 0.4)},
            {"rank": 1.0, "weight": (0.0, 1.0, 0.0)},
            {"rank": 0.0},
            {"weight": (0.0, 0.0, 0.0)},
        ),
        holds={
            "P1": {"rank": 1.0, "weight": (1.0, 1.0, 1.0)},
            "P3": {"rank": 0.5},
            "P4": {"weight": (0.0, 0.0, 0.0), "gamma": (0.0, 0.0, 0.0)},
            "P10": {"rank": 0.5, **WEIGHTS},
        },
        jumps=True,
    ),
}
