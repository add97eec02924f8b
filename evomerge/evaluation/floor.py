"""A floor: the least that the mean of an entry's own metric may be, while the entry keeps its weight in the objective.

It says that a skill must be kept, where a weight only says what a skill is worth: a weighted sum gladly pays with one
skill for another. A floor is a number, or it is relative to the task's best parent, whose mean on the same items is b:

- absolute a: the mean must be at least a;
- a share q of the best parent: at least b - (1 - q) |b|, which is q b for a metric above 0, and for one below 0 (a
  log-likelihood) as much worse than b as q says;
- a distance d below the best parent: at least b - d, in the metric's own units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST = 10.0
"""The largest share of the best parent; beyond it per cents were meant, 95 for 0.95."""

ROUNDING = 1e-12
"""By how much a mean may lie below its floor, in units of it, by rounding alone."""

_KINDS = ("absolute", "of_best_parent", "below_best_parent")


@dataclass(frozen=True)
class Floor:
    """The least that a mean may be: exactly one of these.

    Attributes:
        absolute: this number.
        of_best_parent: this share of the best parent's mean; 1 is that mean itself.
        below_best_parent: the best parent's mean less this, in the metric's own units.
    """

    absolute: float | None = None
    of_best_parent: float | None = None
    below_best_parent: float | None = None

    @property
    def is_relative(self) -> bool:
        """Whether it depends on what the parents score."""
        return self.absolute is None

    def limit(self, best: float | None) -> float:
        """Return the least mean that is allowed.

        Args:
            best: the best parent's mean on the same items; not needed where the floor is absolute.
        """
        if self.absolute is not None:
            return self.absolute
        assert best is not None, "a relative floor comes with the best parent's mean"
        if self.of_best_parent is not None:
            return best - (1.0 - self.of_best_parent) * abs(best)
        return best - (self.below_best_parent or 0.0)

    def violation(self, mean: float, best: float | None) -> float:
        """Return by how much a mean lies below the limit, in units of the limit (unless that is 0); 0 if it does not.

        What rounding may leave (19 of 20 beside 95 % of 20) is none.
        """
        limit = self.limit(best)
        below = (limit - mean) / (abs(limit) or 1.0)
        return below if below > ROUNDING else 0.0

    def text(self, parent: str, best: float) -> str:
        """Return how a relative floor follows from the best parent, like "95 % of the best parent, math: 0.6"."""
        what = f"the best parent, {parent}: {best:.4g}"
        if self.of_best_parent is not None:
            return f"{100 * self.of_best_parent:g} % of {what}"
        return f"{self.below_best_parent or 0.0:g} below {what}"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with it, each as the end of a sentence that begins with the task."""
        given: dict[str, Any] = {name: value for name in _KINDS if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            yield f"a floor has one of {', '.join(_KINDS)}, but {len(given)} of them came"
        for name, value in given.items():
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
                yield f"the floor's `{name}` must be a finite number, but came {value!r}"
            elif name == "of_best_parent" and not 0.0 < value <= MOST:
                yield (
                    f"the floor's share of the best parent must lie above 0 and not beyond {MOST:g} (0.95, or 95%), "
                    f"but came {value!r}"
                )
            elif name == "below_best_parent" and value < 0.0:
                yield (
                    "the floor's distance below the best parent must be at least 0, in the metric's own units, but "
                    f"came {value!r}"
                )

    def to_data(self) -> dict[str, Any]:
        """Return its fields as JSON data."""
        return asdict(self)


def read_floor(value: Any) -> Any:
    """Return the short forms of a floor as the keys that they stand for; anything else as it is.

    A number is the floor itself, and a text with a per cent sign a share of the best parent: "95%".
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"absolute": value}
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            # In decimal digits, so that 95% is 0.95 and 110% is 1.1.
            return {"of_best_parent": float(f"{value.strip()[:-1].strip()}e-2")}
        except ValueError:
            return value
    return value


def relative(mean: float, best: float, sign: float = 1.0) -> float:
    """Return a mean relative to the best parent's: 1 is as good, 0.9 a tenth worse, 1.1 a tenth better.

        r = 1 + s (m - b) / |b|,    and 1 + s m where b = 0

    For a metric to maximize and above 0 that is m / b, the normalized accuracy of the literature on merging. Where no
    parent scores anything, there is nothing to lose and no unit to measure in, so the metric's own unit counts.

    Args:
        mean: m.
        best: b, the best parent's mean on the same items.
        sign: s, +1 to maximize and -1 to minimize.
    """
    return 1.0 + sign * (mean - best) / (abs(best) or 1.0)


def floor_from_data(data: Mapping[str, Any] | None) -> Floor | None:
    """Return what `Floor.to_data` wrote; None: there is no floor."""
    return Floor(**data) if data else None
