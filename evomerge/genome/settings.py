"""The user's settings for each parameter of a method: fixed, or a gene with a range and a start."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import unknown_name
from evomerge.recipe.method import SCOPES, MethodSpec, Parameter

_KEYS = ("low", "high", "start", "log", "fixed", "scope", "parents")
_PARENT_KEYS = ("low", "high", "start", "log", "fixed")
_RANGE_KEYS = ("low", "high", "start", "log")


@dataclass(frozen=True)
class Range:
    """The range of a gene: see `evomerge.genome.space.Gene`."""

    low: float
    high: float
    start: float
    log: bool


@dataclass(frozen=True)
class Setting:
    """How one parameter is laid out.

    Attributes:
        scope: "global": one gene (per parent); "group": one in each region.
        values: parent name to range or fixed value; one key, None, for a parameter that all parents share.
    """

    parameter: Parameter
    scope: str
    values: Mapping[str | None, Range | float | bool | str]

    @property
    def evolves(self) -> bool:
        """Whether any of its values is a gene."""
        return any(isinstance(value, Range) for value in self.values.values())


def read_settings(
    method: MethodSpec,
    parents: Sequence[str],
    parameters: Mapping[str, Any],
    genes: Mapping[str, Any],
    problems: list[str],
) -> list[Setting]:
    """Return the setting of each parameter of the method, in the method's order.

    Args:
        method: the merge method.
        parents: names of the parents.
        parameters: parameter to fixed value; a per-parent one to one number for all, or to numbers by parent name,
            where parents that are not named stay genes.
        genes: parameter to `{low, high, start, log, fixed, scope, parents: {name: {low, high, start, log, fixed}}}`.
        problems: gets one sentence per mistake; with any mistake, the result is of no use.
    """
    known = [parameter.name for parameter in method.parameters]
    problems += [unknown_name(f"parameter of {method.name}", name, known) for name in parameters if name not in known]
    problems += [
        f"`space.genes`: {unknown_name(f'parameter of {method.name}', name, known)}"
        for name in genes
        if name not in known
    ]
    found: list[str] = []
    settings = [
        _read(parameter, parents, parameters.get(parameter.name), genes.get(parameter.name), found)
        for parameter in method.parameters
    ]
    problems += dict.fromkeys(found)  # what holds for all parents is found for each
    return settings


def _read(parameter: Parameter, parents: Sequence[str], fixed: Any, override: Any, problems: list[str]) -> Setting:
    where = f"`space.genes.{parameter.name}`"
    scope = parameter.scope
    keys = parents if parameter.per_parent else (None,)
    is_number = isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool)
    if override is not None and not isinstance(override, Mapping):
        problems.append(f"{where} must be a mapping like {{low:, high:, start:}}, but came {override!r}")
        override = None
    if override is not None and not is_number:
        kind = f"one of {', '.join(parameter.choices)}" if parameter.choices else "true or false"
        problems.append(f"{where}: {parameter.name} is {kind}, which cannot be evolved; fix it in `method.parameters`")
        override = None
    problems += [unknown_name(f"key in {where}", str(key), _KEYS) for key in override or () if key not in _KEYS]
    own = {key: value for key, value in (override or {}).items() if key in _PARENT_KEYS and value is not None}
    if override and override.get("scope") is not None:
        scope = override["scope"]
        if scope not in SCOPES:
            problems.append(unknown_name(f"scope in {where}", str(scope), SCOPES))
    by_parent = _by_parent(parameter, parents, override, where, problems)
    fixed_of = _fixed_values(parameter, parents, fixed, problems)
    values: dict[str | None, Range | float | bool | str] = {}
    for key in keys:
        said = {**own, **by_parent.get(key, {})} if key is not None else own
        place = f"`space.genes.{parameter.name}.parents.{key}`" if key in by_parent else where
        # A range for all parents and a fixed value for one of them (or the reverse) do not contradict each other.
        nearest = by_parent.get(key, own) if key is not None else own
        first = key in parents[:1]
        if "fixed" in nearest:
            said = {name: value for name, value in said.items() if name == "fixed" or name in nearest}
        elif any(name in nearest for name in _RANGE_KEYS):
            said.pop("fixed", None)
        if key in fixed_of:
            if said:
                whose = f"{parameter.name} of {key}" if key else parameter.name
                problems.append(f"{whose} is fixed in `method.parameters` and set in {place}; keep one of the two")
            values[key] = fixed_of[key]
        elif not is_number or (not parameter.gene and override is None) or (first and not parameter.for_first):
            values[key] = parameter.default
        elif "fixed" in said:
            values[key] = _fixed(said, place, problems)
        else:
            values[key] = _range(parameter, said, place, problems)
    return Setting(parameter, scope, values)


def _by_parent(
    parameter: Parameter, parents: Sequence[str], override: Any, where: str, problems: list[str]
) -> dict[str | None, dict[str, Any]]:
    data = (override or {}).get("parents")
    if data is None:
        return {}
    if not parameter.per_parent:
        problems.append(f"{where}: {parameter.name} is one number for all parents, so `parents` has no meaning there")
        return {}
    if not isinstance(data, Mapping):
        problems.append(f"{where}: `parents` must map parent names to ranges, but came {data!r}")
        return {}
    result: dict[str | None, dict[str, Any]] = {}
    for name, said in data.items():
        if name not in parents:
            problems.append(unknown_name(f"parent in {where}", str(name), parents))
        elif not isinstance(said, Mapping):
            problems.append(f"{where}: `parents.{name}` must be a mapping like {{start: 0.8}}, but came {said!r}")
        else:
            unknown = [key for key in said if key not in _PARENT_KEYS]
            problems += [unknown_name(f"key in {where} for {name}", str(key), _PARENT_KEYS) for key in unknown]
            result[name] = {key: value for key, value in said.items() if key in _PARENT_KEYS and value is not None}
    return result


def _fixed_values(
    parameter: Parameter, parents: Sequence[str], fixed: Any, problems: list[str]
) -> dict[str | None, float | bool | str]:
    where = f"`method.parameters.{parameter.name}`"
    if fixed is None:
        return {}
    if isinstance(fixed, Mapping):
        if not parameter.per_parent:
            problems.append(f"{where} must be one value for all parents, but came {dict(fixed)}")
            return {}
        problems += [unknown_name(f"parent in {where}", str(name), parents) for name in fixed if name not in parents]
        named = {name: value for name, value in fixed.items() if name in parents}
    else:
        named = dict.fromkeys(parents if parameter.per_parent else (None,), fixed)
    wrong = [value for value in named.values() if not _fits(parameter, value)]
    if wrong:
        if parameter.choices:
            problems.append(unknown_name(f"value of {where}", str(wrong[0]), parameter.choices))
        else:
            kind = "true or false" if isinstance(parameter.default, bool) else "a finite number"
            problems.append(f"{where} must be {kind}, but came {wrong[0]!r}")
        return {}
    return {name: value if isinstance(value, (bool, str)) else float(value) for name, value in named.items()}


def _fits(parameter: Parameter, value: Any) -> bool:
    if parameter.choices:
        return value in parameter.choices
    if isinstance(parameter.default, bool):
        return isinstance(value, bool)
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _fixed(said: Mapping[str, Any], place: str, problems: list[str]) -> float:
    extra = [key for key in _RANGE_KEYS if key in said]
    if extra:
        problems.append(f"{place} has `fixed` and also {', '.join(extra)}; a fixed value has no range")
    if not _is_number(said["fixed"]):
        problems.append(f"{place}: `fixed` must be a finite number, but came {said['fixed']!r}")
        return 0.0
    return float(said["fixed"])


def _range(parameter: Parameter, said: Mapping[str, Any], place: str, problems: list[str]) -> Range:
    wrong = [key for key in ("low", "high", "start") if key in said and not _is_number(said[key])]
    problems += [f"{place}: `{key}` must be a finite number, but came {said[key]!r}" for key in wrong]
    log = said.get("log", parameter.log)
    if not isinstance(log, bool):
        problems.append(f"{place}: `log` must be true or false, but came {log!r}")
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
    else:
        start = float(parameter.default)
        # From the border of its range a gene could move in one direction only, so the middle is the better start.
        if not low < start < high:
            start = math.sqrt(low * high) if log else low + (high - low) / 2
    return Range(low, high, start, log)
