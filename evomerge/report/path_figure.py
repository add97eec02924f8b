"""A layer path as a picture: parents as lanes, steps from left to right, input scales as colour.

It is drawn without pyplot, so no global state of matplotlib changes; equal recipes give equal files.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

from evomerge.errors import RecipeError
from evomerge.recipe import Recipe
from evomerge.report.path_layout import Move, PathLayout, Placed, lay_out, moves
from evomerge.report.path_text import describe_source, path_summary
from evomerge.system.files import explain_os_errors, write_atomically
from evomerge.system.text import visible

log = logging.getLogger(__name__)

# In inches: the axes cover the whole figure and count in inches, so that text and boxes keep their size at any length.
PITCH, LANE, BOX_W, BOX_H, DOT = 0.47, 0.64, 0.35, 0.38, 0.05
MARGIN, ROW_GAP, LEGEND_LINE, MIN_WIDTH, LABEL_WIDTH = 0.22, 0.34, 0.26, 6.4, 1.9

INK, MUTED, BAND, PAPER = "#1f2328", "#59636e", "#eef1f4", "#ffffff"
# Moves differ in colour, width and dashes, any of which is enough to tell them apart.
MOVES: dict[Move, dict[str, Any]] = {
    Move.NEXT: {"color": "#8c959f", "linewidth": 1.4, "linestyle": "-"},
    Move.ONWARD: {"color": INK, "linewidth": 1.2, "linestyle": "-"},
    Move.BACK: {"color": "#8250df", "linewidth": 1.9, "linestyle": (0, (3, 1.2))},
}
COLOURS = "RdBu_r"  # blue dims, red amplifies; told apart in the common kinds of colour blindness
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic")


def draw_path(recipe: Recipe, *, title: str | None = None) -> Figure:
    """Draw the layer path of a recipe and return the figure.

    Args:
        recipe: the recipe.
        title: a line above the picture, for example the candidate's name and score; None: "Layer path".

    Returns:
        A figure on a canvas of its own; its size grows with the path.

    Raises:
        RecipeError: if the recipe has no path.
    """
    if not recipe.path:
        raise RecipeError(f"there is no layer path to draw: the recipe's method is {recipe.method}, without a `path`")
    with _own_settings():
        return _Picture(recipe, title or "Layer path").figure


def save_path_figure(recipe: Recipe, stem: Path, *, title: str | None = None) -> tuple[Path, Path]:
    """Draw the layer path of a recipe into `<stem>.svg` and `<stem>.png`; equal recipes and titles give equal bytes.

    Raises:
        RecipeError: if the recipe has no path.
        RunError: if the files cannot be written.
    """
    svg, png = (stem.parent / f"{stem.name}{suffix}" for suffix in (".svg", ".png"))
    figure = draw_path(recipe, title=title)
    with explain_os_errors(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
    with _own_settings(), _one_word_about_fonts():
        for path, options in ((svg, {"metadata": {"Date": None}}), (png, {"dpi": 160, "metadata": {"Software": None}})):
            data = io.BytesIO()
            figure.savefig(data, format=path.suffix[1:], **options)
            write_atomically(path, data.getvalue())
    return svg, png


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Use matplotlib's defaults with fixed ids and embedded glyphs, whatever the user's style, within a block."""
    installed = set(font_manager.fontManager.get_font_names())
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "evomerge",
                "text.parse_math": False,  # a dollar sign in a name is a dollar sign
                "svg.fonttype": "path",  # the same shapes on every machine, also in an <img> that may load no font
                "font.family": [name for name in FONTS if name in installed],
            }
        )
        yield


