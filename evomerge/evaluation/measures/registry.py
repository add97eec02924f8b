"""The registry of measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evomerge.errors import ConfigError
from evomerge.evaluation.measures.base import Answered, Measure
from evomerge.evaluation.measures.python_function import python_measure
from evomerge.evaluation.task import PYTHON
from evomerge.system.registry import Registry

MEASURES: Registry[Measure] = Registry(
    "measure",
    {
        "generated_tokens": "evomerge.evaluation.measures.tokens:GENERATED_TOKENS",
        "cut_answers": "evomerge.evaluation.measures.ending:CUT_ANSWERS",
        "empty_answers": "evomerge.evaluation.measures.ending:EMPTY_ANSWERS",
        "repetitive_answers": "evomerge.evaluation.measures.repetition:REPETITIVE_ANSWERS",
        "foreign_script": "evomerge.evaluation.measures.script:FOREIGN_SCRIPT",
        "cut_prompts": "evomerge.evaluation.measures.ending:CUT_PROMPTS",
        "entropy": "evomerge.evaluation.measures.entropy:ENTROPY",
    },
    group="evomerge.measures",
)

ALWAYS = (
    "generated_tokens",
    "cut_answers",
    "empty_answers",
    "repetitive_answers",
    "foreign_script",
    "cut_prompts",
)
"""The measures that every search takes, whatever it optimises: how answers degenerate."""

SHARES = ("cut_answers", "empty_answers", "repetitive_answers", "foreign_script", "cut_prompts")
"""The measures that are 0 or 1 for each item, so that their mean is a share."""


def find_measure(metric: str) -> Measure | None:
    """Return the measure that a metric names, or None where it names none.

    Args:
        metric: a name in `MEASURES`; "module:attribute" or "path/to/file.py:attribute" of a `Measure`;
            "python:MODULE:FUNCTION".

    Raises:
        ConfigError: if what is named cannot be imported, or is no measure.
    """
    if metric.startswith(PYTHON):
        return python_measure(metric)
    if metric not in MEASURES.names and ":" not in metric:
        return None
    found = MEASURES.find(metric)
    if not isinstance(found, Measure):  # a user's own may be of any type
        raise ConfigError(f"metric {metric!r} must be an evomerge.evaluation.measures.base.Measure, but is {found!r}")
    return _called(found, metric)


def measures_of(output_type: str) -> list[str]:
    """Return the names of the known measures that can be taken on a kind of task."""
    return [name for name in MEASURES if output_type in MEASURES.find(name).output_types]


def _called(measure: Measure, name: str) -> Measure:
    """Return a measure whose number stands under the name that the configuration has for it."""
    if measure.name == name:
        return measure

    def renamed(item: Answered) -> Mapping[str, float]:
        return {name if key == measure.name else key: value for key, value in measure.function(item).items()}

    return replace(measure, name=name, function=renamed)
