"""Whether an optimizer still searched widely at the end, or had converged, by what it says of itself.

The bounds (half of the first width, a tenth of it) are rules of thumb: a width does not say how much is left to find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTHS = {
    "step_size": "step size",
    "integer_step": "mean step of whole numbers",
    "choice_rate": "probability of another choice",
    "spread": "spread of the population",
}
"""What an optimizer may say of itself that shrinks as it converges; see `Optimizer.diagnostics`."""

HARDLY, CLOSING_IN, CONVERGED = "hardly", "closing in", "converged"

_HARDLY, _CONVERGED = 0.5, 0.1


@dataclass(frozen=True)
class Converging:
    """How the width of a search went in its last stage.

    Attributes:
        width: its name, for people.
        first, last: the width at first and at the end, as a share of a gene's range.
        standings: how the strategy stood, of this stage.
        how: HARDLY, CLOSING_IN or CONVERGED; None where it was noted once.
    """

    width: str
    first: float
    last: float
    standings: Sequence[Mapping[str, Any]]
    how: str | None


def width_of(standing: Mapping[str, Any], key: str) -> float | None:
    """Return a width above zero; None: the optimizer does not say it."""
    value = standing.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value > 0.0 else None


def converging(course: Sequence[Mapping[str, Any]]) -> Converging | None:
    """Return how a search converged in its last stage; None: its optimizer says nothing of it.

    Args:
        course: how the strategy stood, the oldest first.
    """
    known = [one for one in course if any(width_of(one, key) is not None for key in WIDTHS)]
    if not known:
        return None
    end = known[-1]
    key = next(one for one in WIDTHS if width_of(end, one) is not None)
    own = [one for one in known if one.get("stage", 0) == end.get("stage", 0) and width_of(one, key) is not None]
    first, last = width_of(own[0], key) or 0.0, width_of(end, key) or 0.0
    how = HARDLY if last > _HARDLY * first else CONVERGED if last < _CONVERGED * first else CLOSING_IN
    return Converging(WIDTHS[key], first, last, own, how if len(own) > 1 else None)
