"""The plan of a layer path's checkpoint: every tensor is decided and all checks are made, but no tensor is read.

Everything outside of the layers comes from the first parent, unless the recipe says who lends embeddings or head.
Layer t of the result is the layer of the path's step t, under the first parent's names. If the path has scales, the
weights that carry them are divided (see `fold.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.files.weights import few
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.config import config_json
from evomerge.merge.paths.ends import Lenders
from evomerge.merge.paths.fold import Fold, find_fold
from evomerge.recipe import Recipe, Step
from evomerge.recipe.groups import group_problems, raise_problems


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
        divisor: c; the tensor w becomes (s·w + offset)/c - offset. If both are 1.0, it is copied bit for bit (except
            the type).
        offset: the number that the model adds to the tensor before it multiplies by it.
        scale: s, the recipe's parameter of that name.
        target: the parameter that it fills, as it is called inside of its layer (outside of layers: in the model).
    """

    name: str
    parent: str
    source: str
    info: TensorInfo
    dtype: torch.dtype
    step: int | None = None
    divisor: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    target: str = ""

    @property
    def copied(self) -> bool:
        """Whether it is the parent's tensor, bit for bit."""
        return self.divisor == 1.0 and self.scale == 1.0 and self.dtype == self.info.dtype

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
        if task.copied:
            return tensor
        made = tensor
        if task.scale != 1.0:
            made = tensor.float() * task.scale
        if task.divisor != 1.0:
            made = (made.float() + task.offset) / task.divisor - task.offset
        result = made.to(task.dtype)
        if result.is_floating_point() and not result.isfinite().all():
            folded = f" times {task.scale:g}" if task.scale != 1.0 else ""
            folded += f" divided by {task.divisor:g}" if task.divisor != 1.0 else ""
            raise RecipeError(
                f"{task.name} ({task.source} of {task.parent}{folded}) does not fit "
                f"{str(task.dtype).removeprefix('torch.')}: its values are not finite there; use other scales, or a "
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
            same = (task.parent, task.source, task.divisor, task.scale, task.dtype)
            if same in seen:
                layers.add(task.step)
                n_bytes += task.n_bytes
            seen.add(same)
        return RepeatedLayers(len(layers), n_bytes)


def make_path_plan(recipe: Recipe, compatible: CompatibleParents, *, fold: bool = True) -> PathPlan:
    """Decide every tensor of the unrolled path.

    Args:
        recipe: a checked recipe with a path.
        compatible: its parents.
        fold: whether weights carry the scales of the inputs, as on disk; a live path has them between its layers.

    Raises:
        RecipeError: if the product of its scales is too large or too small for float32, or groups name layers or
            tensors that the result does not have.
        CheckpointError: if the parents do not have all layers of the path, its scales cannot be folded, or the names or
            configuration of this family cannot express it.
    """
    lenders = Lenders.of(recipe)
    config = compatible.config(recipe.path, lenders)
    divisors = _divisors(recipe.path)
    if not fold:
        divisors = (1.0,) * len(divisors)
    used = {step.parent for step in recipe.path}
    folds = (
        {name: _fold(compatible, name) for name in compatible.n_layers if name in used}
        if set(divisors) != {1.0}
        else {}
    )
    config_json(compatible.first.folder, config)  # raises now, before anything is written, if it cannot express this
    names = {
        name: _LayerNames(model)
        for name, model in compatible.members
        if model is compatible.first or name in {*used, lenders.embeddings, lenders.head}
    }
    first_name = compatible.members[0][0]
    first = names[first_name]
    dtypes = {name: _dtype(recipe, model, compatible.first) for name, model in compatible.members}
    scales = _Scales(recipe)
    tasks = [
        _task(compatible, dtypes, lender, source, name, scales, target=target)
        for name, target, lender, source in _outside(compatible, lenders, names)
    ]
    for t, (step, divisor) in enumerate(zip(recipe.path, divisors, strict=True)):
        donor = names[step.parent]
        for source, (target, inside) in donor.layers[step.layer].items():
            name = f"{first.prefix}{t}.{first.by_target.get(target, inside)}"
            scaled = folds[step.parent].layers[step.layer] if divisor != 1.0 else {}
            tasks.append(
                _task(compatible, dtypes, step.parent, source, name, scales, step=t, target=target,
                      divisor=divisor if target in scaled else 1.0, offset=scaled.get(target, 0.0))
            )  # fmt: skip
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        raise CheckpointError(f"the files of the parents split {few(twice)} in different ways")
    raise_problems(group_problems(recipe, len(recipe.path), [task.name for task in tasks]))
    return PathPlan(recipe, compatible, config, divisors, tuple(tasks))


def _outside(
    compatible: CompatibleParents, lenders: Lenders, names: Mapping[str, _LayerNames]
) -> Iterator[tuple[str, str, str, str]]:
    """Yield each tensor outside of the layers: its name in the result, its parameter, its lender, its name there."""
    first = names[compatible.members[0][0]].outside
    there = [first, names[lenders.embeddings].outside, names[lenders.head].outside]
    for target in dict.fromkeys(target for each in there for target in each):
        lender = compatible.lender_of(target, lenders)
        for i, source in enumerate(names[lender].outside.get(target, ())):
            known = first.get(target, ())
            yield known[i] if len(known) == len(names[lender].outside[target]) else source, target, lender, source
    untied = compatible.untied(lenders)
    canonical = compatible.first.architecture.canonical
    for name in () if untied is None else untied.places:
        if canonical[name] != name:  # it was one tensor with another, and has now a name of its own
            for source in names[lenders.head].outside.get(canonical[name], ()):
                yield name, name, lenders.head, source


class _Scales:
    """The parameter `scale` of each tensor of a path."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._any = bool(recipe.groups or recipe.parameters)

    def of(self, role: str, layer: int | None, name: str) -> float:
        """Return the factor of a tensor of the result."""
        return float(cast(float, self._recipe.parameters_of(role, layer, name).get("scale", 1.0))) if self._any else 1.0


def _dtype(recipe: Recipe, model: OpenModel, first: OpenModel) -> torch.dtype | None:
    """Return the type of a parent's tensors in the result; None: each keeps its own, which is the first parent's."""
    if recipe.dtype is not None:
        return TORCH_DTYPES[recipe.dtype]
    return None if model.dtype == first.dtype else first.dtype


def _task(
    compatible: CompatibleParents,
    dtypes: Mapping[str, torch.dtype | None],
    parent: str,
    source: str,
    name: str,
    scales: _Scales,
    *,
    step: int | None = None,
    target: str,
    divisor: float = 1.0,
    offset: float = 0.0,
) -> PathTask:
    model, dtype = compatible.model(parent), dtypes[parent]
    info = model.tensors.infos[source]
    place = model.architecture.places[model.naming.targets[source]]
    keeps = place.buffer or not info.dtype.is_floating_point
    # A tensor that is tied in the lender and alone in the result is the head there.
    role = "head" if step is None and target != model.naming.targets[source] else place.role
    return PathTask(
        name,
        parent,
        source,
        info,
        info.dtype if keeps else info.result_dtype if dtype is None else dtype,
        step,
        divisor,
        offset,
        1.0 if keeps else scales.of(role, step, name),
        target,
    )


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
        outside: parameter outside of the layers to the names of its tensors.
        layers: for each layer, a tensor's name in the files to (parameter inside of the layer, inside name in the
            files).
        by_target: parameter inside of the layer to its inside name in the files, if one tensor fills it.
    """

    def __init__(self, model: OpenModel) -> None:
        naming, architecture = model.naming, model.architecture
        layer_prefix = f"{architecture.layers_name}."
        self.outside: dict[str, list[str]] = {}
        self.layers: list[dict[str, tuple[str, str]]] = [{} for _ in range(architecture.n_layers)]
        self.by_target: dict[str, str] = {}
        prefixes: set[str] = set()
        strange = []
        for name, target in naming.targets.items():
            if not target.startswith(layer_prefix):
                self.outside.setdefault(target, []).append(name)
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
