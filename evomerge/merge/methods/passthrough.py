"""Whole layers are copied: the method of layer paths (`Recipe.path`). Without a path, its one parent is the result.

`evomerge.merge.paths.plan` (as files) and `evomerge.merge.paths.live_path` (in memory) decide what a path builds.
Like mergekit's method of that name, it mixes no weights.
"""

from __future__ import annotations

from evomerge.merge.methods.base import Method
from evomerge.recipe import PASSTHROUGH
from evomerge.recipe.method import MethodSpec

METHOD = Method(
    spec=MethodSpec(
        name=PASSTHROUGH,
        summary="layers of the parents in a new order, with scales (a layer path)",
        paper="https://arxiv.org/abs/2403.13187",
        topic="layers",
        parameters=(),
        needs_base=False,
    ),
    merge=lambda inputs: inputs.parents[0],
    active=lambda values: (0,),
    one_input=lambda values: 0,
    problems=lambda values: [],
)
