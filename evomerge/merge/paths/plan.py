"""The plan of a layer path's checkpoint: every tensor is decided and all checks are made, but no tensor is read.

Everything outside of the layers comes from the first parent. Layer t of the result is the layer of the path's step t,
under the first parent's names. If the path has scales, the weights that carry them are divided (see `fold.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.files.weights import few
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.config import config_json
from evomerge.merge.paths.fold import Fold, find_fold
from evomerge.recipe import Recipe, Step


@dataclass(frozen=True)
class PathTask:
    """How one tensor of an unrolled path is made.

    Attributes:
        name: its name in the result.
        parent: the parent that lends it.
        source: its name in the parent's files.
        info: its shape and type there.
        dtype: its type in the result.
        step: the step of the path to which it belongs; None outside of the layers.
        divisor: c; the tensor w becomes (w + offset)/c - offset. With 1.0 it is copied bit for bit (except the type).
        offset: the number that the model adds to the tensor before it multiplies by it.
    """

    name: str
    parent: str
    source: str
    info: TensorInfo
    dtype: torch.dtype
    step: int | None = None
    divisor: float = 1.0
    offset: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.info.shape

    @property
    def n_bytes(self) -> int:
        """Size in the result."""
        return self.info.n_bytes // self.info.dtype.itemsize * self.dtype.itemsize


@dataclass(frozen=True)
class RepeatedLayers:
    """The cost on disk of a path that visits layers more than once.

    The files cannot share repeated tensors: safetensors refuses two names for one range of bytes ("the byte buffer
    needs to be entirely indexed, and cannot contain holes", and each range begins where the one before ends:
    https://github.com/huggingface/safetensors#format).

    Attributes:
        layers: how many layers of the result hold at least one tensor that an earlier layer also holds.
        duplicate_bytes: the size of the tensors that an earlier layer also holds.
    """

    layers: int = 0
    duplicate_bytes: int = 0

    def __str__(self) -> str:
        """Return the cost in one sentence."""
        if not self.layers:
            return "no tensor is stored twice"
        return (
            f"{self.layers} layers repeat tensors of earlier ones: {self.duplicate_bytes:,} bytes, all of them written "
            f"again, since safetensors cannot store one tensor under two names"
        )


@dataclass(frozen=True)
class PathPlan:
    """A recipe with a path whose every tensor is decided.

    Attributes:
        config: the configuration of the unrolled model.
        divisors: c of each step; 1.0 for all steps of a path without scales.
    """

    recipe: Recipe
    compatible: CompatibleParents
    config: Any
    divisors: tuple[float, ...]
    tasks: tuple[PathTask, ...]

    @property
    def folded(self) -> bool:
        """Whether scales were divided into weights."""
        return any(divisor != 1.0 for divisor in self.divisors)

    def load(self, task: PathTask) -> torch.Tensor:
        """Return one tensor of the result, in its final type; it may be a parent's own memory, so do not change it.

        Raises:
            CheckpointError: if the parent's tensor cannot be read or holds NaN or Inf.
            RecipeError: if the result is not finite in its final type.
        """
        try:
            tensor = self.compatible.model(task.parent).load(task.source)
        except CheckpointError as error:
            raise CheckpointError(f"parent {task.parent!r}: {error}") from error
        if task.divisor == 1.0 and tensor.dtype == task.dtype:
            return tensor
        made = tensor
        if task.divisor != 1.0:
            made = (tensor.float() + task.offset) / task.divisor - task.offset
        result = made.to(task.dtype)
        if result.is_floating_point() and not result.isfinite().all():
            folded = f" divided by {task.divisor:g}" if task.divisor != 1.0 else ""
            raise RecipeError(
                f"{task.name} ({task.source} of {task.parent}{folded}) does not fit "
                f"{str(task.dtype).removeprefix('torch.')}: its values are not finite there; use larger scales, or a "
                f"type with a wider range"
            )
        return result

    def repeated_layers(self) -> RepeatedLayers:
        """Return the cost of layers that occur more than once."""
        seen: set[tuple[Any, ...]] = set()
        layers: set[int] = set()
        n_bytes = 0
        for task in self.tasks:
            if task.step is None:
                continue
            same = (task.parent, task.source, task.divisor, task.dtype)
            if same in seen:
                layers.add(task.step)
                n_bytes += task.n_bytes
            seen.add(same)
        return RepeatedLayers(len(layers), n_bytes)


def make_path_plan(recipe: Recipe, compatible: CompatibleParents) -> PathPlan:
    """Decide every tensor of the unrolled path.

    Args:
        recipe: a checked recipe with a path.
        compatible: its parents.

    Raises:
        RecipeError: if the product of its scales is too large or too small for float32.
        CheckpointError: if the parents do not have all layers of the path, its scales cannot be folded, or the names or
            configuration of this family cannot express it.
    """
    config = compatible.config(recipe.path)
    divisors = _divisors(recipe.path)
    used = {step.parent for step in recipe.path}
    folds = (
        {name: _fold(compatible, name) for name in compatible.n_layers if name in used}
        if set(divisors) != {1.0}
        else {}
    )
    config_json(compatible.first.folder, config)  # raises now, before anything is written, if it cannot express this
    names = {
        name: _LayerNames(model) for name, model in compatible.members if name in used or model is compatible.first
    }
    first_name = compatible.members[0][0]
    first = names[first_name]
    dtypes = {name: _dtype(recipe, model, compatible.first) for name, model in compatible.members}
    tasks = [_task(dtypes[first_name], name, first_name, name, compatible.first) for name in first.outside]
    for t, (step, divisor) in enumerate(zip(recipe.path, divisors, strict=True)):
        donor, model = names[step.parent], compatible.model(step.parent)
        for source, (target, inside) in donor.layers[step.layer].items():
            name = f"{first.prefix}{t}.{first.by_target.get(target, inside)}"
            scaled = folds[step.parent].layers[step.layer] if divisor != 1.0 else {}
            tasks.append(
                _task(dtypes[step.parent], name, step.parent, source, model, t, divisor if target in scaled else 1.0,
                      scaled.get(target, 0.0))
            )  # fmt: skip
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        raise CheckpointError(f"the files of the parents split {few(twice)} in different ways")
    return PathPlan(recipe, compatible, config, divisors, tuple(tasks))


def _dtype(recipe: Recipe, model: OpenModel, first: OpenModel) -> torch.dtype | None:
    """Return the type of a parent's tensors in the result; None: each keeps its own, which is the first parent's."""
    if recipe.dtype is not None:
        return TORCH_DTYPES[recipe.dtype]
    return None if model.dtype == first.dtype else first.dtype


def _task(
    dtype: torch.dtype | None,
    name: str,
    parent: str,
    source: str,
    model: OpenModel,
    step: int | None = None,
    divisor: float = 1.0,
    offset: float = 0.0,
) -> PathTask:
    info = model.tensors.infos[source]
    place = model.architecture.places[model.naming.targets[source]]
    keeps = place.buffer or not info.dtype.is_floating_point or dtype is None
    dtype = info.dtype if keeps or dtype is None else dtype
    return PathTask(name, parent, source, info, dtype, step, divisor, offset)


def _divisors(path: Sequence[Step]) -> tuple[float, ...]:
    product = 1.0
    divisors = []
    for t, step in enumerate(path):
        product *= step.scale
        if not math.isfinite(product) or product < torch.finfo(torch.float32).tiny:
            raise RecipeError(
                f"the scales of the path multiply to {product:g} at step {t}, which float32 cannot hold; use scales "
                f"nearer to 1"
            )
        divisors.append(product)
    return tuple(divisors)


def _fold(compatible: CompatibleParents, name: str) -> Fold:
    """Return the tensors of a parent that carry scales, after checking that its files hold them."""
    model = compatible.model(name)
    fold = find_fold(model)
    stored = set(model.naming.targets.values())
    for index, layer in enumerate(fold.layers):
        lost = [inside for inside in layer if f"{compatible.layers_name}.{index}.{inside}" not in stored]
        if lost:
            raise CheckpointError(
                f"{name} ({model.label}): scales would be folded into {few(lost)} of layer {index}, but the checkpoint "
                f"does not hold that under a name of its own"
            )
    return fold


class _LayerNames:
    """The names of a checkpoint's tensors, divided into prefix of the layers, index, and name inside of the layer.

    Attributes:
        prefix: the text before a layer's index in the files.
        outside: names of the tensors outside of the layers.
        layers: for each layer, a tensor's name in the files to (parameter inside of the layer, inside name in the
            files).
        by_target: parameter inside of the layer to its inside name in the files, if one tensor fills it.
    """

    def __init__(self, model: OpenModel) -> None:
        naming, architecture = model.naming, model.architecture
        layer_prefix = f"{architecture.layers_name}."
        self.outside: list[str] = []
        self.layers: list[dict[str, tuple[str, str]]] = [{} for _ in range(architecture.n_layers)]
        self.by_target: dict[str, str] = {}
        prefixes: set[str] = set()
        strange = []
        for name, target in naming.targets.items():
            if not target.startswith(layer_prefix):
                self.outside.append(name)
                continue
            index, _, inside = target.removeprefix(layer_prefix).partition(".")
            prefix, number, rest = _take_apart(name)
            if number != index:
                strange.append(name)
                continue
            prefixes.add(prefix)
            self.layers[int(index)][name] = (inside, rest)
            if target not in naming.parts:
                self.by_target[inside] = rest
        if strange or len(prefixes) != 1:
            raise CheckpointError(
                f"{model.label} names the tensors of its layers in a way that no other layer can be put in their "
                f"place: {few(strange or sorted(prefixes))}"
            )
        self.prefix = prefixes.pop()


def _take_apart(name: str) -> tuple[str, str, str]:
    """Return a name split at its first number: "model.layers.3.mlp.bias" is "model.layers.", "3", "mlp.bias"."""
    words = name.split(".")
    for i, word in enumerate(words):
        if word.isdigit():
            return ".".join([*words[:i], ""]), word, ".".join(words[i + 1 :])
    return "", "", name
