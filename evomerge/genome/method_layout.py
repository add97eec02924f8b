"""One merge method in a parameter space: the genes of its parameters, and what a recipe says with their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from evomerge.genome.gene_values import EVOLVED, Options, Range
from evomerge.genome.layout import Region
from evomerge.genome.settings import Setting
from evomerge.genome.space import Gene
from evomerge.genome.start import Starts, differing, start_at, start_value
from evomerge.genome.unmoved import Idle, LeftOut, Unmoved
from evomerge.recipe import Value
from evomerge.recipe.method import MethodSpec, Parameter
from evomerge.system.text import condition, value_word

Values: TypeAlias = Mapping[str, float]
"""The value of each gene by its name."""


class MethodLayout:
    """The genes of one method's parameters, by region, and the parameters of recipes.

    A parameter counts in a region where the parameters that it depends on have the values that it asks for
    (`Parameter.when`). Elsewhere it sleeps: recipes do not give it, so its gene changes nothing. One that counts in
    matrices alone has no gene in regions without them.

    Args:
        method: the merge method.
        parents: names of the parents, in order.
        regions: the regions of the space.
        settings: of the method's parameters.
        unmoved: where parents equal the base (see `Unmoved`); None: that is not known.
        prefix: what its genes' names begin with, where several methods have genes.
        starts: by region, the values with which a search begins; those of parameters that are no genes stay.
    """

    def __init__(
        self,
        method: MethodSpec,
        parents: Sequence[str],
        regions: Sequence[Region],
        settings: Sequence[Setting],
        unmoved: Unmoved | None = None,
        prefix: str = "",
        starts: Starts | None = None,
    ) -> None:
        self.method = method
        self._regions = tuple(region.name for region in regions)
        self._without_matrices = frozenset(region.name for region in regions if not region.holds_matrices)
        self._starts: Starts = starts or {}
        settings = start_at(settings, self._starts)
        self._apart = differing(settings, self._starts)
        self._settings = {setting.name: setting for setting in settings}
        self._prefix = prefix
        self.idle = Idle(method, parents, regions, settings, unmoved)
        self._in_regions = frozenset(name for name in self._settings if self._differs(name))

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, by parameter, parent and region; without those that could change nothing."""
        return tuple(
            self._gene(setting, parent, region, value)
            for setting in self._settings.values()
            for parent, value in setting.values.items()
            if isinstance(value, EVOLVED)
            for region in (self._regions if setting.scope == "group" else ("",))
            if not self.idle.is_idle(parent, region) and self._fits(setting, region)
        )

    @property
    def left_out(self) -> list[LeftOut]:
        """The genes that could change nothing and are left out, by region; of the whole model under the name ""."""
        parents, found = self.idle.parents, []
        for name in (*self._regions, ""):
            n = sum(
                self.idle.is_idle(parent, name) and self._fits(setting, name)
                for setting in self._settings.values()
                if (setting.scope == "global") == (name == "")
                for parent, value in setting.values.items()
                if isinstance(value, EVOLVED)
            )
            if n:
                idle = tuple(parent for parent in parents if self.idle.is_idle(parent, name))
                found.append(LeftOut(name, idle, self.idle.in_whole(name), n, self.method.name))
        return found

    def everywhere(self, values: Values, regions: Collection[str], *, in_groups: bool = False) -> dict[str, Value]:
        """Return the parameters that are the same in all regions.

        Args:
            values: of the genes.
            regions: those that this method merges. Where no parent takes part in any of them, genes have no say.
            in_groups: whether groups of a recipe are to say them; what no group may set then has its default.
        """
        place = "" if any(not self.idle.in_whole(region) for region in regions) else next(iter(regions))
        return {
            name: self._value(setting, place, values)
            for name, setting in self._settings.items()
            if name not in self._in_regions and self._counts(setting, place, values)
            if setting.parameter.in_groups or not in_groups
        }

    def here(self, region: str, values: Values) -> dict[str, Value]:
        """Return the parameters of one region beside those that are the same in all."""
        return {
            name: self._value(setting, region, values)
            for name, setting in self._settings.items()
            if (name in self._in_regions or (self.idle.of(region) and self.idle.says(setting)))
            and self._counts(setting, region, values)
        }

    @property
    def has_groups(self) -> bool:
        """Whether recipes of this method alone need groups."""
        return bool(self._in_regions) or any(self.idle.of(region) for region in self._regions)

    def awake(self, values: Values, regions: Collection[str]) -> set[str]:
        """Return the names of the genes that change the recipe.

        Args:
            values: of the genes.
            regions: those that this method merges.
        """
        found = set()
        for setting in self._settings.values():
            counts = [
                region for region in regions if not self.idle.in_whole(region) and self._counts(setting, region, values)
            ]
            for parent, value in setting.values.items():
                if isinstance(value, EVOLVED) and setting.scope == "group":
                    found |= {self._name(setting, parent, region) for region in counts}
                elif isinstance(value, EVOLVED) and counts:
                    found.add(self._name(setting, parent, ""))
        return found

    def _differs(self, name: str) -> bool:
        """Return whether a parameter may have another value, or sleep, in some regions only."""
        setting = self._settings[name]
        if (setting.evolves and setting.scope == "group") or name in self._apart:
            return True
        return any(self._differs(other) for other in setting.parameter.when if other in self._settings)

    def _fits(self, setting: Setting, region: str) -> bool:
        """Return whether a region holds tensors of the kind in which a parameter counts."""
        return not setting.parameter.matrices or region not in self._without_matrices

    def _counts(self, setting: Setting, region: str, values: Values) -> bool:
        return self._fits(setting, region) and all(
            self._shared(other, region, values) in wanted for other, wanted in setting.parameter.when.items()
        )

    def _shared(self, name: str, region: str, values: Values) -> Any:
        """Return the value of a parameter that all parents share; one that sleeps has its default."""
        setting = self._settings.get(name)
        if setting is None or not self._counts(setting, region, values):
            parameter = self.method.parameter(name)
            assert parameter is not None, f"{self.method.name} has no parameter {name!r}"
            return parameter.default
        return self._one(setting, None, region, values)

    def _value(self, setting: Setting, region: str, values: Values) -> Value:
        """Return the value of a parameter in a region ("": in the whole model), for all parents or by parent name."""
        found = {parent: self._one(setting, parent, region, values) for parent in setting.values}
        if None in found:
            return found[None]
        alike = len(set(found.values())) == 1
        if alike and (not setting.evolves or self.idle.in_whole(region)):
            return next(iter(found.values()))
        return {str(parent): value for parent, value in found.items()}

    def _one(self, setting: Setting, parent: str | None, region: str, values: Values) -> Any:
        value = setting.values[parent]
        if self.idle.is_idle(parent, region):
            return self.idle.constant(setting, parent)
        if not isinstance(value, EVOLVED):
            start = start_value(setting, parent, region, self._starts)
            return value if start is None else start
        number = values[self._name(setting, parent, region)]
        return value.choices[int(number)] if isinstance(value, Options) else number

    def _gene(self, setting: Setting, parent: str | None, region: str, value: Range | Options) -> Gene:
        name, doc, when = self._name(setting, parent, region), setting.parameter.doc, self._when(setting.parameter)
        found = start_value(setting, parent, region, self._starts)
        start = value.start if found is None else found
        if isinstance(value, Options):
            return Gene.choice(name, [value_word(one) for one in value.choices], value_word(start), doc, when)
        if value.integer:
            return Gene.integer(name, int(value.low), int(value.high), int(start), doc, when)
        return Gene(name, value.low, value.high, float(start), value.log, doc, when=when)

    def _when(self, parameter: Parameter) -> str:
        parts = [f"method is {self._prefix}" if self._prefix else "", condition(parameter.when)]
        return " and ".join(part for part in parts if part)

    def _name(self, setting: Setting, parent: str | None, region: str) -> str:
        place = region if setting.scope == "group" else ""
        return ".".join(part for part in (self._prefix, setting.name, parent, place) if part)
