"""The user's settings for each parameter of a method: fixed, or a gene with a range (or words) and a start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import unknown_name
from evomerge.genome.gene_values import (
    EVOLVED,
    Fixed,
    Options,
    Range,
    misfit,
    read_fixed,
    read_range,
    read_words,
)
from evomerge.recipe.method import SCOPES, MethodSpec, Parameter
from evomerge.system.text import condition

_KEYS = ("low", "high", "start", "log", "choices", "fixed", "scope", "parents")
_PARENT_KEYS = ("low", "high", "start", "log", "fixed")
_RANGE_KEYS = ("low", "high", "start", "log")
_OWN_KEYS = {
    "float": _PARENT_KEYS,
    "integer": _PARENT_KEYS,
    **dict.fromkeys(("choice", "flag"), ("choices", "start", "fixed")),
}


@dataclass(frozen=True)
class Setting:
    """How one parameter is laid out.

    Attributes:
        scope: "global": one gene (per parent); "group": one in each region.
        values: parent name to what is evolved or a fixed value; one key, None, for a parameter that all parents share.
    """

    parameter: Parameter
    scope: str
    values: Mapping[str | None, Range | Options | Fixed]

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name

    @property
    def evolves(self) -> bool:
        """Whether any of its values is a gene."""
        return any(isinstance(value, EVOLVED) for value in self.values.values())


def read_settings(
    method: MethodSpec,
    parents: Sequence[str],
    parameters: Mapping[str, Any],
    genes: Mapping[str, Any],
    problems: list[str],
    *,
    below: str = "",
    whole: bool = True,
) -> list[Setting]:
    """Return the setting of each parameter of the method, in the method's order.

    Parameters that sleep whatever the genes are (`Parameter.when`) have none.

    Args:
        method: the merge method.
        parents: names of the parents.
        parameters: parameter to fixed value; a per-parent one to one number for all, or to numbers by parent name,
            where parents that are not named stay genes.
        genes: parameter to `{low, high, start, log, fixed, scope, parents: {name: {low, high, start, log, fixed}}}`, or
            to `{choices, start, fixed, scope}` for words and flags.
        problems: gets one sentence per mistake; with any mistake, the result is of no use.
        below: where several methods have settings, the name under which this one's are.
        whole: whether the method merges the whole model. If not, parameters that no group may set keep their defaults.
    """
    reader = _Reader(method, parents, whole, f".{below}" if below else "")
    known = [parameter.name for parameter in method.parameters]
    where = f"`space.genes{reader.below}`: "
    problems += [unknown_name(f"parameter of {method.name}", str(one), known) for one in parameters if one not in known]
    problems += [
        where + unknown_name(f"parameter of {method.name}", str(one), known) for one in genes if one not in known
    ]
    settings = [
        reader.read(parameter, parameters.get(parameter.name), genes.get(parameter.name, _NOTHING))
        for parameter in method.parameters
    ]
    problems += dict.fromkeys(reader.problems)  # what holds for all parents is found for each
    return [] if reader.problems else _awake(method, settings, {*parameters, *genes}, where, problems)


def _awake(
    method: MethodSpec, settings: Sequence[Setting], named: set[str], where: str, problems: list[str]
) -> list[Setting]:
    """Return the settings of parameters that can ever count; note those that the user named in vain."""
    of = {setting.name: setting for setting in settings}
    can: dict[str, bool] = {}

    def possible(name: str) -> bool:
        if name not in can:
            can[name] = all(
                _may_be(of[other], values, possible(other)) for other, values in of[name].parameter.when.items()
            )
        return can[name]

    for setting in settings:
        if not possible(setting.name):
            if setting.name in named:
                problems.append(
                    f"{where}{setting.name} of {method.name} never counts here: it does where "
                    f"{condition(setting.parameter.when)}; leave it out"
                )
        elif not setting.parameter.in_groups:
            problems += [
                f"{where}{setting.name} of {method.name} holds for the whole model and depends on {other}, so set "
                f"`scope: global` for {other}"
                for other in setting.parameter.when
                if other in of and of[other].evolves and of[other].scope == "group"
            ]
    return [setting for setting in settings if possible(setting.name)]


def _may_be(setting: Setting, wanted: Sequence[Any], counts: bool) -> bool:
    """Return whether a parameter can have one of these values; one that sleeps has its default."""
    if not counts:
        return setting.parameter.default in wanted
    value = next(iter(setting.values.values()))
    if isinstance(value, Options):
        return any(one in wanted for one in value.choices)
    if isinstance(value, Range):
        return any(value.low <= one <= value.high for one in wanted)
    return value in wanted


_NOTHING: Any = object()


class _Reader:
    """Reads what the user says about each parameter of one method; notes every mistake."""

    def __init__(self, method: MethodSpec, parents: Sequence[str], whole: bool, below: str) -> None:
        self._method, self._parents, self._whole = method, parents, whole
        self.below = below
        self.problems: list[str] = []

    def read(self, parameter: Parameter, fixed: Any, override: Any) -> Setting:
        """Return the setting of one parameter.

        Args:
            parameter: the parameter.
            fixed: what `method.parameters` says; None: nothing.
            override: what `space.genes` says; `_NOTHING`: it does not name the parameter.
        """
        where = f"`space.genes{self.below}.{parameter.name}`"
        named, problems, kind = override is not _NOTHING, self.problems, parameter.kind
        said_of = {} if not named or override is None else override
        if not isinstance(said_of, Mapping):
            example = "{choices: [...]}" if kind in ("choice", "flag") else "{low:, high:, start:}"
            problems.append(f"{where} must be a mapping like {example}, but came {override!r}")
            said_of, named = {}, False
        problems += [unknown_name(f"key in {where}", str(key), _KEYS) for key in said_of if key not in _KEYS]
        own = {key: value for key, value in said_of.items() if key in _KEYS[:6] and value is not None}
        problems += [
            f"{where}: `{key}` has no meaning for {parameter.name}, which is {_kind_words(parameter)}"
            for key in own
            if key not in _OWN_KEYS[kind]
        ]
        own = {key: value for key, value in own.items() if key in _OWN_KEYS[kind]}
        scope = self._scope(parameter, said_of.get("scope"), where)
        by_parent = _by_parent(parameter, self._parents, said_of, where, problems)
        fixed_of = _fixed_values(
            parameter, self._parents, fixed, f"`method.parameters{self.below}.{parameter.name}`", problems
        )
        if not self._whole and not parameter.in_groups:
            if (named and "fixed" not in own) or any(value != parameter.default for value in fixed_of.values()):
                problems.append(
                    f"{parameter.name} of {self._method.name} holds for the whole model, so groups of layers with "
                    "methods of their own cannot have it: leave it out, or set `space.method.scope: global`"
                )
            return Setting(parameter, "global", dict.fromkeys(self._keys(parameter), parameter.default))
        values: dict[str | None, Range | Options | Fixed] = {}
        for key in self._keys(parameter):
            said = {**own, **by_parent.get(key, {})} if key is not None else own
            place = f"`space.genes{self.below}.{parameter.name}.parents.{key}`" if key in by_parent else where
            # A range for all parents and a fixed value for one of them (or the reverse) do not contradict each other.
            nearest = by_parent.get(key, own) if key is not None else own
            if "fixed" in nearest:
                said = {name: value for name, value in said.items() if name == "fixed" or name in nearest}
            elif any(name in nearest for name in _RANGE_KEYS):
                said.pop("fixed", None)
            if key in fixed_of:
                if said:
                    whose = f"{parameter.name} of {key}" if key else parameter.name
                    problems.append(f"{whose} is fixed in `method.parameters` and set in {place}; keep one of the two")
                values[key] = fixed_of[key]
            elif key in self._parents[:1] and not parameter.for_first:
                values[key] = parameter.default
                if key in by_parent:
                    problems.append(f"{place}: {key} is the parent that the others are added to; leave it out")
            elif not parameter.gene and not named:
                values[key] = parameter.default
            elif "fixed" in said:
                values[key] = read_fixed(parameter, said, place, problems)
            elif kind in ("choice", "flag"):
                values[key] = read_words(parameter, said, place, problems)
            else:
                values[key] = read_range(parameter, said, place, problems)
        return Setting(parameter, scope, values)

    def _keys(self, parameter: Parameter) -> Sequence[str | None]:
        return self._parents if parameter.per_parent else (None,)

    def _scope(self, parameter: Parameter, said: Any, where: str) -> str:
        if said is None:
            return parameter.scope if parameter.in_groups else "global"
        if said not in SCOPES:
            self.problems.append(unknown_name(f"scope in {where}", str(said), SCOPES))
        elif said == "group" and not parameter.in_groups:
            self.problems.append(f"{where}: {parameter.name} holds for the whole model, so its scope is global")
        return str(said)


def _by_parent(
    parameter: Parameter, parents: Sequence[str], override: Mapping[str, Any], where: str, problems: list[str]
) -> dict[str | None, dict[str, Any]]:
    data = override.get("parents")
    if data is None:
        return {}
    if not parameter.per_parent:
        problems.append(
            f"{where}: {parameter.name} is one {_value_word(parameter)} for all parents, so `parents` has no meaning "
            "there"
        )
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
    parameter: Parameter, parents: Sequence[str], fixed: Any, where: str, problems: list[str]
) -> dict[str | None, Fixed]:
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
    found: dict[str | None, Fixed] = {}
    for key, value in named.items():
        problem = misfit(parameter, value, where)
        if problem is not None:
            problems.append(problem)
            return {}
        found[key] = value if isinstance(value, (bool, str)) else float(value)
    return found


def _kind_words(parameter: Parameter) -> str:
    words = {"choice": f"one of {', '.join(parameter.choices)}", "flag": "true or false", "integer": "a whole number"}
    return words.get(parameter.kind, "a number")


def _value_word(parameter: Parameter) -> str:
    return "value" if parameter.kind in ("choice", "flag") else "number"
