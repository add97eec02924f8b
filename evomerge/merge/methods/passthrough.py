"""Whole layers are copied: the method of layer paths (`Recipe.path`). Without a path, its one parent is the result.

The tensors of a group can be multiplied by a number: θ = s·θ_1, in fp32, with one cast at the end.

`evomerge.merge.paths.plan` (as files) and `evomerge.merge.paths.live_path` (in memory) decide what a path builds.
Like mergekit's method of that name, it mixes no weights.
"""

from __future__ import annotations

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Method
from evomerge.recipe import PASSTHROUGH
from evomerge.recipe.method import MethodSpec, Parameter

SCALE = "scale"

METHOD = Method(
    spec=MethodSpec(
        name=PASSTHROUGH,
        summary="layers of the parents in a new order, with scales (a layer path)",
        paper="https://arxiv.org/abs/2403.13187",
        topic="layers",
        parameters=(
            Parameter(SCALE, 1.0, 0.0, 2.0, gene=False, doc="s, by which every entry of a tensor is multiplied"),
        ),
        formula="s·θ_i, where θ_i is the parent whose layer stands there",
        notes="With scale 1 every tensor is the parent's, bit for bit (but for the type, if the result has another). "
        "In a path, the layers of groups are those of the result. Scales of a path's steps multiply the input of a "
        "layer instead, and cost nothing in memory; scaled tensors take memory of their own there.",
        needs_base=False,
    ),
    merge=lambda inputs: inputs.parents[0] * inputs.number(SCALE),
    program=lambda inputs: Program(weight=(inputs.number(SCALE),)),
    active=lambda values: (0,),
    one_input=lambda values: 0 if values[SCALE] == 1.0 else None,
    shows_bad=True,
    problems=lambda values: [],
)
