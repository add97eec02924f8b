"""The picture of a layer path as files: SVG and PNG, drawn without a browser."""

from __future__ import annotations

import textwrap
import unicodedata
from pathlib import Path
from typing import Any

from evomerge.errors import RunError
from evomerge.recipe import Recipe
from evomerge.report.figure import Figure
from evomerge.report.path_chart import LEGEND, ends_words, path_chart
from evomerge.report.path_text import describe_source, path_summary
from evomerge.report.pictures import PNG, SVG, WIDTH, picture
from evomerge.report.style import LIGHT
from evomerge.system.files import explain_os_errors, write_atomically
from evomerge.system.text import visible

_TITLE, _WORDS = 15, 11
"""Sizes of letters."""

_MOST_LINES = 3

_MARK = b"\n<!-- evomerge show -->\n"
"""How the SVG ends, by which an earlier pair of pictures is known."""


def path_figure(recipe: Recipe, *, title: str | None = None) -> Figure:
    """Return the figure of a recipe's layer path, with all words in the picture.

    Args:
        recipe: the recipe.
        title: a line above the picture, for example the candidate's name and score; None: "Layer path".

    Raises:
        RecipeError: if the recipe has no path.
    """
    chart = path_chart(recipe)
    said = [path_summary(recipe), ends_words(recipe), LEGEND]
    said += [f"{parent.name}: {describe_source(parent.source)}" for parent in recipe.parents]
    head: dict[str, Any] = {
        "text": _wrap(title or "Layer path", _TITLE, bold=True),
        "subtitle": [line for text in said for line in _wrap(text, _WORDS)],
        "anchor": "start",
        "frame": "bounds",
        "fontSize": _TITLE,
        "subtitleFontSize": _WORDS,
        "subtitlePadding": 6,
        "offset": 12,
    }
    return Figure("layer-path", title or "Layer path", path_summary(recipe), chart={**chart, "title": head})


def save_path_figure(recipe: Recipe, stem: Path, *, title: str | None = None) -> tuple[Path, Path]:
    """Draw the layer path of a recipe into `<stem>.svg` and `<stem>.png`; equal recipes and titles give equal bytes.

    Raises:
        RecipeError: if the recipe has no path.
        RunError: if the files cannot be written, or others than earlier pictures of a path are there.
    """
    svg, png = (stem.parent / f"{stem.name}{suffix}" for suffix in (".svg", ".png"))
    figure = path_figure(recipe, title=title)
    _refuse_others(svg, png)
    with explain_os_errors(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(svg, picture(figure, SVG, LIGHT) + _MARK)
    write_atomically(png, picture(figure, PNG, LIGHT))
    return svg, png


def _refuse_others(svg: Path, png: Path) -> None:
    """Check that nothing is lost: the files are new, or such a pair, which its SVG says of itself."""
    with explain_os_errors(svg):
        there = [path for path in (svg, png) if path.exists() or path.is_symlink()]
        if there and not (svg.is_file() and svg.read_bytes().endswith(_MARK)):
            raise RunError(
                f"{there[0]} is there, and no picture of a layer path by evomerge; it is left as it is. Choose another "
                "name: --out STEM"
            )


def _wrap(text: str, size: int, *, bold: bool = False) -> list[str]:
    """Return a text as lines that fit the picture; the last one is cut if there are too many."""
    shown = visible(" ".join(text.split()))
    mean = sum(map(_width, shown)) / max(1, len(shown)) * (1.1 if bold else 1.0)
    return textwrap.wrap(shown, int(WIDTH / size / max(mean, 0.4)), max_lines=_MOST_LINES, placeholder=" …") or ["…"]


def _width(letter: str) -> float:
    """Return about how wide a letter of a font without serifs is, as a share of its size."""
    if unicodedata.east_asian_width(letter) in "WF" or letter in "WM@%…—":
        return 1.0
    return 0.75 if letter.isupper() else 0.53
