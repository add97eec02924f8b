"""The parameters of a recipe as mergekit's: slices of layers that are alike, with filters by parts of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from evomerge.errors import RecipeError
from evomerge.interop.mergekit.models import Models, TensorName
from evomerge.interop.mergekit.parts import shortest_parts
from evomerge.interop.mergekit.vocabulary import MethodWords, Word
from evomerge.merge.methods.registry import find_method
from evomerge.recipe import Group, Recipe, Value


@dataclass
class SliceSettings:
    """The parameters of a slice: those of each model (None: of the only one), and those of all."""

    per_model: dict[str | None, dict[str, Any]] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)


class SettingsWriter:
    """Finds what a recipe gives each tensor, and says it in mergekit's words.

    Args:
        recipe: the recipe.
        words: its method.
        models: tell the names of tensors, where groups go by layers or roles.
        where: what stands before each problem.
        problems: gets what mergekit cannot express.

    Attributes:
        by_layer: whether layers may differ.
        n_layers: of the result; 0 where it is not known.
    """

    def __init__(self, recipe: Recipe, words: MethodWords, models: Models, where: str, problems: list[str]) -> None:
        self._recipe, self._words, self._where, self._problems = recipe, words, where, problems
        self._defaults = {one.name: one.default for one in find_method(recipe.method).spec.parameters}
        ours = words.divided(self._defaults)
        self.by_layer = any(group.layers is not None for group in recipe.groups)
        self._by_role = any(group.roles is not None for group in recipe.groups)
        self._tensors: tuple[TensorName, ...] = ()
        self.n_layers = len(recipe.path)
        self._models = models
        self._parts = tuple(part for group in recipe.groups for part in group.tensors or ())
        self._keys: list[tuple[Word, str | None]] = []
        names = [parent.name for parent in recipe.parents]
        for word in words.words:
            if word.ours not in ours:
                continue  # what mergekit does without it
            per_model = names if word.per_model and words.theirs != "passthrough" else [None]
            self._keys += [(word, name) for name in per_model]
        if self.by_layer or self._by_role:
            try:
                whole = recipe if recipe.path else recipe.donor.source
                self._tensors, self.n_layers = models.tensor_names(whole), models.n_layers(whole)
            except RecipeError as error:
                self._cannot(f"groups by layers or roles are written by the names of tensors, but {error}")
        self._check()

    def whole(self) -> SliceSettings:
        """Return the parameters of all tensors, where layers do not differ."""
        if self._tensors:
            return self._rows([*self._at("pre"), *self._at(0), *self._at("post")])
        return self._by_parts()

    def slices(self, breaks: AbstractSet[int]) -> Iterator[tuple[int, int, SliceSettings]]:
        """Yield runs of layers of the result that are alike, with their parameters.

        Args:
            breaks: layers at which a new run must begin.
        """
        if not self.n_layers:
            try:
                self.n_layers = self._models.n_layers(self._recipe.donor.source)
            except RecipeError as error:
                self._cannot(str(error))
                return
        start = 0
        for stop in range(1, self.n_layers + 1):
            alike = stop < self.n_layers and stop not in breaks and self._alike(start, stop)
            if not alike:
                yield start, stop, self._slice(start, stop)
                start = stop

    def _slice(self, start: int, stop: int) -> SliceSettings:
        if not self._tensors:
            return self._by_parts()
        here = list(self._at(start))
        here += self._at("pre") if start == 0 else []
        here += self._at("post") if stop == self.n_layers else []
        return self._rows(here)

    def _at(self, where: int | str) -> list[TensorName]:
        if isinstance(where, int):
            return [one for one in self._tensors if one.layer == where]
        return [one for one in self._tensors if one.layer is None and (one.role == "embedding") == (where == "pre")]

    def _alike(self, one: int, other: int) -> bool:
        def told(layer: int) -> dict[str, list[Any]]:
            return {
                tensor.name.replace(f".{layer}.", ".", 1): [self._number(*key, tensor) for key in self._keys]
                for tensor in self._at(layer)
            }

        return told(one) == told(other)

    def _rows(self, tensors: Sequence[TensorName]) -> SliceSettings:
        found = SliceSettings()
        for word, name in self._keys:
            values = {tensor.name: self._number(word, name, tensor) for tensor in tensors}
            rest = self._number_in(word, name, None)
            parts = shortest_parts(values, rest if rest in values.values() else None, self._parts)
            self._add(found, word, name, parts)
        return found

    def _by_parts(self) -> SliceSettings:
        """Return the parameters where groups go by parts of names alone, or there are none."""
        found = SliceSettings()
        groups: list[Group | None] = [*self._recipe.groups, None]
        for word, name in self._keys:
            entries: list[tuple[str | None, Any]] = []
            for group in groups:
                value = self._number_in(word, name, group)
                parts = [None] if group is None else list(group.tensors or ())
                entries += [(part, value) for part in parts]
            while len(entries) > 1 and entries[-2][1] == entries[-1][1]:
                del entries[-2]
            self._add(found, word, name, entries)
        return found

    def _add(
        self, found: SliceSettings, word: Word, name: str | None, entries: Sequence[tuple[str | None, Any]]
    ) -> None:
        if word.theirs == "scale" and all(value == 1.0 for _, value in entries):
            return
        own = found.per_model.setdefault(name, {}) if word.per_model else found.shared
        if len(entries) == 1:
            own[word.theirs] = entries[0][1]
        else:
            own[word.theirs] = [
                {"value": value} if part is None else {"filter": part, "value": value} for part, value in entries
            ]

    def _number(self, word: Word, name: str | None, tensor: TensorName) -> Any:
        return self._number_in(word, name, self._recipe.group_of(tensor.role, tensor.layer, tensor.name))

    def _number_in(self, word: Word, name: str | None, group: Group | None) -> Any:
        return word.theirs_of(_of(self._values(group)[word.ours], name))

    def _values(self, group: Group | None) -> Mapping[str, Value]:
        """Return the parameters of a group with our defaults."""
        return self._words.divided({**self._defaults, **self._recipe.parameters_in(group)})

    def _check(self) -> None:
        """Name values that mergekit has no word for."""
        for group in (None, *self._recipe.groups):
            values = self._values(group)
            for name, value in values.items():
                word = next((word for word in self._words.words if word.ours == name), None)
                if word is None:
                    same = self._words.fixed.get(name)
                    if value != same:
                        instead = "" if same is None else f"; its {self._words.theirs} is {name}: {_shown(same)}"
                        self._cannot(
                            f"mergekit has no word for {name}: {_shown(value)} of {self._recipe.method}{instead}"
                        )
                elif word.words and value not in word.words:
                    self._cannot(f"mergekit has no word for {name}: {_shown(value)} of {self._recipe.method}; it knows "
                                 f"{' and '.join(word.words)}")  # fmt: skip
                elif isinstance(value, Mapping) and not word.per_model and len(set(value.values())) > 1:
                    self._cannot(f"mergekit has one {word.theirs} for all models, but came {dict(value)}")
            if "gamma" in values:
                self._check_outliers(values["density"], values["gamma"])

    def _check_outliers(self, density: Value, gamma: Value) -> None:
        for parent in self._recipe.parents:
            keep, cut = float(_of(density, parent.name)), float(_of(gamma, parent.name))
            if keep < 1.0 and cut == 0.0:
                self._cannot(f"of {self._recipe.method} with gamma: 0, mergekit drops the whole task vector of "
                             f"{parent.name}, unless its density is 1")  # fmt: skip
            elif cut > 0.0 and keep + cut > 1.0:
                self._cannot(f"mergekit removes fewer outliers than gamma of {self._recipe.method} says where density "
                             f"+ gamma is more than 1, but {parent.name} has {keep:g} + {cut:g}")  # fmt: skip

    def _cannot(self, text: str) -> None:
        if f"{self._where}{text}" not in self._problems:
            self._problems.append(f"{self._where}{text}")


def _of(value: Value, name: str | None) -> Any:
    if isinstance(value, Mapping):
        return value[name] if name is not None else next(iter(value.values()))
    return value


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
