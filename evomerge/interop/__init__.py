"""Recipes in the words of other tools.

- `load.py`: a recipe file of any kind that evomerge reads
- `mergekit.py`: a layer path without scales as mergekit's passthrough YAML
"""

from evomerge.interop.load import load_recipe
from evomerge.interop.mergekit import passthrough_problems, passthrough_yaml

__all__ = ["load_recipe", "passthrough_problems", "passthrough_yaml"]
