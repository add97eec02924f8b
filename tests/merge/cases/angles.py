"""Directions, distances and single parents: on whole vectors in float64, where the methods iterate on dot products."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from method_case import MethodCase, Reference, Values

from evomerge.merge.methods.tensor_at import TensorAt

Vectors = list[torch.Tensor]


def of_inputs(combine: Callable[[Vectors, Values], torch.Tensor]) -> Reference:
    """The reference of a method that combines flat weights or task vectors."""

    def reference(
        base: torch.Tensor | None, parents: Vectors, values: Values, seeds: Sequence[int], at: TensorAt
    ) -> torch.Tensor:
        scope = values.get("scope", "tensor")
        terms = [each if base is None else each - base for each in parents]
        if scope == "tensor" or terms[0].dim() < 2:
            out = combine([each.flatten() for each in terms], values).view(terms[0].shape)
        else:
            turned = [each.transpose(0, -1) if scope == "column" else each for each in terms]
            rows = [each.reshape(-1, each.shape[-1]) for each in turned]
            made = torch.stack([combine(list(row), values) for row in zip(*rows, strict=True)])
            out = made.view(turned[0].shape)
            out = out.transpose(0, -1) if scope == "column" else out
        return out if base is None else base + out

    return reference


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """By half angles, which keeps small angles and those near 180° exact, unlike the arc cosine."""
    u, v = a / a.norm(), b / b.norm()
    return 2.0 * math.atan2(float((u - v).norm()), float((u + v).norm()))


def nuslerp(terms: Vectors, values: Values) -> torch.Tensor:
    (a, b), (first, second) = terms, values["weight"]
    t = second / (first + second) if abs(first + second) >= 1e-6 else 0.5
    line = (1 - t) * a + t * b
    if not (a.norm() and b.norm()):
        return line
    omega = angle(a, b)
    if math.cos(omega) < -0.9995 or omega < 1e-7:
        return line
    return (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)


def weights_of(values: Values) -> list[float]:
    weight = list(values["weight"])
    return [w / sum(weight) for w in weight] if values.get("normalize", True) else weight


def multislerp(terms: Vectors, values: Values) -> torch.Tensor:
    """As it is described: with the step along the tangent space, which is none."""
    weight, eps = weights_of(values), values["eps"]
    units = [x / (x.norm() + eps) for x in terms]
    mean = sum(w * u for w, u in zip(weight, units, strict=True))
    assert isinstance(mean, torch.Tensor)
    if mean.norm() < 1e-5:
        total = sum(w * x for w, x in zip(weight, terms, strict=True))
        assert isinstance(total, torch.Tensor)
        return total
    m = mean / mean.norm()
    tangent = sum(w * (u - (u @ m) * m) for w, u in zip(weight, units, strict=True))
    assert isinstance(tangent, torch.Tensor)
    size = float(tangent.norm()) + eps
    length = sum(w * float(x.norm()) for w, x in zip(weight, terms, strict=True))
    return length * (math.cos(size) * m + math.sin(size) / size * tangent)


def karcher(terms: Vectors, values: Values) -> torch.Tensor:
    shares = weights_of(values)
    length = sum(w * float(x.norm()) for w, x in zip(shares, terms, strict=True))
    some = [(w, x / x.norm()) for w, x in zip(shares, terms, strict=True) if x.norm() > 0 and w > 0]
    if not some:
        return torch.zeros_like(terms[0])
    total = sum(w for w, _ in some)
    some = [(w / total, u) for w, u in some]
    u = torch.stack([w * x for w, x in some]).sum(0)
    u = u / u.norm() if u.norm() >= values["tol"] else some[0][1]
    for _ in range(int(values["max_iter"])):
        step = torch.zeros_like(u)
        for w, x in some:
            omega = angle(x, u)
            if omega >= values["tol"] and math.cos(omega) >= -0.9995:
                step += w * omega / math.sin(omega) * (x - math.cos(omega) * u)
        size = float(step.norm())
        if size < values["tol"]:
            break
        u = math.cos(size) * u + math.sin(size) / size * step
        u = u / u.norm()
    return length * u


def model_stock(terms: Vectors, values: Values) -> torch.Tensor:
    n = len(terms)
    pairs = [float(a @ b) / float(a.norm() * b.norm()) if a.norm() * b.norm() else 0.0
             for a, b in combinations(terms, 2)]  # fmt: skip
    c = min(1.0, max(0.0, sum(pairs) / len(pairs)))
    return (n * c / (1 + (n - 1) * c)) ** values["exponent"] * torch.stack(terms).mean(0)


def geometric_median(terms: Vectors, values: Values) -> torch.Tensor:
    """Weiszfeld's iteration far beyond convergence, or the parent with a smaller sum of distances."""
    weight, points = torch.tensor(values["weight"], dtype=torch.float64), torch.stack(terms)

    def cost(z: torch.Tensor) -> float:
        return float((weight * (points - z).norm(dim=1)).sum())

    z = (weight[:, None] * points).sum(0) / weight.sum()
    for _ in range(400):
        pull = weight / (points - z).norm(dim=1).clamp_min(1e-15)
        z = (pull[:, None] * points).sum(0) / pull.sum()
    best = min(terms, key=cost)
    return best if cost(best) < cost(z) * (1 - 1e-12) else z


