"""What stands for a parameter in a space: a range or words that a search moves in, or a fixed value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evomerge.errors import unknown_name
from evomerge.recipe.method import Parameter
from evomerge.system.text import value_word

Fixed: TypeAlias = "float | bool | str"
"""A value that a search does not change."""


@dataclass(frozen=True)
class Range:
    """The range of a gene that is a number: see `evomerge.genome.space.Gene`."""

    low: float
    high: float
    start: float
    log: bool
    integer: bool = False


@dataclass(frozen=True)
class Options:
    """The values of a gene that is a choice: words, or true and false; `start` is one of them."""

    choices: tuple[str | bool, ...]
    start: str | bool


EVOLVED = (Range, Options)
"""The classes of values that are genes."""


def misfit(parameter: Parameter, value: Any, where: str) -> str | None:
    """Return why a value is not one of the parameter's; None: it is one."""
    if parameter.kind == "choice":
        return None if value in parameter.choices else unknown_name(f"value of {where}", str(value), parameter.choices)
    if parameter.kind == "flag":
        return None if isinstance(value, bool) else f"{where} must be true or false, but came {value!r}"
    if not _is_number(value):
        return f"{where} must be a finite number, but came {value!r}"
    if parameter.integer and not float(value).is_integer():
        return f"{where} must be a whole number, but came {value!r}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def read_fixed(parameter: Parameter, said: Mapping[str, Any], place: str, problems: list[str]) -> Fixed:
    """Return the value of `fixed`; note what is wrong with it."""
    value, extra = said["fixed"], [key for key in said if key != "fixed"]
    if extra:
        problems.append(f"{place} has `fixed` and also {', '.join(extra)}; a fixed value has no range")
    if parameter.kind in ("float", "integer") and not _is_number(value):
        problems.append(f"{place}: `fixed` must be a finite number, but came {value!r}")
        return parameter.default
    problem = misfit(parameter, value, place)
    if problem is not None:
        problems.append(problem)
        return parameter.default
    return value if isinstance(value, (bool, str)) else float(value)


def read_words(parameter: Parameter, said: Mapping[str, Any], place: str, problems: list[str]) -> Options:
    """Return the values of a gene for words or a flag; without `choices`, all of them."""
    known: tuple[Any, ...] = parameter.choices or (True, False)
    whole = Options(known, parameter.default)  # type: ignore[arg-type]
    given = said.get("choices", known)
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        example = ", ".join(map(value_word, known))
        problems.append(
            f"{place}: `choices` must list values of {parameter.name}, like [{example}], but came {given!r}"
        )
        return whole
    wrong = [problem for one in given if (problem := misfit(parameter, one, f"{place}: choices")) is not None]
    if wrong:
        problems += wrong
        return whole
    choices = tuple(dict.fromkeys(given))
    if len(choices) < 2:
        problems.append(
            f"{place}: `choices` must list two values at least; one alone is {{fixed: {value_word(choices[0])}}}"
        )
        return whole
    start = said.get("start", parameter.default if parameter.default in choices else choices[0])
    if start not in choices or isinstance(start, bool) != (parameter.kind == "flag"):
        problems.append(f"{place}: `start` must be one of {', '.join(map(value_word, choices))}, but came {start!r}")
        return whole
    return Options(choices, start)


def read_range(parameter: Parameter, said: Mapping[str, Any], place: str, problems: list[str]) -> Range:
    """Return the range of a gene that is a number; note what is wrong with it."""
    wrong = [key for key in ("low", "high", "start") if key in said and not _is_number(said[key])]
    problems += [f"{place}: `{key}` must be a finite number, but came {said[key]!r}" for key in wrong]
    if parameter.integer:
        parts = [key for key in ("low", "high", "start") if key in said and key not in wrong]
        parts = [key for key in parts if not float(said[key]).is_integer()]
        problems += [f"{place}: `{key}` must be a whole number, but came {said[key]!r}" for key in parts]
        wrong += parts
    log = said.get("log", parameter.log and not parameter.integer)
    if not isinstance(log, bool):
        problems.append(f"{place}: `log` must be true or false, but came {log!r}")
    elif log and parameter.integer:
        problems.append(f"{place}: {parameter.name} is a whole number, which has no logarithmic scale; leave `log` out")
        wrong.append("log")
    low, high = (
        float(said.get(key, default)) if key not in wrong else math.nan
        for key, default in (("low", parameter.low), ("high", parameter.high))
    )
    if wrong or not isinstance(log, bool):
        return Range(0.0, 1.0, 0.5, False)
    if not low < high:
        problems.append(f"{place}: `low` must be below `high`, but came low {low:g} and high {high:g}")
        return Range(0.0, 1.0, 0.5, False)
    if log and low <= 0.0:
        problems.append(f"{place}: a gene on a logarithmic scale needs `low` above 0, but low is {low:g}")
        return Range(0.0, 1.0, 0.5, False)
    if "start" in said:
        start = float(said["start"])
        if not low <= start <= high:
            problems.append(f"{place}: `start` must lie in [{low:g}, {high:g}], but came {start:g}")
        return Range(low, high, start, log, parameter.integer)
    start = float(parameter.default)
    if parameter.integer:
        # The bin of a whole number at the border has room on both sides, so the default may stand there.
        return Range(low, high, start if low <= start <= high else (low + high) // 2, log, integer=True)
    # From the border of its range a gene could move in one direction only, so the middle is the better start.
    if not low < start < high:
        start = math.sqrt(low * high) if log else low + (high - low) / 2
    return Range(low, high, start, log)
