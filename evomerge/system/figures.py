"""How figures are rounded for people, so that no figure says more than is known.

A share of 99.96 % is not all, a gain of 0.04 points is not none, and a p-value of 0.00002 is not 0: a figure that would
be rounded to a limit that it does not reach is shown with more digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SMALLEST_P = 1e-4
"""A p-value below it is shown as "p < 0.0001": its digits rest on the tails of approximations."""

_MORE = 4  # digits at most
_NOISE = 1e-12  # what rounding in a sum may add to a limit


def fixed(value: float, digits: int, *, limits: tuple[float, ...] = (0.0,), signed: bool = False) -> str:
    """Return a number with so many digits after the point, or with more where fewer would say that it is a limit.

    Args:
        value: any number.
        digits: after the point.
        limits: numbers that mean something of their own, such as 0 and 100 for a share in percent.
        signed: whether a positive number has a sign.
    """
    if not math.isfinite(value):
        return f"{value:+}" if signed else f"{value}"
    near = next((limit for limit in limits if abs(value - limit) <= _NOISE * max(1.0, abs(limit))), None)
    value = value if near is None else near + 0.0
    sign = "+" if signed else ""
    for more in range(digits, digits + _MORE + 1):
        text = f"{value:{sign}.{more}f}"
        if near is not None or float(text) not in limits:
            return text
    limit = float(text)
    return f"{limit + math.copysign(10.0**-more, value - limit):{sign}.{more}f}"  # the nearest that is not the limit


def p_text(p: float) -> str:
    """Return "p = 0.0123", or "p < 0.0001"."""
    return "p < 0.0001" if p < SMALLEST_P else f"p = {p_number(p)}"


def p_number(p: float) -> str:
    """Return "0.0123", or "< 0.0001"; more digits where four would say 0.05, the usual limit."""
    return "< 0.0001" if p < SMALLEST_P else fixed(p, 4, limits=(0.05,))


def percentage(share: float, digits: int = 1) -> str:
    """Return a share in percent, without the sign: "99.96" is no "100.0"."""
    return fixed(100 * share, digits, limits=(0.0, 100.0, -100.0))


def mean_text(mean: float, share: bool) -> str:
    """Return a mean: "97.5 %" if it is a share, or as it is."""
    return f"{percentage(mean)} %" if share else f"{mean:.4g}"


def gain(one: Mapping[str, Any]) -> str:
    """Return a difference with its interval: "+13.9 points [6.9, 20.3]", or "+12.3 [8.1, 16.5]" if it is no share.

    Args:
        one: `difference`, `low`, `high`, and `share`: whether the scores are shares, which are shown in per cent; with
            `worst`, whether they are those of the worst task relative to its best parent, which is said.
    """
    if one.get("worst"):
        return (
            f"{one['difference']:+.3f} [{one['low']:.3f}, {one['high']:.3f}] (worst task, relative to its best parent)"
        )
    if one["share"]:
        low, high = percentage(one["low"]), percentage(one["high"])
        return f"{fixed(100 * one['difference'], 1, signed=True):>5} points [{low}, {high}]"
    return f"{one['difference']:+.4g} [{one['low']:.4g}, {one['high']:.4g}]"
