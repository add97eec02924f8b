"""What people look at: pictures and lines of text about recipes. Nothing here reads weights.

- `path_text.py`: a layer path in one line; what a parent is made of, in a few words
- `path_layout.py`: where each step of a path stands in the picture, and what kind of move leads to the next
- `path_figure.py`: the picture, as SVG and PNG (matplotlib, imported by this module only)
"""

from evomerge.report.path_text import Shown, describe_source, path_text

__all__ = ["Shown", "describe_source", "path_text"]
