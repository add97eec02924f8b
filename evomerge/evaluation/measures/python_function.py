"""A metric that a function of the user computes: "python:MODULE:FUNCTION" or "python:PATH/TO/FILE.py:FUNCTION".

The function is called once per item with (document, responses) and returns a number. It runs with all the rights of
this process, like any code that its user starts.
"""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any

from evomerge.errors import ConfigError
from evomerge.evaluation.measures.base import Answered, Measure
from evomerge.evaluation.task import PYTHON
from evomerge.system.registry import load_attribute

_OUTPUT_TYPES = ("generate_until", "multiple_choice", "loglikelihood", "loglikelihood_rolling")


def python_measure(metric: str) -> Measure:
    """Return the measure that a metric of this kind names, importing its function.

    Raises:
        ConfigError: if the name is not of the form above, the import fails, there is no such function, or it does not
            take two arguments.
    """
    function = load_function(metric)

    def measured(item: Answered) -> dict[str, float]:
        value = function(item.document, list(item.responses))
        if not isinstance(value, numbers.Real) and not (getattr(value, "ndim", None) == 0 and hasattr(value, "item")):
            raise TypeError(f"it must return a number, but returned {value!r}")
        return {metric: float(value)}

    return Measure(metric, None, _OUTPUT_TYPES, measured)


@functools.cache
def load_function(metric: str) -> Callable[[dict[str, Any], list[Any]], Any]:
    """Import the function that a metric names; see `python_measure`.

    Raises:
        ConfigError: as `python_measure`.
    """
    place = metric.removeprefix(PYTHON)
    where, _, name = place.rpartition(":")
    if not where or not name.isidentifier():
        raise ConfigError(
            f"metric {metric!r} must name a function, as in 'python:my_module:my_function' or "
            "'python:folder/my_file.py:my_function'"
        )
    try:
        function = load_attribute(place)
    except ConfigError as error:
        raise ConfigError(f"metric {metric!r}: {error}") from error
    if not callable(function):
        raise ConfigError(f"metric {metric!r}: {where} has no function {name!r}, but {function!r} under that name")
    try:
        inspect.signature(function).bind({}, [])
    except TypeError as error:
        raise ConfigError(
            f"metric {metric!r}: the function is called with (document, responses), but its own arguments are "
            f"{inspect.signature(function)}"
        ) from error
    except ValueError:  # written in C, without a signature
        pass
    checked: Callable[[dict[str, Any], list[Any]], Any] = function
    return checked
