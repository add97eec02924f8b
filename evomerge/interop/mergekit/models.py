"""What a mergekit file leaves to the models: how many layers they have, and what their tensors are called."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from evomerge.errors import EvomergeError, RecipeError
from evomerge.recipe import ModelSource, Recipe

Source: TypeAlias = "ModelSource | Recipe"


@dataclass(frozen=True)
class TensorName:
    """A tensor of a model: its name, role and layer (None: outside of the layers)."""

    name: str
    role: str
    layer: int | None


class Models:
    """The models that a file names, each looked at once. No tensor is read."""

    def __init__(self) -> None:
        self._seen: dict[ModelSource, tuple[int, tuple[TensorName, ...], str]] = {}

    def n_layers(self, source: Source) -> int:
        """Return how many layers a model has, from its configuration.

        Raises:
            RecipeError: if the model is not there or cannot be read.
        """
        if isinstance(source, Recipe):
            return len(source.path) or self.n_layers(source.donor.source)
        return self._look(source)[0]

    def tensor_names(self, source: Source) -> tuple[TensorName, ...]:
        """Return the tensors of a model, or of a recipe's result.

        Raises:
            RecipeError: if the model is not there or cannot be read.
        """
        if isinstance(source, Recipe):
            return self._of_path(source) if source.path else self.tensor_names(source.donor.source)
        return self._look(source)[1]

    def dtype(self, source: Source) -> str:
        """Return the type of most of a model's values, of a recipe that of its result.

        Raises:
            RecipeError: if the model is not there or cannot be read.
        """
        if isinstance(source, Recipe):
            return source.dtype or self.dtype(source.donor.source)
        return self._look(source)[2]

    def _of_path(self, recipe: Recipe) -> tuple[TensorName, ...]:
        of = {one.name: self.tensor_names(one.source) for one in recipe.parents}
        outside = [one for one in of[recipe.parents[0].name] if one.layer is None]
        return (
            *outside,
            *(
                TensorName(one.name.replace(f".{step.layer}.", f".{i}.", 1), one.role, i)
                for i, step in enumerate(recipe.path)
                for one in of[step.parent]
                if one.layer == step.layer
            ),
        )

    def _look(self, source: ModelSource) -> tuple[int, tuple[TensorName, ...], str]:
        source = replace(source, adapter=None, adapter_revision=None)  # which has the layers and names of its model
        if source not in self._seen:
            try:
                self._seen[source] = _open(source)
            except EvomergeError as error:
                raise RecipeError(f"the configuration of {source.path} cannot be read: {error}") from error
        return self._seen[source]


def _open(source: ModelSource) -> tuple[int, tuple[TensorName, ...], str]:
    from evomerge.merge.files.architecture import Architecture
    from evomerge.merge.files.model import open_checkpoint

    if source.path.startswith("zoo:") or Path(source.path).expanduser().exists():
        model = open_checkpoint(source)
        places, n = model.architecture.places, model.architecture.n_layers
        targets = model.naming.targets.items()
        names = tuple(TensorName(name, places[target].role, places[target].layer) for name, target in targets)
        return n, names, str(model.dtype).removeprefix("torch.")
    from transformers import AutoConfig

    try:  # of a model on the Hub the configuration is enough, whose weights may be large
        config = AutoConfig.from_pretrained(source.path, revision=source.revision)
    except Exception as error:  # transformers raises almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"it is no folder here, nor is its config.json found on the Hub ({reason})") from error
    architecture = Architecture(config, trust_remote_code=False)
    names = tuple(TensorName(name, place.role, place.layer) for name, place in architecture.places.items())
    return architecture.n_layers, names, str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
