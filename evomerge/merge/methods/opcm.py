"""OPCM: models are merged one after the other, each projected away from what was merged before.

https://arxiv.org/abs/2501.09522. The state after t models is a direction Z_t, of every tensor, and a length:

    Z_1 = D_1,   Z_t = Z_{t−1} + P(D_t),   θ = θ0 + s·n̄·Z_T / ‖Z_T‖,   D_t = w_t·τ_t

n̄ is the mean of the ‖D_t‖; norms are those of all tensors together. P takes out of a matrix D_t what lies in the
leading singular directions of Z_{t−1}; tensors that are no matrices are added as they are. The paper divides by a λ_t
at each step; as P does not depend on the length of Z, these cancel, and one number for the whole model is left.

Z_t is rounded to fp32 at each step, so that a merge which is continued from a saved state has the bytes of one that
never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from evomerge.merge.methods.base import (
    BASE,
    Inputs,
    Method,
    ParentTensors,
    Values,
    in_blocks,
    in_double,
    nonzero,
    out_of_range,
    too_small,
)
from evomerge.merge.methods.matrices import LastFound, Svd, holds_matrices, kept_svds, one_thread
from evomerge.merge.methods.parameters import WEIGHT
from evomerge.merge.methods.projection import FUSION_BENCH, OFFICIAL, PAPER, advance
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Start:
    """An earlier merge that is continued.

    Attributes:
        norms: ‖D_t‖ of each model in it.
        direction: returns Z of a tensor, fp32 on the CPU, by its name.
    """

    norms: tuple[float, ...]
    direction: Callable[[str], torch.Tensor]


@dataclass(frozen=True)
class Direction:
    """What one tensor of the result is made of.

    Attributes:
        z: Z_T, fp32 on the CPU.
        norms: ‖D_t‖ of each model, in the order in which they were merged.
        norm: ‖Z_T‖ of the whole model.
    """

    z: torch.Tensor
    norms: tuple[float, ...]
    norm: float

    def factor(self, target: float) -> float:
        """Return s·n̄/‖Z‖, which is 0 where task vectors cancel out."""
        return target * math.fsum(self.norms) / len(self.norms) / self.norm if self.norm else 0.0


_PART = 1 << 20
"""How many entries are squared at once: all of an embedding in float64 would be four times its bfloat16."""


class _Chain:
    """Z after each model of the latest candidate; the next candidate may begin with the same models."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[Hashable, torch.Tensor]] = []

    def find(
        self,
        steps: Sequence[Hashable],
        first: torch.Tensor | None,
        advance: Callable[[torch.Tensor | None, int], torch.Tensor],
    ) -> torch.Tensor:
        """Return Z after all steps; steps that are known need not be gone again.

        Args:
            steps: what each step depends on, beside those before it.
            first: Z before the first step; None: there is none.
            advance: returns Z after a step, from that before it and the number of the step.
        """
        known = 0
        for (key, _), step in zip(self._kept, steps, strict=False):
            if key != step:
                break
            known += 1
        z = self._kept[known - 1][1] if known else first
        del self._kept[known:]
        for t in range(known, len(steps)):
            z = advance(z, t)
            if len(self._kept) < self._most:
                self._kept.append((steps[t], z))
        assert z is not None  # there is a step, or a start
        return z


def _sequence(inputs: Inputs) -> list[int]:
    """Return the positions of the parents in the order in which they are merged."""
    order = inputs.numbers("order")
    return sorted(range(len(order)), key=lambda i: order[i])  # stable: equal keys keep the recipe's order


