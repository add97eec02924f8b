"""A recipe with which a search begins: its groups are the regions of the space, its numbers the starts of the genes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from evomerge.genome.gene_values import EVOLVED, Options, Range
from evomerge.genome.layout import Place, Region
from evomerge.genome.settings import Setting
from evomerge.recipe import Group, Recipe, Value
from evomerge.recipe.method import MethodSpec
from evomerge.system.text import value_word

Starts: TypeAlias = Mapping[str, Mapping[str, Value]]
"""Region to the parameters that a recipe has there, those that it leaves out with their defaults."""

Tensor: TypeAlias = tuple[str, "int | None", str]
"""Role, layer and name of a tensor."""

REST = "rest"
"""The region of the tensors that no group of the recipe matches."""


def group_regions(recipe: Recipe, tensors: Collection[Tensor] | None) -> dict[Region, Group | None]:
    """Return the regions that the groups of a recipe make, in their order, and each one's group.

    Args:
        recipe: the recipe.
        tensors: of the model; groups without any of them make no region. None: they are not known.
    """
    wanted = None if tensors is None else {id(recipe.group_of(*tensor)) for tensor in tensors}
    names: dict[str, int] = {}
    found: dict[Region, Group | None] = {}
    for group in (*recipe.groups, None):
        if wanted is not None and id(group) not in wanted:
            continue
        name = REST if group is None else group.name or _name(group)
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}_{names[name]}"
        place = Place(None, None) if group is None else Place(group.layers, group.roles, group.tensors)
        found[Region(name, (place,))] = group
    return found


def starts_of(method: MethodSpec, recipe: Recipe, groups: Mapping[str, Group | None]) -> dict[str, dict[str, Value]]:
    """Return the parameters of one method in the regions that it merges.

    Args:
        method: the method.
        recipe: the recipe.
        groups: region to its group of the recipe.
    """
    return {
        region: {parameter.name: given.get(parameter.name, parameter.default) for parameter in method.parameters}
        for region, group in groups.items()
        if recipe.method_of(group) == method.name
        for given in [recipe.parameters_in(group)]
    }


def start_at(settings: Sequence[Setting], starts: Starts) -> list[Setting]:
    """Return the settings with a gene in each region for parameters whose starts differ between the regions."""
    return [
        replace(setting, scope="group")
        if setting.scope == "global" and setting.parameter.in_groups and _differ(setting.name, starts)
        else setting
        for setting in settings
    ]


def start_value(setting: Setting, parent: str | None, region: str, starts: Starts) -> Any:
    """Return the value with which a search begins ("": in all regions); None: what the setting says."""
    found = starts.get(region) if region else next(iter(starts.values()), None)
    if found is None or setting.name not in found:
        return None
    value = found[setting.name]
    return value.get(str(parent), setting.parameter.default) if isinstance(value, Mapping) else value


def start_problems(
    method: MethodSpec, settings: Sequence[Setting], starts: Starts, said: Collection[str], below: str
) -> list[str]:
    """Return why a search cannot begin with these values, one sentence each.

    Args:
        method: the method.
        settings: of its parameters.
        starts: its values by region.
        said: names of the parameters about which the configuration says something.
        below: where several methods have settings, the name under which this one's are.
    """
    problems = []
    place = f"space.genes{f'.{below}' if below else ''}"
    for setting in settings:
        for region in starts:
            for parent, value in setting.values.items():
                start = start_value(setting, parent, region, starts)
                whose = f"{setting.name} of {method.name}{f' for {parent}' if parent else ''}"
                whose = f"`space.start`: {whose} is {value_word(start)} in {region}"
                if isinstance(value, Range) and not value.low <= float(start) <= value.high:
                    side = "high" if float(start) > value.high else "low"
                    problems.append(
                        f"{whose}, outside of the range of its gene, [{value.low:g}, {value.high:g}]; widen it with "
                        f"`{place}.{setting.name}: {{{side}: {value_word(start)}}}`"
                    )
                elif isinstance(value, Options) and start not in value.choices:
                    known = ", ".join(map(value_word, value.choices))
                    problems.append(f"{whose}, which is none of `{place}.{setting.name}.choices` ({known})")
                elif not isinstance(value, EVOLVED) and setting.name in said and start != value:
                    problems.append(f"{whose}, but the configuration fixes it at {value_word(value)}; leave that out")
    return list(dict.fromkeys(problems))


def differing(settings: Sequence[Setting], starts: Starts) -> frozenset[str]:
    """Return the parameters that are no genes and have different values in the regions of a recipe."""
    return frozenset(one.name for one in settings if not one.evolves and _differ(one.name, starts))


def _differ(name: str, starts: Starts) -> bool:
    found = [one.get(name) for one in starts.values()]
    return any(value != found[0] for value in found)


def _name(group: Group) -> str:
    parts = []
    if group.layers is not None:
        first, last = group.layers[0], group.layers[1] - 1
        parts.append(f"layers{first}" if first == last else f"layers{first}-{last}")
    parts += ["+".join(group.roles)] if group.roles is not None else []
    parts += ["+".join(part.strip(".") for part in group.tensors)] if group.tensors is not None else []
    return ".".join(parts) or "all"
