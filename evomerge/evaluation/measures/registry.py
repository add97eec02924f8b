"""All measures by name."""

from __future__ import annotations

from collections.abc import Iterable

from evomerge.evaluation.measures.base import Measure
from evomerge.evaluation.measures.entropy import ENTROPY
from evomerge.evaluation.measures.python_function import python_measure
from evomerge.evaluation.measures.tokens import GENERATED_TOKENS
from evomerge.evaluation.task import PYTHON

MEASURES = {measure.name: measure for measure in (GENERATED_TOKENS, ENTROPY)}
"""The built-in measures."""


def find_measure(metric: str) -> Measure | None:
    """Return the measure of this name, or None.

    Raises:
        ConfigError: if it is a function of the user that cannot be imported.
    """
    return python_measure(metric) if metric.startswith(PYTHON) else MEASURES.get(metric)


def measures_of(output_type: str) -> Iterable[str]:
    """Return the names of the built-in measures that can be taken on a kind of task."""
    return [name for name, measure in MEASURES.items() if output_type in measure.output_types]
