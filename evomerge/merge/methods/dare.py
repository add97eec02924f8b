"""DARE: drop entries of each task vector at random, rescale the rest. https://arxiv.org/abs/2311.03099.

τ̂_i = m ⊙ τ_i / density with m ~ Bernoulli(density) per entry, density = 1 − p of the paper, so that E[τ̂_i] = τ_i. Then
comes the weighted sum (`dare_linear`), or TIES' election and mean without its trim (`dare_ties`). The recipe's seed,
the parent's name and the tensor's name fix a mask: its random numbers are a function of these and of an entry's index
(`evomerge.merge.kernels.philox`), so no mask is ever stored. They do not depend on the density, so a smaller density
keeps a subset of what a larger one keeps: a search sees a smooth landscape rather than new noise at every step.

The authors warn that deltas larger than about 0.03 (continued pre-training) do not survive a small density.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from evomerge.merge.kernels.program import Drop, Program
from evomerge.merge.methods.base import (
    BASE,
    ELECTION,
    MEAN_LAMBDA,
    NORMALIZE_MEAN,
    SUM_LAMBDA,
    WEIGHT,
    Inputs,
    Method,
    Values,
    nonzero,
    out_of_range,
    task_vectors,
)
from evomerge.merge.methods.task_arithmetic import add_task_vectors
from evomerge.merge.methods.ties import disjoint_merge, disjoint_one_input, disjoint_problems, disjoint_program
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

PAPER = "https://arxiv.org/abs/2311.03099"


def drop_and_rescale(task_vector: torch.Tensor, *, density: float, seed: int) -> torch.Tensor:
    """Keep, in place, each entry with probability `density` and divide it by `density`; density 0 gives zeros."""
    if density == 0.0:
        return task_vector.zero_()
    from evomerge.merge.kernels import philox

    drop = Drop(density, seed)
    bits = philox.words(seed, 0, task_vector.numel(), task_vector.device).view(task_vector.shape)
    return task_vector.mul_(drop.rescale).masked_fill_(bits >= drop.below, 0.0)


def _sparse(inputs: Inputs) -> Sequence[torch.Tensor]:
    rows = zip(task_vectors(inputs), inputs.numbers("density"), inputs.seeds, strict=True)
    return [drop_and_rescale(tau, density=density, seed=seed) for tau, density, seed in rows]


def _drops(inputs: Inputs) -> tuple[Drop, ...]:
    return tuple(Drop(density, seed) for density, seed in zip(inputs.numbers("density"), inputs.seeds, strict=True))


def _linear_one_input(values: Values) -> int | None:
    active = nonzero(values, "weight", "density")
    if not active or values["lambda"] == 0.0:
        return BASE
    weight, density = (cast("tuple[float, ...]", values[name])[active[0]] for name in ("weight", "density"))
    whole = density == 1.0 and weight * cast(float, values["lambda"]) == 1.0
    return active[0] if len(active) == 1 and whole else None


_DENSITY = Parameter("density", 0.1, 0.05, 1.0, per_parent=True, doc="1 − p, the chance that an entry is kept")

LINEAR = Method(
    spec=MethodSpec(
        name="dare_linear",
        summary="task arithmetic on randomly dropped and rescaled task vectors",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, SUM_LAMBDA),
        share=WEIGHT.name,
    ),
    merge=lambda inputs: add_task_vectors(
        inputs.origin, _sparse(inputs), weight=inputs.numbers("weight"), scale=inputs.number("lambda")
    ),
    program=lambda inputs: Program(
        weight=inputs.numbers("weight"), scale=inputs.number("lambda"), masks=_drops(inputs)
    ),
    active=lambda values: nonzero(values, "weight", "density"),
    one_input=_linear_one_input,
    problems=lambda values: out_of_range(values, "density", 0.0, 1.0),
)

TIES = Method(
    spec=MethodSpec(
        name="dare_ties",
        summary="sign election and disjoint mean on randomly dropped and rescaled task vectors",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, MEAN_LAMBDA, ELECTION, NORMALIZE_MEAN),
        share=WEIGHT.name,
    ),
    merge=lambda inputs: disjoint_merge(
        inputs.origin,
        _sparse(inputs),
        weight=inputs.numbers("weight"),
        scale=inputs.number("lambda"),
        election=inputs.word("election"),
        normalize=bool(inputs.values["normalize"]),
    ),
    program=lambda inputs: disjoint_program(inputs, _drops(inputs)),
    active=lambda values: nonzero(values, "weight", "density"),
    one_input=disjoint_one_input,
    problems=disjoint_problems,
)