@contextlib.contextmanager
def _one_word_about_fonts() -> Iterator[None]:
    """Log once, in plain words, what matplotlib would warn about for each letter of each file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if any("missing from font" in str(warning.message) for warning in caught):
        log.warning("no font here has all letters of the names; install one that has them, for example Noto Sans CJK")


class _Picture:
    """One figure while it is drawn. Coordinates are inches from the lower left corner."""

    def __init__(self, recipe: Recipe, title: str) -> None:
        self.recipe = recipe
        self.layout: PathLayout = lay_out(recipe)
        self.moves = moves(recipe.path)
        self.reach = max(abs(math.log2(step.scale)) for step in recipe.path)
        self.limit = _nice_limit(2**self.reach)
        self.norm = Normalize(-math.log2(self.limit), math.log2(self.limit))
        # Without the darkest ends, where neither black nor white numbers are easy to read.
        self.cmap = ListedColormap(matplotlib.colormaps[COLOURS](np.linspace(0.1, 0.9, 256)))

        sources = {parent.name: describe_source(parent.source) for parent in recipe.parents}
        self.names = [_fit(name, LABEL_WIDTH, 9.5, bold=True) for name in self.layout.lanes]
        self.hints = [_wrap(sources[name], LABEL_WIDTH, 7, lines=2) for name in self.layout.lanes]
        label = max([_text_width(name, 9.5, bold=True) for name in self.names] + [0.6])
        label = max([label, *(_text_width(line, 7) for lines in self.hints for line in lines)])
        self.left = MARGIN + label + 0.16
        right = self.left + (self.layout.n_columns + 2) * PITCH
        self.width = max(right + MARGIN, MIN_WIDTH)
        self.title = _wrap(title, self.width - 2 * MARGIN, 12, bold=True, lines=3)
        self.summary = _wrap(path_summary(recipe), self.width - 2 * MARGIN, 8.5, lines=4)
        self.legend = self._legend_lines()

        head = 0.24 * len(self.title) + 0.17 * len(self.summary) + 0.2
        self.row_height = len(self.layout.lanes) * LANE + ROW_GAP
        foot = LEGEND_LINE * len(self.legend) + (0.56 if self.reach else 0.0)
        self.height = MARGIN + head + self.layout.n_rows * self.row_height + foot + MARGIN
        self.top = self.height - MARGIN - head

        self.figure = Figure(figsize=(self.width, self.height), facecolor=PAPER)
        FigureCanvasAgg(self.figure)
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(0, self.height))
        self.axes.set_axis_off()
        self._draw_words()
        self._draw_lanes()
        self._draw_moves()
        for number, placed in enumerate(self.layout.steps, 1):
            self._draw_step(placed, number)
        self._draw_legend()
        if self.reach:
            self._draw_colour_bar()

    def x(self, column: int) -> float:
        """Return the middle of a column."""
        return self.left + (column + 0.5) * PITCH

    def y(self, row: int, lane: int) -> float:
        """Return the middle of a lane."""
        return self.top - row * self.row_height - (lane + 0.5) * LANE

    def _draw_words(self) -> None:
        y = self.height - MARGIN
        for line in self.title:
            self.axes.text(MARGIN, y, line, size=12, weight="bold", color=INK, va="top", parse_math=False)
            y -= 0.24
        for line in self.summary:
            self.axes.text(MARGIN, y, line, size=8.5, color=MUTED, va="top", parse_math=False)
            y -= 0.17

    def _draw_lanes(self) -> None:
        for row in range(self.layout.n_rows):
            last = max(placed.column for placed in self.layout.steps if placed.row == row)
            for lane, name in enumerate(self.names):
                y = self.y(row, lane)
                self._box(self.left, y - LANE / 2 + 0.03, (last + 2) * PITCH, LANE - 0.06, 0.08, BAND, BAND)
                hints = self.hints[lane] if row == 0 else []
                lift = 0.062 * len(hints)
                look: dict[str, Any] = {"va": "center", "parse_math": False}  # a "$" in a name begins no formula
                self.axes.text(MARGIN, y + lift, name, size=9.5, weight="bold", color=INK, **look)
                for i, hint in enumerate(hints):
                    self.axes.text(MARGIN, y + lift - 0.155 - 0.12 * i, hint, size=7, color=MUTED, **look)

    def _draw_step(self, placed: Placed, number: int) -> None:
        step, x, y = placed.step, self.x(placed.column), self.y(placed.row, placed.lane)
        plain = step.scale == 1.0
        fill = PAPER if plain else self.cmap(self.norm(math.log2(step.scale)))
        again = placed.use > 1
        self._box(x - BOX_W / 2, y - BOX_H / 2, BOX_W, BOX_H, 0.07, fill, INK, 2.2 if again else 0.9)
        ink = INK if plain or _luminance(fill) > 0.3 else PAPER
        self.axes.text(x, y + (0 if plain else 0.055), str(step.layer), size=9, weight="bold", color=ink, **_CENTRE)
        if not plain:
            self.axes.text(x, y - 0.095, f"×{_short(step.scale)}", size=6, color=ink, **_CENTRE)
        if again:
            spot = {"boxstyle": "round,pad=0.15", "facecolor": INK, "edgecolor": BAND, "linewidth": 0.6}
            look = {"size": 5.5, "weight": "bold", "color": PAPER, "bbox": spot, "zorder": 6, **_CENTRE}
            self.axes.text(x + BOX_W / 2 - 0.01, y - BOX_H / 2 - 0.02, _use(placed.use), **look)
        if placed.column == 1 or number % 5 == 0:
            below = self.y(placed.row, len(self.names) - 1) - LANE / 2 - 0.07
            self.axes.text(x, below, str(number), size=6.5, color=MUTED, **_CENTRE)

    def _draw_moves(self) -> None:
        steps = self.layout.steps
        first = steps[0]
        self._pill(0, 0, self.layout.embeddings, "in")
        self._move((0, 0, self.layout.embeddings), (0, 1, first.lane), Move.NEXT)
        for before, after, move in zip(steps, steps[1:], self.moves, strict=False):
            start = (before.row, before.column, before.lane)
            if after.row != before.row:  # the line leaves the row, and enters the next row in the same lane
                self._dot(before.row, before.column + 1, before.lane)
                self._move(start, (before.row, before.column + 1, before.lane), Move.NEXT)
                start = (after.row, 0, before.lane)
                self._dot(*start)
            self._move(start, (after.row, after.column, after.lane), move)
        last = steps[-1]
        end = (last.row, last.column + 1, self.layout.head)
        self._pill(*end, "out")
        self._move((last.row, last.column, last.lane), end, Move.NEXT)

    def _move(self, start: tuple[int, int, int], end: tuple[int, int, int], move: Move) -> None:
        """Draw a line between two places (row, column, lane) of one row."""
        (row, column, lane), (_, to_column, to_lane) = start, end
        x, y, x2, y2 = self.x(column), self.y(row, lane), self.x(to_column), self.y(row, to_lane)
        if lane != to_lane:  # down (or up) its own column, where no other box stands, then into the next one's side
            edge, bend = x2 - BOX_W / 2, 0.1 if y2 > y else -0.1
            points = [(x, y), (x, y2 - bend), (x, y2), (x + 0.1, y2), (edge, y2)]
            codes = [Curve.MOVETO, Curve.LINETO, Curve.CURVE3, Curve.CURVE3, Curve.LINETO]
            self._arrow(Curve(points, codes), move, "-|>")
        elif move is Move.NEXT:
            self._arrow(Curve([(x, y), (x2, y2)]), move, "-")
        else:  # over the top, to be different from the line to the next layer
            top = y + BOX_H / 2
            bottom = top if column else y + DOT  # the first column has a dot in place of a box
            points = [(x, bottom), (x + 0.03, top + 0.19), (x2 - 0.03, top + 0.19), (x2, top + 0.005)]
            self._arrow(Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]), move, "-|>")

    def _arrow(self, curve: Curve, move: Move, style: str) -> None:
        look = MOVES[move]
        arrow = FancyArrowPatch(path=curve, arrowstyle=style, mutation_scale=7, zorder=2, fill=False, **look)
        arrow.set_joinstyle("miter")
        self.axes.add_patch(arrow)

    def _box(
        self, x: float, y: float, width: float, height: float, radius: float, face: object, edge: str, line: float = 0.0
    ) -> None:
        look = f"round,pad=0,rounding_size={radius}"
        zorder = 3 if line else 1
        patch = FancyBboxPatch(
            (x, y), width, height, boxstyle=look, facecolor=face, edgecolor=edge, linewidth=line, zorder=zorder
        )
        self.axes.add_patch(patch)

    def _pill(self, row: int, column: int, lane: int, text: str) -> None:
        x, y = self.x(column), self.y(row, lane)
        self._box(x - BOX_W / 2 + 0.02, y - 0.1, BOX_W - 0.04, 0.2, 0.1, "#d1d9e0", MUTED, 0.6)
        self.axes.text(x, y, text, size=6.5, color=INK, **_CENTRE)

    def _dot(self, row: int, column: int, lane: int) -> None:
        self.axes.add_patch(
            Circle((self.x(column), self.y(row, lane)), DOT, facecolor=PAPER, edgecolor=MUTED, linewidth=1, zorder=3)
        )

    def _legend_lines(self) -> list[list[tuple[Move | str, str]]]:
        """Return the entries that this path needs, in lines that fit the width."""
        lent_in, lent_out = (
            _fit(self.layout.lanes[lane], 2.0, 7.5) for lane in (self.layout.embeddings, self.layout.head)
        )
        entries: list[tuple[Move | str, str]] = [(move, move.value) for move in Move if move in self.moves]
        if any(placed.use > 1 for placed in self.layout.steps):
            entries.append(("2nd", "a layer used again"))
        if self.layout.embeddings == self.layout.head:
            entries.append(("in, out", f"embeddings, final norm and head of {lent_in}"))
        else:
            entries += [("in", f"embeddings of {lent_in}"), ("out", f"final norm and head of {lent_out}")]
        lines: list[list[tuple[Move | str, str]]] = [[]]
        x = MARGIN
        for entry in entries:
            needed = _text_width(entry[1], 7.5) + 0.62
            if lines[-1] and x + needed > self.width - MARGIN:
                lines.append([])
                x = MARGIN
            lines[-1].append(entry)
            x += needed
        return lines

    def _draw_legend(self) -> None:
        y = MARGIN + (0.56 if self.reach else 0.0) + LEGEND_LINE * (len(self.legend) - 0.5)
        for line in self.legend:
            x = MARGIN
            for mark, text in line:
                if isinstance(mark, Move):
                    style = "-" if mark is Move.NEXT else "-|>"
                    self._arrow(Curve([(x, y), (x + 0.3, y)]), mark, style)
                elif mark == "2nd":
                    self._box(x + 0.09, y - 0.08, 0.16, 0.16, 0.04, PAPER, INK, 2.2)
                else:
                    self._box(x - 0.02, y - 0.08, 0.34, 0.16, 0.08, "#d1d9e0", MUTED, 0.6)
                    self.axes.text(x + 0.15, y, mark, size=6, color=INK, **_CENTRE)
                self.axes.text(x + 0.36, y, text, size=7.5, color=MUTED, va="center_baseline")
                x += _text_width(text, 7.5) + 0.62
            y -= LEGEND_LINE

    def _draw_colour_bar(self) -> None:
        label = "scale of a step's input"
        x = MARGIN + _text_width(label, 7.5) + 0.12
        self.axes.text(MARGIN, MARGIN + 0.28, label, size=7.5, color=MUTED, va="center_baseline")
        place = (x / self.width, (MARGIN + 0.21) / self.height, 2.4 / self.width, 0.13 / self.height)
        bar = self.figure.colorbar(
            ScalarMappable(self.norm, self.cmap), cax=self.figure.add_axes(place), orientation="horizontal"
        )
        half = math.sqrt(self.limit)
        ticks = [1 / self.limit, 1 / half, 1, half, self.limit]
        bar.set_ticks([math.log2(tick) for tick in ticks], labels=[f"×{_short(tick)}" for tick in ticks])
        bar.ax.tick_params(labelsize=7, colors=MUTED, length=2.5, width=0.6)
        bar.outline.set_linewidth(0.6)


_CENTRE: dict[str, Any] = {"ha": "center", "va": "center_baseline"}


def _nice_limit(largest: float) -> float:
    """Return the end of the colour bar: the smallest round factor that holds all scales and their inverses."""
    round_factors = (1.25, 1.5, 2, 3, 4, 6, 10, 20, 50, 100)
    # The inverse of a scale that was read from YAML as 0.8 is 1.25 only up to rounding.
    return next((factor for factor in round_factors if largest <= factor * (1 + 1e-9)), largest)


def _short(scale: float) -> str:
    """Return a scale in at most four characters where it lies between 0.01 and 9999."""
    return f"{scale:.2f}".lstrip("0") if scale < 1 and round(scale, 2) not in (0, 1) else f"{scale:.3g}"


def _use(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _luminance(colour: object) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def _text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line in inches: 3 % more than its outlines, since small letters are fitted to pixels."""
    return 1.03 * sum(_character_width(character, bold) for character in text) * size


