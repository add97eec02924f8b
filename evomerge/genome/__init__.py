"""Spaces: the rule that turns a point which an optimizer moves into a recipe.

- `space`: what a gene is, and the contract of a space (`Gene`, `Space`)
- `parameter`: weights, densities and the like, per parent and group of tensors (`ParameterSpace`)
- `layout`: which tensors share their genes: blocks of layers, groups of roles, embeddings and head
- `settings`: what the user says about each parameter: range, start, fixed or not
- `dataflow`: layer paths by an indicator for each layer (`PathSpace`)
- `segments`: layer paths by a few runs of layers, with genes of mixed kinds (`SegmentSpace`)
- `frame`, `scales`: what layer paths share: ends and limits; rules for the scale of each input
- `joint`: a merge and a layer path through it in one genome (`JointSpace`)
"""

from evomerge.genome.dataflow import PathSpace
from evomerge.genome.joint import JointSpace
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.segments import SegmentSpace
from evomerge.genome.space import Gene, Space

__all__ = ["Gene", "JointSpace", "ParameterSpace", "PathSpace", "SegmentSpace", "Space"]
