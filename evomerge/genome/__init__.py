"""Spaces: the rule that turns a point which an optimizer moves into a recipe.

- `space`: what a gene is, and the contract of a space (`Gene`, `Space`)
- `parameter`: weights, densities and the like, per parent and group of tensors (`ParameterSpace`)
- `layout`: which tensors share their genes: blocks of layers, groups of roles, embeddings and head
- `settings`: what the user says about each parameter: range, start, fixed or not
"""

from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.space import Gene, Space

__all__ = ["Gene", "ParameterSpace", "Space"]
