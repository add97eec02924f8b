"""`expo`, `rebase`, `layer_swap`, `consensus_ta`, `compeft`, `pcb` and `git_rebasin`, once more from their formulas."""

import math
from collections.abc import Sequence

import torch
from method_case import MethodCase, Values

from evomerge.merge.methods.tensor_at import TensorAt


def expo(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    (strong,) = parents
    return strong + values["alpha"] * (strong - base)


def rebase(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    out = parents[0].clone()
    for w, x in list(zip(values["weight"], parents, strict=True))[1:]:
        out += w * (x - base)
    return out


def layer_swap(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    n, b, t, z = at.n_layers, *(int(values[name]) for name in ("bottom", "top", "transition"))
    share = [0.0] * n
    for end, owned in ((range(n), b), (range(n - 1, -1, -1), t)):
        falling = [1.0] * owned
        if owned:
            falling += [(z - j) / (z + 1) if values["zone"] == "ramp" else values["mix"] for j in range(z)]
        for layer, value in zip(end, falling, strict=False):
            share[layer] = max(share[layer], value)
    if at.layer is not None:
        s = share[at.layer]
    else:
        low = at.role == "embedding"
        source = values["embedding" if low else "head"]
        s = {"first": 0.0, "others": 1.0, "mean": 0.5, "nearest": share[0 if low else n - 1]}[source]
    weight = values["weight"][1:]
    ends = sum(w * x for w, x in zip(weight, parents[1:], strict=True)) / sum(weight)
    return (1 - s) * parents[0] + s * ends


def consensus_ta(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    rows = [(w, lam, x - base) for w, lam, x in zip(values["weight"], values["threshold"], parents, strict=True) if w]
    merged = sum((w * tau for w, _, tau in rows), torch.zeros_like(base))
    count = sum(((tau.abs() > lam * (merged - tau).abs()).double() for _, lam, tau in rows), torch.zeros_like(base))
    return base + values["lambda"] * torch.where(count >= values["k"], merged, 0.0)


def compeft(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    out = base.clone()
    for w, density, x in zip(values["weight"], values["density"], parents, strict=True):
        tau = (x - base).reshape(-1)
        kept = tau.abs().argsort(descending=True, stable=True)[: math.floor(density * tau.numel())]
        mask = torch.zeros_like(tau).index_fill_(0, kept, 1.0)
        level = float(tau.std()) if tau.numel() > 1 else 0.0
        out += (w * values["alpha"] * level * tau.sign() * mask).view(base.shape)
    return out


def to_unit(row: torch.Tensor) -> torch.Tensor:
    width = row.max() - row.min()
    return (row - row.min()) / width if width > 0 else torch.zeros_like(row)


def pcb(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    rows = [(w, (x - base).reshape(-1)) for w, x in zip(values["weight"], parents, strict=True) if w]
    if not rows:
        return base
    n, q = len(rows), base.numel()
    total = sum((tau for _, tau in rows), torch.zeros(q, dtype=torch.float64))
    above, below = torch.zeros(q, dtype=torch.float64), torch.zeros(q, dtype=torch.float64)
    for w, tau in rows:
        ordered = tau.abs().sort().values
        low = int(q * values["clip"])
        a = tau.abs().clamp(ordered[low], ordered[max(low, int(q * (1 - values["clip"])) - 1)])
        beta = torch.exp(n * to_unit(a) ** 2) * torch.tanh(tau * total)
        least = beta.sort().values[min(int(q * (1 - values["density"])), q - 1)]
        s = to_unit(beta.clamp(min=float(least)))
        above += w * tau.sign() * a * s
        below += s
    return base + (above / below.clamp(min=1e-12)).view(base.shape)


def git_rebasin(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    """No unit of these models is understood, so all of them keep their order."""
    total = sum(w * x for w, x in zip(values["weight"], parents, strict=True))
    assert isinstance(total, torch.Tensor)
    return total / sum(values["weight"])


CASES = {
    "git_rebasin": MethodCase(
        git_rebasin,
        values=({"weight": (0.9, 0.4, 0.7)}, {"weight": (0.0, 1.0, -0.3)}, {"weight": (0.0, 0.7, 0.0)}),
        holds={"P2": {"weight": (0.9, 0.4, 0.7)}, "P3": {}},
    ),
    "expo": MethodCase(
        expo,
        values=({"alpha": 0.0}, {"alpha": -0.5}, {"alpha": -1.0}, {"alpha": 1.7}),
        holds={"P1": {"alpha": 0.0}, "P3": {}, "P4": {"alpha": -1.0}, "P10": {"alpha": 0.5}},
    ),
    "rebase": MethodCase(
        rebase,
        values=({"weight": (0.3, 0.5, -0.2)}, {"weight": 0.0}, {"weight": (0.0, 0.0, 1.2)}),
        holds={"P3": {}, "P10": {"weight": (1.0, 0.7, 0.2)}},
    ),
    "layer_swap": MethodCase(
        layer_swap,
        values=(
            {"bottom": 0, "top": 0},
            {"bottom": 1, "top": 0, "transition": 1, "mix": 0.3},
            {"bottom": 0, "top": 1, "transition": 2, "zone": "ramp", "weight": (9.0, 0.2, 0.6)},
            {"bottom": 1, "top": 1, "transition": 4, "embedding": "mean", "head": "others"},
            {"bottom": 1, "top": 0, "transition": 0, "embedding": "first", "head": "first"},
        ),
        holds={"P2": {"bottom": 1, "top": 0}, "P3": {"bottom": 1}},
    ),
    "consensus_ta": MethodCase(
        consensus_ta,
        values=(
            {"k": 0, "weight": (0.5, 0.2, -0.4)},
            {"k": 1, "threshold": (0.2, 0.4, 0.9), "weight": (1.0, 0.0, 0.7)},
            {"k": 3, "threshold": 0.1, "lambda": 0.6},
        ),
        holds={"P1": {"k": 1}, "P3": {}, "P4": {"k": 4}, "P10": {"k": 1, "weight": (0.5, 0.2, 0.9)}},
        jumps=True,
    ),
    "compeft": MethodCase(
        compeft,
        values=(
            {"density": (0.5, 0.1, 0.9), "weight": (0.7, -0.2, 1.1), "alpha": 3.0},
            {"density": (0.0, 1.0, 0.4)},
            {"alpha": 0.0},
        ),
        holds={"P3": {}, "P4": {"weight": 0.0}, "P10": {"alpha": 2.0}},
        jumps=True,
    ),
    "pcb": MethodCase(
        pcb,
        values=(
            {"density": 0.5, "weight": (1.0, 0.8, 1.3)},
            {"density": 1.0, "clip": 0.0},
            {"density": 0.3, "clip": 0.2, "weight": (1.0, 0.0, 1.3)},
            {"density": 0.0},
        ),
        holds={"P3": {}, "P4": {"weight": 0.0}},
        rtol=1e-4,
        jumps=True,
    ),
}