class _Walk:
    """Finds Z of any tensor of one candidate."""

    def __init__(self, inputs: Inputs, tensors: ParentTensors, start: Start | None) -> None:
        self._tensors, self._start = tensors, start
        self._sequence = _sequence(inputs)
        self._weight = inputs.numbers("weight")
        self._alpha, self._variant = inputs.number("alpha"), inputs.word("variant")
        # An object for each model stands for it in keys, whatever its position among the parents.
        models = [tensors.once("opcm model", object, lambda _: 0, what="a name", of=[i]) for i in self._sequence]
        self.steps: tuple[Hashable, ...] = tuple(
            (model, self._weight[i], *((self._alpha, self._variant, start) if t or start else ()))
            for t, (model, i) in enumerate(zip(models, self._sequence, strict=True))
        )

    def whole(self) -> tuple[tuple[float, ...], float]:
        """Return ‖D_t‖ of each model and ‖Z_T‖, over all tensors."""
        squares = dict.fromkeys(self._sequence, 0.0)
        total = 0.0
        ats = self._tensors.tensors()
        for name, at in ats.items():
            self._last(name, at)  # so that room is kept for what every candidate needs
        for name, at in ats.items():
            for i in squares:
                squares[i] += self._square(name, i)
            total += _square(self.direction(name, at))
        mine = tuple(abs(self._weight[i]) * math.sqrt(square) for i, square in squares.items())
        return ((*self._start.norms, *mine) if self._start else mine), math.sqrt(total)

    def direction(self, name: str, at: TensorAt) -> torch.Tensor:
        """Return Z_T of a tensor, fp32 on the CPU."""
        return self._last(name, at).find(self.steps, lambda: self._found(name, at))

    def _last(self, name: str, at: TensorAt) -> LastFound[torch.Tensor]:
        return self._tensors.once(
            ("opcm", name), LastFound, lambda _: 4 * math.prod(at.shape), what="the merged directions (OPCM)", of=[]
        )

    def _square(self, name: str, i: int) -> float:
        """Return ‖τ_i‖² of one tensor."""

        def find() -> float:
            base, (parent,) = self._tensors.load(name, [i])
            return _square(_delta(base, parent, 1.0))

        return self._tensors.once(
            ("opcm square", name), find, lambda _: 8, what="the lengths of the parents' task vectors", of=[i]
        )

    def _found(self, name: str, at: TensorAt) -> torch.Tensor:
        first = self._start.direction(name) if self._start else None
        most = len(self.steps) - 1 if holds_matrices(at) else 0
        chain = _Chain(0) if not most else self._tensors.once(
            ("opcm chain", name), partial(_Chain, most), lambda _: 4 * most * math.prod(at.shape),
            what="what was merged before the last parent (OPCM)", of=[],
        )  # fmt: skip
        return chain.find(self.steps, first, partial(self._advance, name, at))

    def _advance(self, name: str, at: TensorAt, z: torch.Tensor | None, t: int) -> torch.Tensor:
        i = self._sequence[t]
        base, (parent,) = self._tensors.load(name, [i])
        weight = self._weight[i]
        if z is None:
            return _delta(base, parent, weight)
        assert base is not None  # the method needs one
        alone = not holds_matrices(at)  # its steps are not kept, so that after the first Z is this walk's own
        svds = [] if alone else self._svds(name, at, z, t)
        return advance(z, base, parent, weight, at, svds, self._alpha, self._variant, in_place=alone and t > 0)

    def _svds(self, name: str, at: TensorAt, z: torch.Tensor, t: int) -> list[Svd]:
        if t != 1 or self._start:
            return kept_svds(z, at)
        first, *_ = self._sequence
        last: LastFound[list[Svd]] = self._tensors.once(
            ("opcm svd", name),
            LastFound,
            lambda _: _svd_bytes(at),
            what="the decompositions of first parents (OPCM)",
            of=[first],
        )
        return last.find(self._weight[first], lambda: kept_svds(z, at))


def _delta(base: torch.Tensor | None, parent: torch.Tensor, weight: float) -> torch.Tensor:
    assert base is not None  # the method needs one
    return in_double(lambda theta, theta0: weight * (theta - theta0), parent, base)


def _square(tensor: torch.Tensor) -> float:
    with one_thread():
        return math.fsum(float(part.double().square_().sum()) for part in tensor.reshape(-1).split(_PART))


def _svd_bytes(at: TensorAt) -> int:
    *stacked, m, n = at.shape
    return 4 * math.prod(stacked) * min(m, n) * (m + n + 1)


def _prepare(inputs: Inputs, tensors: ParentTensors, start: Start | None = None) -> Direction:
    walk = _Walk(inputs, tensors, start)
    norms, norm = tensors.lately(("opcm", walk.steps), walk.whole)
    return Direction(walk.direction(tensors.name, inputs.place), norms, norm)


def _merge(inputs: Inputs) -> torch.Tensor:
    found = inputs.prepared if inputs.prepared is not None else _alone(inputs)
    return in_blocks(replace(inputs, prepared=found), _block)


def _block(part: Inputs, first: int) -> torch.Tensor:
    found, n = part.prepared, part.origin.numel()
    z = found.z.reshape(-1)[first : first + n].to(part.origin.device)
    made: torch.Tensor = z * found.factor(part.number("norm")) + part.origin
    return made


