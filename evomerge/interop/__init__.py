"""Recipes in the words of other tools.

- `mergekit.py`: a layer path without scales as mergekit's passthrough YAML
"""

from evomerge.interop.mergekit import passthrough_problems, passthrough_yaml

__all__ = ["passthrough_problems", "passthrough_yaml"]
