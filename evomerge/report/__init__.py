"""Pictures of recipes, and lines of text about them. Nothing here reads weights.

- `path_text.py`: a layer path in one line; the source of a parent in a few words
- `path_layout.py`: what each step of a path is beside those before it, and which kind of move leads to the next
- `path_chart.py`: the picture of a path; `path_figure.py`: its files, SVG and PNG
"""

from evomerge.report.path_text import Shown, describe_source, path_text

__all__ = ["Shown", "describe_source", "path_text"]
