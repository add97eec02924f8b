"""Slices as columns: the first input of each slice, the second one …, each a parent of the recipe.

A column that takes a model's layers as they are is that model. Every other one is a stack of layers (a recipe with a
layer path), so that the recipe merges stacks with stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evomerge.interop.mergekit.models import Source
from evomerge.interop.mergekit.schema import Input, Reference
from evomerge.recipe import PASSTHROUGH, Parent, Recipe, Step

Resolve = Callable[[Reference], Source]


@dataclass(frozen=True)
class InputColumn:
    """One input of each slice. Where a slice has none, layers of another model stand in, and take no part."""

    inputs: tuple[Input | None, ...]
    runs: tuple[tuple[Reference, int, int], ...]

    @property
    def models(self) -> tuple[Reference, ...]:
        """Its models, without repeats."""
        return tuple(dict.fromkeys(model for model, _, _ in self.runs))

    def whole(self, n_layers: Callable[[Reference], int]) -> bool:
        """Return whether it is all layers of one model in their order."""
        if len(self.models) > 1:
            return False
        stops = [0, *(stop for _, _, stop in self.runs)]
        return all(run[1] == stop for run, stop in zip(self.runs, stops, strict=False)) and stops[-1] == n_layers(
            self.models[0]
        )


def columns_of(rows: Sequence[Sequence[Input]], fill: Sequence[Reference]) -> list[InputColumn]:
    """Return the columns of some slices.

    Args:
        rows: the inputs of each slice that are merged, with layer ranges.
        fill: for each slice, the model whose layers stand in for an input that it lacks.
    """
    sets = [frozenset(one.model for one in row) for row in rows]
    if all(one == sets[0] and len(one) == len(row) for one, row in zip(sets, rows, strict=True)):
        order = [one.model for one in rows[0]]  # the same models everywhere: each is a column
        rows = [sorted(row, key=lambda one: order.index(one.model)) for row in rows]
    columns = []
    for i in range(max(map(len, rows))):
        inputs = tuple(row[i] if i < len(row) else None for row in rows)
        runs = []
        for one, row, stand_in in zip(inputs, rows, fill, strict=True):
            chosen = one or next((each for each in row if each.model == stand_in), row[0])
            assert chosen.layers is not None  # the schema asks for them
            runs.append((chosen.model if one else stand_in, *chosen.layers))
        columns.append(InputColumn(inputs, tuple(runs)))
    return columns


def stack(
    runs: Sequence[tuple[Reference, int, int]], resolve: Resolve, names: Names, donor: Reference | None = None
) -> Recipe:
    """Return a stack of layers: embeddings from the first run's model, final norm and head from the last one's.

    Args:
        runs: models with their layers.
        resolve: returns what a reference names.
        names: gives models their names.
        donor: the model that lends the configuration; None: the first run's.
    """
    models = dict.fromkeys(([] if donor is None else [donor]) + [model for model, _, _ in runs])
    named = {model: names.of(model) for model in models}
    return Recipe(
        PASSTHROUGH,
        tuple(Parent(name, resolve(model)) for model, name in named.items()),
        path=tuple(Step(named[model], layer) for model, start, stop in runs for layer in range(start, stop)),
        embeddings=named[runs[0][0]],
        head=named[runs[-1][0]],
    )


class Names:
    """Short names of models, which differ: the last part of a path.

    Args:
        template: the chat template of the recipe, which must not seem to be a model's.
    """

    def __init__(self, template: str | None = None) -> None:
        self._of: dict[Reference, str] = {}
        self._taken = {"base", "union", template}  # words with which a recipe says something else

    def of(self, model: Reference) -> str:
        """Return the name of a model."""
        if model not in self._of:
            self._of[model] = self.new(
                model.path.rstrip("/\\").replace("\\", "/").rpartition("/")[2].removeprefix("zoo:")
            )
        return self._of[model]

    def new(self, wanted: str) -> str:
        """Return a name like the wanted one that no model has."""
        wanted = wanted or "model"
        name, n = wanted, 2
        while name in self._taken:
            name, n = f"{wanted}_{n}", n + 1
        self._taken.add(name)
        return name
