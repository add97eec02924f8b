"""How models are related, from samples of their weights: are they of one base, and how alike are their task vectors?

Model kinship is the correlation or cosine of two task vectors (Hu et al. 2024, https://arxiv.org/abs/2410.12613); here
it keeps its sign, is estimated from samples, and each tensor counts by its size. Whether two models are of one ancestry
shows in the weights themselves: the matrices of two trainings from different starts are uncorrelated, while a
fine-tuned one that moved by r = ‖τ‖/‖θ0‖ keeps a correlation of about 1/√(1 + r²) with its base. Norms and biases tell
nothing, since they are alike in all models.

Sums are in float64; samples of a large model cost a few megabytes (`evomerge.merge.samples`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from evomerge.merge.files.model import OpenModel
from evomerge.merge.samples import SampledTensor, Samples, choose_samples, read_samples

FAR = 5.0
"""A matrix that moved more than so many times as far as the median of its model is an outlier."""

UNLIKE = 0.25
"""A correlation of weights below this is that of unrelated matrices, whose estimate from a few hundred entries spreads
by 0.05."""

_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Relation:
    """How the weights of one model differ from another's, the reference.

    Attributes:
        tensors: how many sampled tensors both have, in comparable shapes.
        missing: how many sampled tensors only one has, or has in another shape or with more rows.
        equal: how many are equal in every sampled entry.
        rounded: how many are equal when both are rounded to bfloat16, or both to float16.
        matrices: how many of them are matrices of weights, on which the rest stands.
        correlation: median over the matrices of the Pearson correlation of their entries; None: there is none.
        unlike: how many matrices have a correlation below `UNLIKE`.
        distance: ‖θ − θ_ref‖ / ‖θ_ref‖ over all matrices: the relative size of the task vector.
        scale: ‖θ‖ / ‖θ_ref‖ over all matrices.
        outliers: matrices that moved more than `FAR` times as far, for their size, as the median of those that moved,
            with that ratio; the farthest first.
        not_finite: how many further matrices hold NaN or Inf in one of the models.
    """

    tensors: int
    missing: int
    equal: int
    rounded: int
    matrices: int
    correlation: float | None
    unlike: int
    distance: float
    scale: float
    outliers: tuple[tuple[str, float], ...] = ()
    not_finite: int = 0

    @property
    def alike(self) -> bool:
        """Whether every sampled entry of every tensor is equal."""
        return self.tensors > 0 and self.missing == 0 and self.equal == self.tensors

    @property
    def alike_rounded(self) -> bool:
        """Whether every sampled entry is equal but for rounding to 16 bits."""
        return self.tensors > 0 and self.missing == 0 and self.rounded == self.tensors


@dataclass(frozen=True)
class Likeness:
    """How alike the task vectors of two models are, over the matrices.

    Attributes:
        cosine: of the task vectors; None: one of them is zero.
        pearson: their correlation; None: one of them is constant.
        sign_agreement: the share with equal signs of the entries that both moved; None: there is no such entry.
        difference: ‖τ_a − τ_b‖ / max(‖τ_a‖, ‖τ_b‖); None: both are zero.
    """

    cosine: float | None
    pearson: float | None
    sign_agreement: float | None
    difference: float | None


@dataclass(frozen=True)
class Kinship:
    """What samples say of several models.

    Attributes:
        names: of the models, in order.
        base: the name of the base among them; None: there is none.
        relations: (model, reference) to their relation, for each pair in order, the base always as reference.
        likeness: (model, model) to how alike their task vectors are, for each pair in order; empty without a base.
        not_finite: model to its tensors with NaN or Inf among the samples.
        n_tensors: how many tensors were sampled.
        read_bytes: how much was read.
    """

    names: tuple[str, ...]
    base: str | None
    relations: Mapping[tuple[str, str], Relation]
    likeness: Mapping[tuple[str, str], Likeness]
    not_finite: Mapping[str, tuple[str, ...]]
    n_tensors: int
    read_bytes: int

    def between(self, one: str, other: str) -> Relation:
        """Return the relation of two models, whichever of them is the reference."""
        return self.relations[(one, other) if (one, other) in self.relations else (other, one)]


def find_kinship(models: Sequence[tuple[str, OpenModel]], base: str | None = None) -> Kinship:
    """Return how models are related; reads samples of their weights.

    Args:
        models: name and model of each; they need not have the same shapes.
        base: the name of that from which task vectors are measured.

    Raises:
        CheckpointError: if a model does not hold what its configuration says, or cannot be read.
    """
    names = [name for name, _ in models]
    order = [name for name in names if name != base] + ([base] if base is not None else [])
    pairs = list(combinations(order, 2))
    relations = {pair: _Relating() for pair in pairs}
    likeness = {pair: _Comparing() for pair in pairs if base not in (None, pair[1])}
    not_finite: dict[str, list[str]] = {name: [] for name in names}
    sampled = choose_samples(models)
    n_bytes = 0
    for tensor, samples in read_samples(dict(models), sampled):
        n_bytes += sum(one.numel() * one.element_size() for one in samples.values())
        finite: dict[str, NDArray[np.float64]] = {}
        for name, entries in samples.items():
            values = entries.double().numpy()
            if np.isfinite(values).all():
                finite[name] = values
            else:
                not_finite[name].append(tensor.name)
        for pair, relation in relations.items():
            relation.add(tensor, pair, samples, finite)
        if not tensor.is_matrix or base is None or base not in finite:
            continue
        deltas = {name: finite[name] - finite[base] for name in finite if len(finite[name]) == len(finite[base])}
        for (one, other), comparing in likeness.items():
            if one in deltas and other in deltas:
                comparing.add(deltas[one], deltas[other], tensor.size / len(finite[base]))
    return Kinship(
        names=tuple(names),
        base=base,
        relations={pair: relation.found() for pair, relation in relations.items()},
        likeness={pair: comparing.found() for pair, comparing in likeness.items()},
        not_finite={name: tuple(found) for name, found in not_finite.items() if found},
        n_tensors=len(sampled),
        read_bytes=n_bytes,
    )


@dataclass
class _Relating:
    """Gathers a `Relation`."""

    tensors: int = 0
    missing: int = 0
    equal: int = 0
    rounded: int = 0
    correlations: list[float] = field(default_factory=list)
    moves: dict[str, float] = field(default_factory=dict)
    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    matrices: int = 0
    not_finite: int = 0

    def add(
        self, tensor: SampledTensor, pair: tuple[str, str], samples: Samples, finite: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Take one tensor of both models."""
        one, other = pair
        if one not in samples or other not in samples:
            self.missing += one in samples or other in samples
            return
        self.tensors += 1
        self.missing += tensor.rows[one] != tensor.rows[other]
        is_equal = torch.equal(samples[one].float(), samples[other].float())
        self.equal += is_equal
        self.rounded += is_equal or any(torch.equal(samples[one].to(t), samples[other].to(t)) for t in _HALVES)
        if not tensor.is_matrix:
            return
        if one not in finite or other not in finite:
            self.not_finite += 1
            return
        self.matrices += 1
        x, y = finite[one], finite[other]
        weight = tensor.size / len(x)
        moved, mine, theirs = _square(x - y), _square(x), _square(y)
        self.squares = tuple(a + weight * b for a, b in zip(self.squares, (moved, mine, theirs), strict=True))  # type: ignore[assignment]
        if theirs > 0.0 and moved > 0.0:
            self.moves[tensor.name] = math.sqrt(moved / theirs)
        found = 1.0 if is_equal else _pearson(x, y)
        if found is not None:
            self.correlations.append(found)

    def found(self) -> Relation:
        """Return what was gathered."""
        moved, mine, theirs = self.squares
        middle = median(self.moves.values()) if self.moves else 0.0
        far = {name: move / middle for name, move in self.moves.items() if move > FAR * middle}
        return Relation(
            tensors=self.tensors,
            missing=self.missing,
            equal=self.equal,
            rounded=self.rounded,
            matrices=self.matrices,
            correlation=median(self.correlations) if self.correlations else None,
            unlike=sum(one < UNLIKE for one in self.correlations),
            distance=_ratio(moved, theirs),
            scale=_ratio(mine, theirs),
            outliers=tuple(sorted(far.items(), key=lambda one: -one[1])),
            not_finite=self.not_finite,
        )