def nearswap(
    base: torch.Tensor | None, parents: Vectors, values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    w = (values["t"] / (base - parents[0]).abs().clamp_min(1e-300)).clamp(0, 1)
    return w * parents[0] + (1 - w) * base


def arcee_fusion(
    base: torch.Tensor | None, parents: Vectors, values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    assert base is not None
    p, q = parents[0].softmax(-1) + 1e-8, base.softmax(-1) + 1e-8
    score = (parents[0] - base).abs() * (p * (p / q).log()).sum(-1, keepdim=True).clamp_min(0)
    order = score.flatten().sort().values
    low, middle, high = (float(order[math.floor(share * (len(order) - 1))]) for share in (0.25, 0.5, 0.75))
    return torch.where(score >= middle + values["iqr_factor"] * (high - low), parents[0], base)


ARCS: tuple[Values, ...] = (
    {"weight": (0.9, 0.4, 0.7)},
    {"weight": (0.3, 0.6, 0.2), "of": "task_vectors"},
    {"weight": (1.0, 0.0, 0.0)},
)

CASES = {
    "nuslerp": MethodCase(
        of_inputs(nuslerp),
        values=(
            *ARCS,
            {"weight": (0.0, 0.0)},
            {"weight": (0.7, -0.2)},
            {"weight": (0.2, 0.6), "scope": "row"},
            {"weight": (0.2, 0.6), "scope": "column", "of": "task_vectors"},
        ),
        holds={"P2": {"weight": (0.3, 0.6)}, "P3": {}, "P10": {"of": "task_vectors"}},
        atol=1e-5,
    ),
    "multislerp": MethodCase(
        of_inputs(multislerp),
        values=(*ARCS, {"weight": (0.7, 0.2, -0.3)}, {"weight": (0.2, 0.5, 0.1), "normalize": False}),
        holds={
            "P1": {"weight": (0.4,) * 3},
            "P2": {"weight": (0.3, 0.6, 0.2)},
            "P3": {"of": "task_vectors"},
            "P4": {"of": "task_vectors", "weight": (0.0,) * 3, "normalize": False},
            "P10": {"of": "task_vectors"},
        },
        atol=1e-5,
    ),
    "karcher": MethodCase(
        of_inputs(karcher),
        values=(*ARCS, {"max_iter": 100, "tol": 1e-9}, {"max_iter": 1}, {"of": "task_vectors"}),
        holds={
            "P1": {"weight": (0.4,) * 3},
            "P2": {"weight": (0.3, 0.6, 0.2)},
            "P3": {"of": "task_vectors"},
            "P10": {"of": "task_vectors"},
        },
        atol=1e-5,
    ),
    "model_stock": MethodCase(
        of_inputs(model_stock),
        values=({"exponent": 0.0}, {"exponent": 1.7}, {"scope": "row"}),
        holds={"P2": {}, "P3": {}, "P10": {"exponent": 0.5}},
    ),
    "geometric_median": MethodCase(
        of_inputs(geometric_median),
        values=({"weight": (0.9, 0.4, 0.7)}, {"weight": (0.2, 0.5, 0.31)}, {"max_iter": 1000, "tol": 0.0}),
        holds={"P1": {"weight": (0.4,) * 3}, "P2": {"weight": (0.3, 0.6, 0.2)}, "P3": {}},
        rtol=1e-4,
    ),
    "nearswap": MethodCase(
        nearswap, values=({"t": 0.0}, {"t": 0.05}, {"t": 10.0}), holds={"P1": {"t": 1e9}, "P3": {}, "P4": {"t": 0.0}}
    ),
    "arcee_fusion": MethodCase(
        arcee_fusion,
        values=({"iqr_factor": 0.0}, {"iqr_factor": 0.7}, {"iqr_factor": 3.0}),
        holds={"P3": {}},
        jumps=True,
    ),
}
