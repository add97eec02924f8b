"""Pictures of recipes, and lines of text about them. Nothing here reads weights.

- `path_text.py`: a layer path in one line; the source of a parent in a few words
- `path_layout.py`: where each step of a path stands in the picture, and which kind of move leads to the next
- `path_figure.py`: the picture, as SVG and PNG (matplotlib, imported by this module only)
"""

from evomerge.report.path_text import Shown, describe_source, path_text

__all__ = ["Shown", "describe_source", "path_text"]
