"""Task vectors that are sparsified, elected and added up: the slots of a pipeline, once more in float64."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from method_case import MethodCase, Reference, Values

from evomerge.merge.methods.tensor_at import TensorAt

_M, _K = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)


def words(seed: int, n: int) -> np.ndarray:
    """The 16 random bits of each of n entries: Philox4x32-7 in Python's own integers."""
    found = []
    for e in range(n):
        piece, place = divmod(e % 1024, 128)
        key, even, odd = [seed % 2**32, seed >> 32], [e // 1024 * 128 + place, 0], [0, 0]
        for _ in range(7):
            p, q = _M[0] * even[0], _M[1] * even[1]
            even, odd = [q >> 32 ^ odd[0] ^ key[0], p >> 32 ^ odd[1] ^ key[1]], [q % 2**32, p % 2**32]
            key = [(k + step) % 2**32 for k, step in zip(key, _K, strict=True)]
        word = (even[0], odd[0], even[1], odd[1])[piece // 2]
        found.append(word >> 16 * (piece % 2) & 0xFFFF)
    return np.array(found)


def falling(x: np.ndarray) -> np.ndarray:
    """The place of each entry by falling size; of equal ones the first goes first."""
    order = np.argsort(-np.abs(x), kind="stable")
    return np.argsort(order, kind="stable")


def band(x: np.ndarray, density: float, gamma: float) -> np.ndarray:
    removed = math.floor(gamma * x.size)
    rank = falling(x)
    return np.where((rank >= removed) & (rank < removed + math.floor(density * x.size)), x, 0.0)


def by_rows(x: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    rows = x.reshape(-1, x.shape[-1])
    return np.stack([change(row) for row in rows]).reshape(x.shape)


def drop(x: np.ndarray, chance: np.ndarray, seed: int, inverse: bool) -> np.ndarray:
    bound = np.where(chance > 0, np.maximum(1, np.round(chance * 65536)), 0).reshape(-1)
    kept = words(seed, x.size) < bound
    factor = 65536 / np.maximum(bound, 1) if inverse else 1.0
    return np.where(kept, x.reshape(-1) * factor, 0.0).reshape(x.shape)


def chances(row: np.ndarray, density: float, epsilon: float) -> np.ndarray:
    epsilon = min(epsilon, density, 1 - density)
    if row.size == 1:
        return np.array([density])
    return density - epsilon + 2 * epsilon * (row.size - 1 - falling(row)) / (row.size - 1)


def sparse(x: np.ndarray, values: Values, i: int, seed: int) -> np.ndarray:
    how, inverse = values["sparsify"], values["rescale"] == "inverse"
    if how in ("none", "variance"):
        return x
    density = values["density"][i]
    if how == "random":
        out = drop(x, np.full(x.shape, density), seed, inverse)
    elif how == "magprune":
        chance = by_rows(x, lambda row: chances(row, density, values["epsilon"][i]))
        out = drop(x, chance, seed, inverse)
    else:
        gamma = values["gamma"][i] if how == "outliers" else 0.0
        if values["scope"] == "row":
            out = by_rows(x, lambda row: band(row, density, gamma))
        else:
            out = band(x.reshape(-1), density, gamma).reshape(x.shape)
    left = np.abs(out).sum()
    return out * np.abs(x).sum() / left if values["rescale"] == "l1" and left > 1e-7 else out


def varied(xs: Sequence[np.ndarray], q: float) -> Sequence[np.ndarray]:
    variance = np.var(np.stack(xs), axis=0)
    variance[np.ptp(np.stack(xs), axis=0) == 0] = 0.0
    if q == 1.0 or not variance.any():
        return xs
    kept = falling(variance.reshape(-1)) < math.floor(q * np.count_nonzero(variance))
    return [np.where(kept.reshape(x.shape), x, 0.0) for x in xs]


def pipeline(
    base: np.ndarray, parents: Sequence[np.ndarray], values: Values, seeds: Sequence[int], at: TensorAt
) -> np.ndarray:
    w = np.array(values["weight"])
    taus = [parent - base for parent in parents]
    xs = [sparse(tau, values, i, seed) for i, (tau, seed) in enumerate(zip(taus, seeds, strict=True))]
    if values["sparsify"] == "variance":
        xs = list(varied(taus, values["select_topk"]))
    x = np.stack(xs)
    how = values["aggregate"]
    if how == "ram":
        x = np.where(np.abs(x) > values["tolerance"], x, 0.0)
    column = w.reshape(-1, *[1] * base.ndim)
    agrees = x != 0
    if values["consensus"] != "none":
        votes = (np.sign(x) if values["consensus"] == "count" else column * x).sum(0)
        agrees &= (x > 0) == (votes >= 0)
    if how == "sce" and (x**2).sum() > 0:
        column = column * (x**2).mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    if how == "sum":
        delta = (column * x * agrees).sum(0)
    elif how == "mean":
        delta = (column * x * agrees).sum(0) / w.sum() if w.sum() else np.zeros_like(base)
    else:
        divisor = (column * agrees).sum(0)
        delta = (column * x * agrees).sum(0) / np.where(divisor == 0, 1.0, divisor)
        if how == "ram" and values["r"]:
            changed = x != 0
            for mine, here in zip(changed, agrees & (agrees.sum(0) == 1), strict=True):
                shared, unique = (mine & (changed.sum(0) > 1)).sum(), (mine & (changed.sum(0) == 1)).sum()
                rho = shared / max(unique, 1e-5)
                delta = np.where(here, delta * (1 + values["r"] * min(rho, values["alpha"])), delta)
    return base + values["lambda"] * after(delta, taus, values, at)


def after(delta: np.ndarray, taus: Sequence[np.ndarray], values: Values, at: TensorAt) -> np.ndarray:
    """The last slot."""
    if values["post"] == "tall_mask":
        serves = sum((np.abs(tau) > values["threshold"] * np.abs(delta - tau)).astype(int) for tau in taus)
        return np.where(serves >= values["k"], delta, 0.0)
    if values["post"] == "none" or at.kind not in ("matrix", "stack"):
        return delta
    made = np.zeros_like(delta)
    for index in np.ndindex(delta.shape[:-2]):
        u, sigma, vt = np.linalg.svd(delta[index], full_matrices=False)
        rank = int((sigma > 1e-6 * sigma[0]).sum()) if sigma[0] > 0 else 0
        if values["post"] == "laser":
            keep = min(rank, math.floor(values["rank"] * len(sigma)))
            new = np.where(np.arange(len(sigma)) < keep, sigma, 0.0)
        else:
            mean = sigma[:rank].mean() if rank else 0.0
            even = np.where(np.arange(len(sigma)) < rank, mean, 0.0)
            new = (1 - values["beta"]) * sigma + values["beta"] * even
        made[index] = (u * new) @ vt
    return made


def reference(**slots: Any) -> Reference:
    """The pipeline with these slots; what is a function is asked with the method's values."""

    def run(
        base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
    ) -> torch.Tensor:
        assert base is not None
        found = {name: slot(values) if callable(slot) else slot for name, slot in slots.items()}
        full = {"sparsify": "none", "consensus": "none", "rescale": "none", "scope": "tensor", "r": 0.0}
        full |= {"post": "none"}
        shape = base.shape or (1,)
        arrays = [parent.reshape(shape).numpy() for parent in parents]
        out = pipeline(base.reshape(shape).numpy(), arrays, {**full, **values, **found}, seeds, at)
        return torch.from_numpy(out).reshape(base.shape)

    return run


def _added(values: Values) -> str:
    return "mean" if values["normalize"] else "sum"


def _averaged(values: Values) -> str:
    return "disjoint_mean" if values["normalize"] else "sum"


def _election(values: Values) -> str:
    return str(values["election"])


def elected(sparsify: str) -> Reference:
    return reference(sparsify=sparsify, consensus=_election, aggregate=_averaged)


W, D = (0.9, 0.4, 0.7), (0.5, 1.0, 0.25)
COUNTED = {"weight": W, "density": D, "election": "count", "lambda": 0.8}
SUMMED = {"weight": W, "density": D, "normalize": False, "lambda": 1.5}
NONE_LEFT = {"density": 0.0}
L1 = {"weight": W, "density": 0.6, "rescale": "l1"}

TIES_HOLDS: dict[str, Values] = {
    "P1": {"density": 1.0, "weight": 0.7, "lambda": 1.0},
    "P2": {"density": 1.0, "weight": W, "lambda": 1.0},
    "P3": {},
    "P4": {"lambda": 0.0},
    "P10": {},
}
SUM_HOLDS: dict[str, Values] = {
    "P1": {"density": 1.0, "lambda": 1.0},
    "P2": {"density": 1.0, "lambda": 1.0, "normalize": True, "weight": W},
    "P3": {},
    "P4": {"weight": 0.0},
    "P10": {},
}
WHOLE = {"gamma": 0.0}
MEAN = {"weight": W, "density": (0.0, 0.5, 1.0), "normalize": True}
CANCELLED = {"weight": (0.5, -0.5, 0.0), "normalize": True}
EPSILON = {"epsilon": (0.0, 0.9, 0.2), "density": (0.4, 0.7, 0.1), "weight": W}


def with_whole(holds: dict[str, Values]) -> dict[str, Values]:
    return {name: {**values, **WHOLE} if name in ("P1", "P2") else values for name, values in holds.items()}


CASES = {
    "task_arithmetic": MethodCase(
        reference(aggregate=_added),
        values=(
            {"weight": W, "lambda": 0.3},
            {"weight": (1.0, -0.5, 0.0)},
            {"weight": W, "normalize": True},
            CANCELLED,
        ),
        holds=SUM_HOLDS,
    ),
    "ties": MethodCase(
        elected("magnitude"), values=(COUNTED, SUMMED, NONE_LEFT, L1), holds=TIES_HOLDS, jumps=True, atol=1e-5
    ),
    "dare_linear": MethodCase(
        reference(sparsify="random", aggregate=_added),
        values=({"weight": W, "density": D, "rescale": "none"}, L1, MEAN, NONE_LEFT),
        holds=SUM_HOLDS,
        atol=1e-5,
    ),
    "dare_ties": MethodCase(
        elected("random"), values=(COUNTED, SUMMED, NONE_LEFT, L1), holds=TIES_HOLDS, jumps=True, atol=1e-5
    ),
    "breadcrumbs": MethodCase(
        reference(sparsify="outliers", aggregate=_added),
        values=(
            {"weight": W, "density": D, "gamma": (0.0, 0.1, 0.3), "lambda": 1.0},
            {"weight": W, "density": D, "gamma": (0.0, 0.1, 0.3), "scope": "tensor"},
            L1,
            MEAN,
        ),
        holds=with_whole(SUM_HOLDS),
        jumps=True,
        atol=1e-5,
    ),
    "breadcrumbs_ties": MethodCase(
        elected("outliers"),
        values=({**COUNTED, "gamma": 0.2}, {**SUMMED, "scope": "tensor", "gamma": 0.15}, NONE_LEFT, L1),
        holds=with_whole(TIES_HOLDS),
        jumps=True,
        atol=1e-5,
    ),
    "della": MethodCase(
        elected("magprune"), values=(COUNTED, SUMMED, NONE_LEFT, L1, EPSILON), holds=TIES_HOLDS, jumps=True, atol=1e-5
    ),
    "della_linear": MethodCase(
        reference(sparsify="magprune", aggregate=_added),
        values=(EPSILON, {"rescale": "none", **EPSILON}, L1, MEAN),
        holds=SUM_HOLDS,
        jumps=True,
        atol=1e-5,
    ),
    "sce": MethodCase(
        reference(sparsify="variance", consensus="sum", aggregate="sce"),
        values=({"select_topk": 1.0, "weight": W}, {"select_topk": 0.6}, {"select_topk": 0.0, "weight": W}),
        holds={
            "P1": {"weight": 0.7},
            "P2": {"weight": W},
            "P3": {},
            "P4": {"lambda": 0.0},
            "P10": {"select_topk": 0.5},
        },
        jumps=True,
    ),
    "ram": MethodCase(
        reference(aggregate="ram", tolerance=lambda values: values["epsilon"]),
        values=({"weight": W, "epsilon": 0.05, "lambda": 0.8}, {"epsilon": 0.1}),
        holds={
            "P1": {"epsilon": 0.0},
            "P2": {"epsilon": 0.0, "weight": W},
            "P3": {},
            "P4": {"lambda": 0.0},
            "P10": {"epsilon": 0.0},
        },
        jumps=True,
    ),
    "ramplus_tl": MethodCase(
        reference(aggregate="ram", tolerance=lambda values: values["epsilon"]),
        values=({"weight": W, "epsilon": 0.05, "r": 0.7, "alpha": 0.9}, {"epsilon": 0.1, "r": 1.0, "alpha": 0.1}),
        holds={
            "P1": {"epsilon": 0.0},
            "P2": {"epsilon": 0.0},
            "P3": {},
            "P4": {"lambda": 0.0},
            "P10": {"epsilon": 0.0},
        },
        jumps=True,
    ),
    "pipeline": MethodCase(
        reference(),
        values=tuple(
            {"weight": W, **slots}
            for slots in (
                {"sparsify": "magnitude", "density": D, "consensus": "sum", "aggregate": "mean", "scope": "row"},
                {"sparsify": "outliers", "density": D, "gamma": 0.1, "aggregate": "disjoint_mean"},
                {"sparsify": "random", "density": D, "aggregate": "ram", "consensus": "count"},
                {"sparsify": "magprune", "density": D, "aggregate": "sce", "consensus": "count"},
                {"sparsify": "variance", "select_topk": 0.5, "aggregate": "ram", "r": 0.0},
                {"sparsify": "none", "aggregate": "ram", "tolerance": 0.05, "r": 0.5, "alpha": 1.0},
                {"sparsify": "none", "aggregate": "sce", "consensus": "none"},
                {"consensus": "sum", "aggregate": "mean"},
                {"consensus": "count", "aggregate": "ram", "r": 0.5},
                {"aggregate": "mean", "post": "tall_mask", "threshold": 0.5, "k": 1},
                {"consensus": "sum", "aggregate": "disjoint_mean", "post": "iso", "beta": 0.5},
                {"post": "laser", "rank": 0.5},
            )
        ),
        holds={"P1": {}, "P2": {"aggregate": "mean"}, "P3": {}, "P4": {"lambda": 0.0}, "P10": {"weight": W}},
        jumps=True,
        atol=1e-5,
    ),
}
