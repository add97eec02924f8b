"""Recipes in the words of other tools.

- `load.py`: a recipe file of any kind that evomerge reads
- `mergekit/`: mergekit's YAML, read and written
"""

from evomerge.interop.load import load_recipe

__all__ = ["load_recipe"]