def _alone(inputs: Inputs) -> Direction:
    """Return the direction of a tensor that is the whole model."""
    base, at, weight = inputs.origin, inputs.place, inputs.numbers("weight")
    z, norms = None, []
    for i in _sequence(inputs):
        norms.append(abs(weight[i]) * math.sqrt(_square(_delta(base, inputs.parents[i], 1.0))))
        if z is None:
            z = _delta(base, inputs.parents[i], weight[i])
        else:
            svds = kept_svds(z, at) if holds_matrices(at) else []
            z = advance(z, base, inputs.parents[i], weight[i], at, svds, inputs.number("alpha"), inputs.word("variant"))
    assert z is not None  # without parents, the base is copied
    return Direction(z, tuple(norms), math.sqrt(_square(z)))


def _ranked(values: Values, at: TensorAt) -> Values:
    """Return the values with ranks in place of sort keys, so that candidates with one order are one candidate."""
    order = cast("tuple[float, ...]", values["order"])
    rank = {i: float(k) for k, i in enumerate(sorted(range(len(order)), key=lambda i: order[i]))}
    return {**values, "order": tuple(rank[i] for i in range(len(order)))}


def _one_input(values: Values) -> int | None:
    active = nonzero(values, "weight")
    target = cast(float, values["norm"])
    if not active or target == 0.0:
        return BASE
    weight = cast("tuple[float, ...]", values["weight"])[active[0]]
    return active[0] if len(active) == 1 and weight * target == 1.0 and weight > 0 else None


METHOD = Method(
    spec=MethodSpec(
        name="opcm",
        summary="parents one after the other, each projected away from what was merged before",
        paper="https://arxiv.org/abs/2501.09522",
        topic="subspaces",
        parameters=(
            Parameter(
                "order",
                0.5,
                per_parent=True,
                scope="global",
                in_groups=False,
                doc="parents are merged by rising keys; equal keys: in the recipe's order",
            ),
            Parameter(
                "alpha",
                0.5,
                scope="global",
                in_groups=False,
                doc="α, the share of the singular values of what was merged whose directions are protected",
            ),
            replace(
                WEIGHT,
                gene=False,
                scope="global",
                in_groups=False,
                doc="w_i, each task vector's length before it is merged; 0 leaves the parent out",
            ),
            Parameter(
                "norm",
                1.0,
                0.5,
                1.5,
                gene=False,
                scope="global",
                in_groups=False,
                doc="s, the length of the merged task vector in units of the mean length n̄",
            ),
            Parameter(
                "variant",
                FUSION_BENCH,
                choices=(FUSION_BENCH, OFFICIAL, PAPER),
                gene=False,
                scope="global",
                in_groups=False,
                doc="what a projection takes out: the block and the diagonal; the block alone, as the authors' release "
                "does; or, by the paper's formula, all of the leading rows and columns and the diagonal",
            ),
        ),
        formula="θ0 + s·n̄·Z_T/‖Z_T‖, Z_t = Z_{t−1} + P(w_t τ_t), n̄ the mean of the ‖w_t τ_t‖, in the order of the keys",
        notes="Matrices are projected; embedding, head, norms, biases and kernels are added. Norms are those of the "
        "whole model. The published numbers come from a release that does not remove the diagonal (official); "
        "fusion_bench, a later copy, does. Beyond both codes: α = 1 protects everything (theirs protects nothing); the "
        "diagonal ends with the numerical rank (theirs goes on in an arbitrary basis); a cut between equal singular "
        "values moves behind them; weights, norm and order keys are ours. Task vectors that cancel out give the base. "
        "A merge can be continued later, without the earlier models, from a saved state (`evomerge merge "
        "--save-state`, `--continue-from`). Each candidate costs one decomposition of each matrix for each parent but "
        "the last, in "
        "float64 on one core of the CPU (a square matrix of 1,024: about a second); candidates that begin with the "
        "same parents, weights and α as the one before share these steps, and the decompositions of first parents are "
        "kept, so that with two parents only the first candidates have any. Of the same family: continual task "
        "arithmetic (task_arithmetic with weight 0.3) and the continual average (linear), whose order means nothing.",
    ),
    merge=_merge,
    block=_block,
    prepare=_prepare,
    active=lambda values: nonzero(values, "weight"),
    one_input=_one_input,
    problems=lambda values: out_of_range(values, "alpha", 0.0, 1.0) + too_small(values, "norm"),
    order_free=False,
    shows_bad=True,
    values_at=_ranked,
)


def continued(start: Start) -> Method:
    """Return the method that goes on from an earlier merge; no tensor of its result is a copy of a parent."""
    base_alone: Callable[[Values], int | None] = lambda values: BASE if values["norm"] == 0.0 else None  # noqa: E731
    return replace(METHOD, prepare=partial(_prepare, start=start), one_input=base_alone)


def directions_of(method: Method) -> Method:
    """Return a method of this file so that every tensor has its direction prepared, also where it would be copied."""
    return replace(method, one_input=lambda values: None)
