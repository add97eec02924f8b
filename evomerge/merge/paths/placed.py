"""Whether layers compute at other places of a model what they computed at their own: known without weights.

Layers as they are in the parents are compared with those that the model's class itself builds for a path. They must be
equal except for their index (`layer_idx`). Otherwise they compute something else at their new places, or once the path
is saved. No model family is named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from evomerge.errors import CheckpointError
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.model import OpenModel
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.config import config_json
from evomerge.merge.paths.pattern import pattern_of
from evomerge.recipe import Step

_INDEX = "layer_idx"


def path_problems(opened: OpenModel) -> list[str]:
    """Return why the layers of a model cannot run in any order, one sentence each; no weights are read.

    Paths of which it returns nothing need no check of their own; for others there is `problems_of_path`.
    """
    try:
        compatible = CompatibleParents([("model", opened)])
    except CheckpointError as error:
        return [str(error)]
    n_layers = opened.architecture.n_layers
    return problems_of_path(compatible, [Step("model", index) for index in (*range(n_layers - 1, -1, -1), 0)])


def problems_of_path(compatible: CompatibleParents, path: Sequence[Step]) -> list[str]:
    """Return why one path over live parents would not compute what its folder does, one sentence each.

    Args:
        compatible: the parents.
        path: layers that they have.
    """
    moved = len(path) != compatible.first.architecture.n_layers or any(
        step.layer != place for place, step in enumerate(path)
    )
    for name in dict.fromkeys((compatible.members[0][0], *(step.parent for step in path))) if moved else ():
        problems = _unmovable(compatible.model(name), compatible.layers_name)
        if problems:
            return problems
    try:
        config = compatible.config(path)
        config_json(compatible.first.folder, config)  # raises if its folder could not say where which layer stands
        built = Architecture(config, trust_remote_code=compatible.first.trust_remote_code)
    except CheckpointError as error:
        return [f"its class refuses another order of its layers: {error}"]
    return [*changed_layers(compatible, path, built), *_changed_outside(compatible, path, built)]


def _unmovable(opened: OpenModel, layers_name: str) -> list[str]:
    """Return what shows of one model alone that its layers know of their places, or of each other."""
    model, problems = opened.architecture.model, []
    own = {id(value) for module in model.modules() for key, value in vars(module).items() if _is_config(value)}
    if own != {id(model.config)}:
        problems.append("its modules have configurations of their own, which cannot follow a path")
    n_shared = getattr(opened.config, "num_kv_shared_layers", None)
    if n_shared:
        problems.append(f"its last {n_shared} layers read the KV cache of others, which a path may leave out")
    layers: Any = model.get_submodule(layers_name)
    for index, layer in enumerate(layers):
        numbers = [part.layer_idx for part in numbered(layer)]
        if not numbers or any(number != index for number in numbers):
            found = "none" if not numbers else f"{numbers[0]!r}"
            problems.append(
                f"its layers must know their slot in the KV cache by an attribute {_INDEX}, which layer {index} should "
                f"have as {index}, but came {found}"
            )
            break
    return problems


def changed_layers(
    compatible: CompatibleParents, path: Sequence[Step], built: Architecture, *, in_memory: bool = True
) -> list[str]:
    """Return the first layer of a path that the model's class builds otherwise, in one sentence; or nothing.

    Args:
        compatible: the parents.
        path: layers that they have.
        built: the model of the path, as its class builds it.
        in_memory: whether the layers run as they are, so that all they know must stay true. In a folder the class
            counts and lists anew: what is the layer's index, or the depth, at both places is no change, nor is a list.
    """
    if built.n_layers != len(path):
        return [f"its class builds {built.n_layers} layers where its configuration says {len(path)}"]
    layers_name = compatible.layers_name
    own: dict[str, Any] = {
        name: compatible.model(name).architecture.model.get_submodule(layers_name)
        for name in dict.fromkeys(step.parent for step in path)
    }
    placed: Any = built.model.get_submodule(layers_name)
    for place, (step, there) in enumerate(zip(path, placed, strict=True)):
        depth = compatible.n_layers[step.parent]
        same = () if in_memory else ((step.layer, place), (depth, len(path)))
        different = _differences(own[step.parent][step.layer], there, same=same, lists=in_memory)
        if different:
            opened = compatible.model(step.parent)
            said = pattern_of(opened.config, depth).settings
            derived = "" if said else ", since its configuration computes which kind of layer stands at which place"
            return [
                f"its layers are not the same at every place: layer {step.layer} elsewhere would change "
                f"{different[0]}{derived}"
            ]
    return []


def _changed_outside(compatible: CompatibleParents, path: Sequence[Step], built: Architecture) -> list[str]:
    layers_name, problems = compatible.layers_name, []
    there = dict(outside(built.model, layers_name))
    first = compatible.first.architecture
    for name, module in outside(first.model, layers_name):
        where = name or "the model"
        if name not in there:
            problems.append(f"its depth or the order of its layers also shows in {where}, which is gone")
            continue
        different = _differences(module, there[name], same=((first.n_layers, len(path)),), deep=False)
        problems += [f"its depth or the order of its layers also shows in {where}: {one}" for one in different]
    return problems


def numbered(layer: nn.Module) -> list[Any]:
    """Return the modules of a layer that have its index."""
    return [part for part in layer.modules() if _INDEX in vars(part)]


def outside(model: nn.Module, layers_name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that belong to no layer, with their names."""
    for name, module in model.named_modules():
        if not name.startswith(f"{layers_name}."):
            yield name, module


