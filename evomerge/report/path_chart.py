"""A layer path as a chart: step by step to the right, the depth in the parent upwards, a colour for each parent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import altair as alt

from evomerge.errors import RecipeError
from evomerge.recipe import Recipe
from evomerge.report.chart import specification
from evomerge.report.path_layout import Move, lay_out, move_words, moves
from evomerge.report.path_text import describe_source
from evomerge.system.text import visible

DASHES = {Move.NEXT: [1, 0], Move.ONWARD: [6, 3], Move.BACK: [2, 3]}
LEGEND = (
    "Dashed lines skip layers or change the parent, dotted ones go back or stay; a frame: the layer was used before"
)

_BOX, _WORD = 17, 26
"""Pixels that a step needs for the number of its layer, and for its scale in words."""

_PHONE, _LABEL, _LETTER = 330, 150, 7
"""Pixels of a narrow page, of the longest name in a legend, and of a letter."""


def path_chart(recipe: Recipe, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the specification of a chart of a recipe's layer path.

    Args:
        recipe: one with a path.
        names: all names that have a colour of their own, in their order; None: the parents'.

    Raises:
        RecipeError: if the recipe has no path.
    """
    if not recipe.path:
        raise RecipeError(f"there is no layer path to draw: the recipe's method is {recipe.method}, without a `path`")
    layout = lay_out(recipe)
    path = recipe.path
    sources = {parent.name: describe_source(parent.source) for parent in recipe.parents}
    kinds = moves(path)
    words = ["the first layer", *(move_words(*pair) for pair in itertools.pairwise(path))]
    steps = [
        {
            "n": placed.number,
            "layer": placed.step.layer,
            "parent": placed.step.parent,
            "source": sources[placed.step.parent],
            "scale": f"×{placed.step.scale:.4g}",
            "short": "" if placed.step.scale == 1.0 else short_scale(placed.step.scale),
            "sign": "" if placed.step.scale == 1.0 else "+" if placed.step.scale > 1.0 else "–",
            "use": f"{_ordinal(placed.use)} time",
            "again": placed.use > 1,
            "move": how,
        }
        for placed, how in zip(layout.steps, words, strict=True)
    ]
    lines = [
        {"n": i + 1, "n2": i + 2, "layer": before.layer, "layer2": after.layer, "kind": kind.value, "move": how}
        for i, ((before, after), kind, how) in enumerate(zip(itertools.pairwise(path), kinds, words[1:], strict=True))
    ]
    ends = [
        {"n": n, "layer": step.layer, "parent": layout.lanes[lane], "word": word, "gives": gives}
        for n, step, lane, word, gives in (
            (0, path[0], layout.embeddings, "in", "embeddings"),
            (len(path) + 1, path[-1], layout.head, "out", "final norm and head"),
        )
    ]
    lines += [
        {"n": a, "n2": a + 1, "layer": step.layer, "layer2": step.layer, "kind": Move.NEXT.value, "move": ""}
        for a, step in ((0, path[0]), (len(path), path[-1]))
    ]
    room = f"width / {len(path) + 2}"
    known = list(dict.fromkeys([*names, *layout.lanes]))
    x = alt.X("n:Q", title="step", scale=alt.Scale(domain=[-0.5, len(path) + 1.5], nice=False))
    x.axis = alt.Axis(values=_ticks(len(path)), format="d", grid=False, labelOverlap=True)
    deepest = max(step.layer for step in path)
    y = alt.Y("layer:Q", title="layer of the parent", scale=alt.Scale(domain=[-0.7, deepest + 0.9], nice=False))
    y.axis = alt.Axis(tickMinStep=1, format="d")
    colour = alt.Color(
        "parent:N",
        title=None,
        scale=alt.Scale(domain=known),
        legend=alt.Legend(
            values=list(layout.lanes),
            labelLimit=_LABEL,
            columns=max(1, min(4, _PHONE // (24 + min(_LABEL, _LETTER * max(map(len, layout.lanes)))))),
            symbolType="square",
        ),
    )
    moved = (
        alt.Chart(alt.NamedData("lines"))
        .mark_rule(strokeWidth=1.5)
        .encode(
            x=x,
            x2="n2:Q",
            y=y,
            y2="layer2:Q",
            strokeDash=alt.StrokeDash(
                "kind:N",
                scale=alt.Scale(domain=[move.value for move in DASHES], range=list(DASHES.values())),
                legend=None,
            ),
            tooltip=[alt.Tooltip("move:N", title="from one step to the next")],
        )
    )
    tooltip = [
        alt.Tooltip("n:Q", title="step"),
        alt.Tooltip("parent:N"),
        alt.Tooltip("source:N", title="which is"),
        alt.Tooltip("layer:Q"),
        alt.Tooltip("scale:N", title="scale of its input"),
        alt.Tooltip("move:N", title="how it follows"),
        alt.Tooltip("use:N", title="this layer for the"),
    ]
    boxes = (
        alt.Chart(alt.NamedData("steps"))
        .mark_square(opacity=1.0, size=alt.expr(f"pow(clamp({room} * 0.8, 4, 19), 2)"))
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
    )
    again = (
        alt.Chart(alt.NamedData("steps"))
        .transform_filter("datum.again")
        .mark_point(
            shape="square",
            filled=False,
            strokeWidth=alt.expr(f"{room} > 10 ? 1.6 : 1"),
            opacity=1.0,
            style="on-weak",
            size=alt.expr(f"pow(clamp({room} * 0.8, 4, 19) + 4, 2)"),
        )
        .encode(x=x, y=y, tooltip=tooltip)
    )
    numbers = (
        alt.Chart(alt.NamedData("steps"))
        .mark_text(fontSize=11, fontWeight="bold", style="on-strong")
        .encode(
            x=x,
            y=y,
            text="layer:Q",
            tooltip=tooltip,
            opacity=alt.condition(f"{room} > {_BOX}", alt.value(1), alt.value(0)),
        )
    )
    scales = (
        alt.Chart(alt.NamedData("steps"))
        .transform_filter("datum.short")
        .transform_calculate(said=f"{room} > {_WORD} ? datum.short : datum.sign")
        .mark_text(fontSize=11, dy=-17)
        .encode(x=x, y=y, text="said:N", tooltip=tooltip)
    )
    lent = [alt.Tooltip("parent:N"), alt.Tooltip("gives:N")]
    lenders = (
        alt.Chart(alt.NamedData("ends"))
        .mark_circle(opacity=1.0, size=alt.expr(f"pow(clamp({room} * 0.8, 5, 22), 2)"))
        .encode(x=x, y=y, color=colour, tooltip=lent)
    )
    called = (
        alt.Chart(alt.NamedData("ends")).mark_text(fontSize=11, dy=-18).encode(x=x, y=y, text="word:N", tooltip=lent)
    )
    chart = alt.layer(moved, boxes, again, numbers, scales, lenders, called)
    height = min(360, max(190, 17 * (deepest + 1) + 60))
    return specification(chart.properties(width="container", height=height), steps=steps, lines=lines, ends=ends)


def ends_words(recipe: Recipe) -> str:
    """Return who lends what stands before and behind the layers: "Embeddings of math, final norm and head of code"."""
    layout = lay_out(recipe)
    first, last = (visible(layout.lanes[lane]) for lane in (layout.embeddings, layout.head))
    if first == last:
        return f"Embeddings, final norm and head are of {first}"
    return f"Embeddings are of {first}, final norm and head of {last}"


def short_scale(scale: float) -> str:
    """Return a scale in about four characters: "×.80"."""
    plain = scale < 1 and round(scale, 2) not in (0, 1)
    return "×" + (f"{scale:.2f}".lstrip("0") if plain else f"{scale:.3g}")


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _ticks(n: int) -> list[int]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if n / step <= 20)
    return [1, *(i for i in range(step, n + 1, step) if i > 1)]
