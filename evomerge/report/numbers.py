"""How the scores of a run are written and drawn: in per cent where they are shares, else in their own unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.analysis.shares import shown_as_shares
from evomerge.evaluation.objective import SCORE, Objectives
from evomerge.evaluation.task import WORST
from evomerge.record import Record, Score
from evomerge.report.data import RunData
from evomerge.system.figures import fixed, gain, mean_text, percentage

DIGITS = 4
"""So many significant digits of a number can be seen in a chart."""


@dataclass(frozen=True)
class ScoreStyle:
    """How scores of one kind are shown.

    Attributes:
        share: in per cent.
        worst: they are those of the worst task relative to its best parent (1: as good).
    """

    share: bool
    worst: bool = False

    @property
    def axis(self) -> str:
        """The format of an axis (d3-format)."""
        return "%" if self.share else "~g"

    @property
    def tooltip(self) -> str:
        """The format of a tooltip (d3-format)."""
        return ".1%" if self.share else ".3f" if self.worst else ".4~g"

    def mean(self, value: float) -> str:
        """Return "53.0 %", or "10.6"."""
        return f"{value:.3f}" if self.worst else mean_text(value, self.share)

    def interval(self, low: float, high: float) -> str:
        """Return "[48.1, 57.9]"."""
        if self.share:
            return f"[{percentage(low)}, {percentage(high)}]"
        return f"[{self.mean(low)}, {self.mean(high)}]"

    def score(self, score: Score | Mapping[str, Any]) -> str:
        """Return "53.0 % [48.1, 57.9]"."""
        data = score.to_data() if isinstance(score, Score) else score
        return f"{self.mean(data['mean'])} {self.interval(data['low'], data['high'])}"

    def difference(self, one: Mapping[str, Any]) -> str:
        """Return "+13.9 points [6.9, 20.3]" for `difference`, `low` and `high`."""
        return gain({**one, "share": self.share, "worst": self.worst}).strip()

    def change(self, value: float) -> str:
        """Return a difference without its interval: "+13.9 points"."""
        if self.share:
            return f"{fixed(100 * value, 1, signed=True)} points"
        return f"{value:+.3f}" if self.worst else f"{value:+.4g}"


def score_style(run: RunData) -> ScoreStyle:
    """Return how the score of a run is shown: its weighted sum, or the worst of its tasks."""
    return style_of(run.objectives, (*run.baselines, *run.records))


def style_of(objectives: Objectives | None, records: Iterable[Record]) -> ScoreStyle:
    """Return how the scores of some records are shown; objectives: None where the run did not come so far."""
    if objectives is None:
        return ScoreStyle(share=False)
    if objectives.combination == WORST:
        return ScoreStyle(share=False, worst=True)
    means = [score.mean for record in records for score in (record.scores or {}).values() if math.isfinite(score.mean)]
    counting = [spec for spec in objectives.specs if spec.weight > 0.0]
    return ScoreStyle(share=all(shown_as_shares(spec.metric, means) for spec in counting))


def objective_styles(run: RunData) -> dict[str, ScoreStyle]:
    """Return how each objective's scores are shown, by its name; of a run that chose, and so recorded them."""
    objectives = run.objectives
    if objectives is None:
        return {}
    if objectives.combination == WORST:
        return {one.name: ScoreStyle(share=False, worst=True) for one in objectives.objectives}
    found = {}
    for place, one in enumerate(objectives.objectives):
        specs = [s for s in objectives.specs if s.weight > 0.0 and (s.objective or SCORE) == one.name]
        means = [record.result.objectives[place] for record in run.records if record.result is not None]
        found[one.name] = ScoreStyle(share=all(shown_as_shares(spec.metric, means) for spec in specs))
    return found


def span(numbers: Sequence[int]) -> str:
    """Return from where to where some numbers go: "3", or "3 to 7"."""
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def seen(value: float | None, digits: int = DIGITS) -> float | None:
    """Return a number as exactly as a chart can show it, so that pages stay small; None: it is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