@cache
def _character_width(character: str, bold: bool) -> float:
    """Return the width of a character in inches per point of size; that of a space is what it adds between letters."""
    font = font_manager.FontProperties(family=["DejaVu Sans"], weight="bold" if bold else "normal")
    ends = [TextPath((0, 0), text, size=100, prop=font).get_extents().x1 for text in (f"|{character}|", "||")]
    return float(ends[0] - ends[1]) / 7200


def _fit(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Return a line with its middle cut out if it is too long, since the ends of model names say most."""
    text = visible(" ".join(text.split()))
    if _text_width(text, size, bold=bold) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        if _text_width(shorter, size, bold=bold) <= width:
            return shorter
    return "…"


def _wrap(text: str, width: float, size: float, *, lines: int, bold: bool = False) -> list[str]:
    """Return a text as lines, broken between words; the last line is cut if it does not fit."""
    found: list[str] = []
    words = visible(text, lines=True).split()
    while words:
        if len(found) == lines - 1:
            found.append(_fit(" ".join(words), width, size, bold=bold))
            break
        n = 1
        while n < len(words) and _text_width(" ".join(words[: n + 1]), size, bold=bold) <= width:
            n += 1
        found.append(_fit(" ".join(words[:n]), width, size, bold=bold))
        words = words[n:]
    return found