@dataclass
class _Comparing:
    """Gathers a `Likeness` from sums over tensors, in which each entry counts for those that it stands for."""

    n: float = 0.0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(6))
    agree: float = 0.0
    both: float = 0.0

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64], weight: float) -> None:
        """Take the task vectors of one tensor, each entry of which stands for `weight` entries."""
        self.n += weight * len(x)
        self.sums += weight * np.array([x.sum(), y.sum(), _square(x), _square(y), _dot(x, y), _square(x - y)])
        signs = np.sign(x) * np.sign(y)
        self.agree += weight * float((signs > 0).sum())
        self.both += weight * float((signs != 0).sum())

    def found(self) -> Likeness:
        """Return what was gathered."""
        x, y, xx, yy, xy, difference = map(float, self.sums)
        n = max(self.n, 1.0)
        spread = (xx - x * x / n, yy - y * y / n)
        return Likeness(
            cosine=xy / math.sqrt(xx * yy) if xx > 0.0 and yy > 0.0 else None,
            pearson=(xy - x * y / n) / math.sqrt(spread[0] * spread[1]) if min(spread) > 0.0 else None,
            sign_agreement=self.agree / self.both if self.both else None,
            difference=math.sqrt(difference / max(xx, yy)) if max(xx, yy) > 0.0 else None,
        )


def _square(x: NDArray[np.float64]) -> float:
    return _dot(x, x)


def _dot(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    # Not BLAS, whose threads cost more than this takes, and give another last bit for each number of them.
    return float(np.einsum("i,i->", x, y))


def _ratio(above: float, below: float) -> float:
    return math.sqrt(above / below) if below > 0.0 else (0.0 if above == 0.0 else math.inf)


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Return the correlation of two samples; None if one is constant."""
    a, b = x - x.mean(), y - y.mean()
    scale = math.sqrt(_square(a) * _square(b))
    return _dot(a, b) / scale if scale > 0.0 else None
