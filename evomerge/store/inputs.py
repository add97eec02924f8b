"""What a run stands on: the contents of its models, items and files, and the configuration that decides its results.

It is recorded when the run starts, and compared when the run is continued (`changes.py`). Names and places say nothing
here: a model may move, but may not become another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.system.contents import Content


@dataclass(frozen=True)
class ModelContents:
    """A parent, the base, or a model inside of a parent that is a recipe.

    Attributes:
        source: how the configuration names it.
        folder: the folder that this was, in words for people.
        files: name to part ("weights", "tokenizer" …) and content of each file that decides its answers.
    """

    source: ModelSource
    folder: str
    files: Mapping[str, tuple[str, Content]]

    @property
    def digests(self) -> dict[str, str]:
        """The hash of each file by its name."""
        return {name: content.digest for name, (_, content) in self.files.items()}

    @property
    def known(self) -> dict[str, Content]:
        """The content of each file by its name."""
        return {name: content for name, (_, content) in self.files.items()}

    def to_data(self) -> dict[str, Any]:
        """Return the fields as JSON data."""
        files = {name: [part, *content.to_data()] for name, (part, content) in self.files.items()}
        return {"source": self.source.to_data(), "folder": self.folder, "files": files}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> ModelContents:
        """Return what `to_data` wrote."""
        source = data["source"]
        files = {name: (str(one[0]), Content.from_data(one[1:])) for name, one in data["files"].items()}
        return cls(ModelSource.from_data(source), str(data["folder"]), files)


@dataclass(frozen=True)
class RunInputs:
    """What a run stands on.

    Attributes:
        keys: each key of the configuration that decides results to a hash of its value.
        models: name to contents, the parents in their order, then the base; a model inside of a parent that is a recipe
            is called "PARENT.NAME".
        recipes: name of a parent that is a recipe to a hash of it, without the places of its models.
        files: each other file to the hash of its content, by a name that says what it is.
        items: task to split to its `source` and the hashes of its items by aspect, as
            `evomerge.evaluation.harness.LmHarness.contents` returns them; so is `scoring`.
        scoring: lm-eval task to the hashes of what says what an answer is worth, by name.
    """

    keys: Mapping[str, str]
    models: Mapping[str, ModelContents]
    recipes: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    scoring: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Return the fields as JSON data."""
        return {
            "keys": dict(self.keys),
            "models": [[name, model.to_data()] for name, model in self.models.items()],
            "recipes": dict(self.recipes),
            "files": dict(self.files),
            "items": {task: {name: dict(one) for name, one in splits.items()} for task, splits in self.items.items()},
            "scoring": {task: dict(one) for task, one in self.scoring.items()},
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> RunInputs:
        """Return what `to_data` wrote.

        Raises:
            KeyError, TypeError, ValueError: if the data is not of that form.
        """
        return cls(
            keys=data["keys"],
            models={str(name): ModelContents.from_data(one) for name, one in data["models"]},
            recipes=data["recipes"],
            files=data["files"],
            items=data["items"],
            scoring=data["scoring"],
        )


def moved_recipe(recipe: Recipe, moved: Mapping[ModelSource, ModelSource]) -> Recipe:
    """Return a recipe whose models are named by where they are now.

    Args:
        recipe: the recipe.
        moved: source to the source that has the same content now.
    """

    def source(one: ModelSource | Recipe) -> ModelSource | Recipe:
        return moved_recipe(one, moved) if isinstance(one, Recipe) else moved.get(one, one)

    def parent(one: Parent) -> Parent:
        return replace(one, source=source(one.source))

    return recipe.with_members(parent)