def _differences(
    one: nn.Module,
    other: nn.Module,
    *,
    same: Sequence[tuple[int, int]] = (),
    deep: bool = True,
    lists: bool = True,
) -> list[str]:
    """Return how two modules and their submodules differ, except for their index and pairs of numbers that may."""
    mine = dict(one.named_modules()) if deep else {"": one}
    theirs = dict(other.named_modules()) if deep else {"": other}
    if mine.keys() != theirs.keys():
        return [f"its modules: {', '.join(sorted(mine.keys() ^ theirs.keys()))}"]
    found = []
    for name, module in mine.items():
        where = f"{name}." if name else ""
        if type(module) is not type(theirs[name]):
            found.append(f"the class of {name or 'the layer'}")
        a, b = plain(module), plain(theirs[name])
        for key in sorted(a.keys() | b.keys()):
            if any(is_number(a.get(key), old) and is_number(b.get(key), new) for old, new in same):
                continue
            if not lists and isinstance(a.get(key), (list, tuple, set, dict)):
                continue
            if not equal(a.get(key), b.get(key)):
                found.append(f"{where}{key} from {a.get(key)!r} to {b.get(key)!r}")
        for key, shape in _shapes(module).items() ^ _shapes(theirs[name]).items():
            found.append(f"the shape of {where}{key} ({'×'.join(map(str, shape))})")
    return found


def plain(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are plain data, without its index and those of torch and transformers."""
    kinds = (bool, int, float, str, tuple, list, set, dict, type(None))
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, kinds) and not key.startswith("_") and key not in (_INDEX, "all_tied_weights_keys")
    }


def equal(one: Any, other: Any) -> bool:
    """Return whether two plain values are equal."""
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):  # containers of tensors, which cannot be compared without weights
        return repr(one) == repr(other)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    tensors = {**module._parameters, **module._buffers}
    return {key: tuple(tensor.shape) for key, tensor in tensors.items() if tensor is not None}


def is_number(value: Any, wanted: int) -> bool:
    """Return whether a value is a whole number, and that one."""
    return isinstance(value, int) and not isinstance(value, bool) and value == wanted


def _is_config(value: Any) -> bool:
    from transformers import PreTrainedConfig

    return isinstance(value, PreTrainedConfig)
