"""What a mergekit file leaves to the models: how many layers they have, and what their tensors are called."""

from __future__ import annotations

from dataclasses import dataclass
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
        self._seen: dict[ModelSource, tuple[int, tuple[TensorName, ...]]] = {}

    def n_layers(self, source: Source) -> int:
        """Return how many layers a model has, from its configuration.

        Raises:
            RecipeError: if the model is not there or cannot be read.
        """
        if isinstance(source, Recipe):
            return len(source.path) or self.n_layers(source.donor.source)
        return self._look(source)[0]

    def tensor_names(self, source: Source) -> tuple[TensorName, ...]:
        """Return the tensors of a model (of a recipe: of its first checkpoint).

        Raises:
            RecipeError: if the model is not there or cannot be read.
        """
        if isinstance(source, Recipe):
            return self.tensor_names(source.donor.source)
        return self._look(source)[1]

    def _look(self, source: ModelSource) -> tuple[int, tuple[TensorName, ...]]:
        if source not in self._seen:
            try:
                self._seen[source] = _open(source)
            except EvomergeError as error:
                raise RecipeError(f"the configuration of {source.path} cannot be read: {error}") from error
        return self._seen[source]


def _open(source: ModelSource) -> tuple[int, tuple[TensorName, ...]]:
    from evomerge.merge.files.architecture import Architecture
    from evomerge.merge.files.model import open_checkpoint

    if source.path.startswith("zoo:") or Path(source.path).expanduser().exists():
        model = open_checkpoint(source)
        places, n = model.architecture.places, model.architecture.n_layers
        return n, tuple(
            TensorName(name, places[target].role, places[target].layer) for name, target in model.naming.targets.items()
        )
    from transformers import AutoConfig

    try:  # of a model on the Hub the configuration is enough, whose weights may be large
        config = AutoConfig.from_pretrained(source.path, revision=source.revision)
    except Exception as error:  # transformers raises almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"it is no folder here, nor is its config.json found on the Hub ({reason})") from error
    architecture = Architecture(config, trust_remote_code=False)
    return architecture.n_layers, tuple(
        TensorName(name, place.role, place.layer) for name, place in architecture.places.items()
    )
