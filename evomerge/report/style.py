"""How charts look, in light and in dark: one place for colours and letters, given to Vega when a chart is drawn.

A figure names no colour. Its marks take the first of the series, and scales of names take the series in their order, so
the best merge, which comes first wherever models are compared, has the same colour everywhere. All colours of a series
have a contrast of at least 3 : 1 to their background (WCAG 2.2, 1.4.11), and differ for most kinds of colour blindness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evomerge.report.data import RunData

LIGHT, DARK = "light", "dark"

BEST = "best merge"
"""What the best candidate is called beside parents and average."""

SERIES = {
    LIGHT: ("#0b62d6", "#c2410c", "#0f766e", "#7c3aed", "#be185d", "#4d7c0f", "#57606a", "#0e7490"),
    DARK: ("#6ea8fe", "#fb923c", "#2dd4bf", "#c4b5fd", "#f472b6", "#a3e635", "#9ca3af", "#22d3ee"),
}
INK = {LIGHT: "#1f2328", DARK: "#e6edf3"}
FAINT = {LIGHT: "#d0d7de", DARK: "#30363d"}
QUIET = {LIGHT: "#57606a", DARK: "#9ca3af"}
BACKGROUND = {LIGHT: "#ffffff", DARK: "#0d1117"}
SURFACE = {LIGHT: "#f6f8fa", DARK: "#161b22"}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def vega_config(theme: str) -> dict[str, Any]:
    """Return the `config` of every Vega-Lite specification, for "light" or "dark"."""
    series, ink, faint, quiet = list(SERIES[theme]), INK[theme], FAINT[theme], QUIET[theme]
    ramp = [SURFACE[theme], series[0]]
    diverging = [series[1], SURFACE[theme], series[0]]
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "domainColor": faint,
            "gridColor": faint,
            "tickColor": faint,
            "labelColor": quiet,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titlePadding": 10,
            "gridOpacity": 0.6,
        },
        "legend": {
            "symbolBaseFillColor": quiet,  # of shapes, where something else is told by colours
            "symbolBaseStrokeColor": quiet,
            "labelColor": ink,
            "titleColor": quiet,
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "labelLimit": 260,
            "titleFontSize": 12,
            "orient": "top",
        },
        "header": {"labelColor": ink, "titleColor": ink},
        "title": {"color": ink},
        "text": {"color": ink},
        "mark": {"color": series[0]},
        "rule": {"color": quiet},
        "tick": {"color": ink},
        # Numbers on the weaker and on the stronger half of a ramp.
        "style": {"on-weak": {"color": ink}, "on-strong": {"color": BACKGROUND[theme]}},
        "range": {"category": series, "ramp": ramp, "heatmap": ramp, "ordinal": ramp, "diverging": diverging},
    }


def picture_config(theme: str) -> dict[str, Any]:
    """Return the `config` of pictures that are drawn without a browser, in a font that is always there."""
    return {**vega_config(theme), "font": "sans-serif"}


def css_variables() -> str:
    """Return the colours and the font as variables of CSS, by the theme that `data-theme` or the system asks for."""
    light, dark = _variables(LIGHT), _variables(DARK)
    return (
        f":root{{--font:{FONT};color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme={LIGHT}]){{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme={DARK}]{{color-scheme:dark;{dark}}}\n"
    )


def _variables(theme: str) -> str:
    named = {"ink": INK, "faint": FAINT, "quiet": QUIET, "background": BACKGROUND, "surface": SURFACE}
    colours = {name: colour[theme] for name, colour in named.items()}
    colours |= {f"series-{number}": colour for number, colour in enumerate(SERIES[theme], 1)}
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def model_names(run: RunData) -> Sequence[str]:
    """Return what models are called in figures, in the order of the series: the best merge, parents, average."""
    return (BEST, *(record.name for record in run.baselines))
