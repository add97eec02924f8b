"""Spaces: a space turns the points that an optimizer moves into recipes.

- `space.py`: what a gene is, and the contract of a space (`Gene`, `Space`)
- `parameter.py`: weights, densities and the like, per parent and group of tensors (`ParameterSpace`)
- `layout.py`: which tensors share their genes: blocks of layers, groups of roles, embeddings and head
- `settings.py`, `gene_values.py`: what the user says about each parameter: range or words, start, fixed or not
- `method_layout.py`: the genes of one method's parameters, which of them sleep, and what a recipe says
- `unmoved.py`: where genes would change nothing, since parents equal the base
- `dataflow.py`: layer paths by an indicator for each layer (`PathSpace`)
- `segments.py`: layer paths by a few runs of layers, with genes of mixed kinds (`SegmentSpace`)
- `frame.py`, `scales.py`: the ends and limits of layer paths; rules for the scale of each input
- `joint.py`: a merge and a layer path through it in one genome (`JointSpace`)
"""

from evomerge.genome.dataflow import PathSpace
from evomerge.genome.joint import JointSpace
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.segments import SegmentSpace
from evomerge.genome.space import Gene, Space

__all__ = ["Gene", "JointSpace", "ParameterSpace", "PathSpace", "SegmentSpace", "Space"]
