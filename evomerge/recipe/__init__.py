"""What to build: a recipe, its layer path, and what its merge method needs. Plain data; no torch.

- `recipe.py`: the recipe itself, its YAML form and its content hash
- `source.py`: where a model's weights come from
- `patterns.py`: several parents by one pattern: the checkpoints of a training run
- `layer_path.py`: which layer of which parent comes next
- `lineage.py`: the checkpoints below a recipe; a linear lineage as one flat recipe
- `groups.py`: mistakes in what groups name
- `foreign.py`: what files of other tools are, where a recipe was expected
- `tokenizer.py`: the tokenizer that a recipe builds of several, and its chat template
- `method.py`: a merge method's name, parameters and paper, without its arithmetic
"""

from evomerge.recipe.layer_path import Step
from evomerge.recipe.recipe import DTYPES, PASSTHROUGH, ROLES, Group, Parent, Recipe, Value
from evomerge.recipe.source import ModelSource, in_braces
from evomerge.recipe.tokenizer import TokenizerBuild

__all__ = [
    "DTYPES",
    "PASSTHROUGH",
    "ROLES",
    "Group",
    "ModelSource",
    "Parent",
    "Recipe",
    "Step",
    "TokenizerBuild",
    "Value",
    "in_braces",
]
