"""A layer path as a live model: a list of references to the layers of live parents, without weights of its own.

The path model is a shell around the first parent: new module objects that hold the same parameters (outside of the
layers: those of the parents that lend embeddings and head), with a configuration of their own. For each path, its list
of layers is filled with such structural copies of the parents' layers, one for each occurrence of a layer, so that
every occurrence has its own slot in the KV cache. A copy knows its place only by its index there (`layer_idx`);
everything else, such as sliding or full attention, belongs to the layer. Tensors that the recipe scales are put in
place of the parents' own, and so are those with a row for each token where the recipe builds a vocabulary.

No model family is named here. Whether the layers of a class work at another place is found without weights
(`placed.py`).
"""

from __future__ import annotations

import copy
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from evomerge.errors import CheckpointError
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.model import OpenModel
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.config import TIES
from evomerge.merge.paths.ends import Lenders
from evomerge.merge.paths.pattern import OWN_SETTINGS, pattern_of
from evomerge.merge.paths.placed import equal, is_number, numbered, outside, plain
from evomerge.merge.paths.scaled import Scaled
from evomerge.recipe import Step

# A mark that transformers leaves on a model whose hidden states were asked for. Hooks are not copied, so neither is it.
_HOOKED = "_output_capturing_hooks_installed"


class PathModel:
    """One model object whose layers are those of one path after another.

    Attributes:
        model: a transformers model that shares all parameters with the parents; always the same object, with one
            configuration that is changed in place.
        path: the path that it runs; empty before the first `follow`.
    """

    def __init__(self, compatible: CompatibleParents, parents: Mapping[str, Any], own: OpenModel | None = None) -> None:
        """Make the shell.

        Args:
            compatible: the parents, known to fit together; if they are views in another vocabulary than the live
                models have, `follow` must get all tensors whose rows moved.
            parents: name of each parent to its live model; their parameters may change in place later, but the models
                must stay the same objects.
            own: the model from which the first live model was built; None: as in `compatible`.

        Raises:
            CheckpointError: if something outside of the layers depends on them in a way that is not known here.
        """
        self.path: tuple[Step, ...] = ()
        self._compatible = compatible
        self._parents = parents
        self._copies: dict[tuple[str, int, int], _Occurrence] = {}
        self._own = own or compatible.first
        first = parents[compatible.members[0][0]]
        config = copy.deepcopy(first.config)
        before = vars(self._own.config)
        for key, value in vars(compatible.first.config).items():  # a view has other numbers of tokens
            if not key.startswith("_") and (key not in before or before[key] != value):
                setattr(config, key, copy.deepcopy(value))
        self._configs = {id(parent.config): config for parent in parents.values()}
        self.model: Any = _structural_copy(first, self._configs)
        self.model.generation_config = copy.deepcopy(first.generation_config)
        self._layers: nn.ModuleList = self.model.get_submodule(compatible.layers_name)
        self._layers._modules.clear()
        self._shell = dict(outside(self.model, compatible.layers_name))
        self._settings = _settings_of_layers(compatible)
        self._depths = self._follow_kinds()

    def follow(
        self, path: Sequence[Step], lenders: Lenders | None = None, scaled: Scaled = MappingProxyType({})
    ) -> None:
        """Make `model` run a path. No tensor is made, read or changed.

        Args:
            path: its layers.
            lenders: who lends what stands before and behind them; None: the first parent.
            scaled: tensors in place of the parents' own.

        Raises:
            CheckpointError: if the parents do not have all layers of the path, or it is not known which tensors a
                lender lends; the model is then unchanged.
        """
        first = self._compatible.members[0][0]
        lenders = lenders or Lenders(first, first)
        wanted = self._compatible.config(path, lenders)
        ends = self._ends(lenders, scaled.get(None, {}))
        self._forget_captures()
        for (module_name, key), tensor in ends.items():
            module = self._shell[module_name]
            if isinstance(tensor, nn.Parameter):
                module._parameters[key] = tensor
            else:
                module._buffers[key] = tensor
        if hasattr(wanted, TIES):  # which is read again by whoever ties the weights anew
            setattr(self.model.config, TIES, getattr(wanted, TIES))
        for key in self._settings:
            setattr(self.model.config, key, getattr(wanted, key))
        if hasattr(wanted, OWN_SETTINGS):
            setattr(self.model.config, OWN_SETTINGS, pattern_of(wanted, len(path)).settings.get(OWN_SETTINGS))
        for module, key in self._depths:
            setattr(module, key, len(path))
        seen: Counter[tuple[str, int]] = Counter()
        modules = self._layers._modules
        modules.clear()
        for position, step in enumerate(path):
            occurrence = self._occurrence(step, seen[step.parent, step.layer])
            seen[step.parent, step.layer] += 1
            occurrence.place(position, step.scale)
            occurrence.hold(scaled.get(position, {}))
            modules[str(position)] = occurrence.module
        self.path = tuple(path)

    def _occurrence(self, step: Step, number: int) -> _Occurrence:
        key = (step.parent, step.layer, number)
        if key not in self._copies:
            layers = self._parents[step.parent].get_submodule(self._compatible.layers_name)
            self._copies[key] = _Occurrence(_structural_copy(layers[step.layer], self._configs))
        return self._copies[key]

    def _ends(self, lenders: Lenders, scaled: Mapping[str, torch.Tensor]) -> dict[tuple[str, str], torch.Tensor]:
        """Return the saved tensors outside of the layers, by module and name there."""
        compatible, found = self._compatible, {}
        untied = compatible.untied(lenders)
        made: dict[str, nn.Parameter] = {}
        for name, canonical in compatible.first.architecture.canonical.items():
            if name.startswith(f"{compatible.layers_name}."):
                continue
            module, _, key = name.rpartition(".")
            own = name if untied is not None else canonical
            owner = self._parents[compatible.lender_of(own, lenders)].get_submodule(module)
            lent = owner._parameters.get(key, owner._buffers.get(key))
            if own in scaled:
                lent = made.setdefault(own, _like(lent, scaled[own]))
            found[module, key] = lent
        return found

    def _follow_kinds(self) -> list[tuple[nn.Module, str]]:
        """Give the shell what it needs for every kind of layer of all parents.

        A class may decide when it is built which masks or rotary tables it will need ("has_sliding_layers").

        Returns:
            The modules, and their attributes, that hold the number of layers.
        """
        first = self._own.architecture
        steps = _one_of_each_kind(self._compatible)
        built = Architecture(
            self._compatible.config(steps), trust_remote_code=self._compatible.first.trust_remote_code
        ).model
        theirs = dict(outside(built, self._compatible.layers_name))
        mine = dict(outside(self.model, self._compatible.layers_name))
        depths = []
        for name, before in outside(first.model, self._compatible.layers_name):
            for key, value in plain(theirs[name]).items():
                old = plain(before).get(key)
                if is_number(old, first.n_layers) and is_number(value, len(steps)):
                    depths.append((mine[name], key))
                elif key not in plain(before) or not equal(old, value):
                    setattr(mine[name], key, copy.copy(value))
            for key in theirs[name]._buffers.keys() - mine[name]._buffers.keys():
                mine[name].register_buffer(key, self._buffer_of_another(name, key), persistent=False)
        return depths

    def _buffer_of_another(self, module: str, key: str) -> torch.Tensor:
        for parent in self._parents.values():
            found = parent.get_submodule(module)._buffers.get(key)
            if found is not None:
                return found
        raise CheckpointError(
            f"a path through these parents needs the buffer {module}.{key}, which none of them has; "
            "leave out the parent whose layers need it"
        )

    def _forget_captures(self) -> None:
        """Drop the hooks in the layers by which transformers records hidden states that were asked for."""
        for module in self._shell.values():
            if vars(module).pop(_HOOKED, False):
                for occurrence in self._copies.values():
                    occurrence.drop_hooks()


class _Occurrence:
    """A structural copy of a layer, to stand in a path."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._numbered = numbered(module)
        self._scale = 1.0
        self._handle: Any = None
        self._own: dict[str, nn.Parameter] = {}

    def hold(self, scaled: Mapping[str, torch.Tensor]) -> None:
        """Take other parameters in place of the parent's own, which all others are again."""
        for name, own in self._own.items():
            self._put(name, own)
        self._own = {name: self.module.get_parameter(name) for name in scaled}
        for name, tensor in scaled.items():
            self._put(name, _like(self._own[name], tensor))

    def _put(self, name: str, parameter: nn.Parameter) -> None:
        module, _, key = name.rpartition(".")
        self.module.get_submodule(module)._parameters[key] = parameter

    def place(self, position: int, scale: float) -> None:
        """Put the copy at a position of the path (and of the KV cache), with a scale for its input."""
        for part in self._numbered:
            part.layer_idx = position
        if scale == self._scale:
            return
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if scale != 1.0:
            self._handle = self.module.register_forward_pre_hook(_scaler(scale), with_kwargs=True)
        self._scale = scale

    def drop_hooks(self) -> None:
        """Drop all forward hooks but the scale's."""
        for part in self.module.modules():
            part._forward_hooks.clear()


def _like(own: Any, tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.to(own.device, own.dtype), requires_grad=False)


def _structural_copy(root: nn.Module, configs: Mapping[int, Any]) -> Any:
    """Return new module objects around the same parameters and buffers.

    Args:
        root: the module to copy.
        configs: id of a configuration to the one that replaces it in the copy.
    """
    made: dict[int, nn.Module] = {}
    for module in root.modules():
        made[id(module)] = object.__new__(type(module))
    for module in root.modules():
        target = vars(made[id(module)])
        for key, value in vars(module).items():
            if key == "_modules":
                value = {name: None if child is None else made[id(child)] for name, child in value.items()}
            elif key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
                value = type(value)()  # hooks of the harness or transformers, which are for the original alone
            elif isinstance(value, types.MethodType) and id(value.__self__) in made:
                value = types.MethodType(value.__func__, made[id(value.__self__)])
            elif isinstance(value, (dict, list, set)):
                value = copy.copy(value)
            elif key != _HOOKED:
                value = configs.get(id(value), value)
            else:
                continue
            target[key] = value
    return made[id(root)]


def _scaler(scale: float) -> Callable[..., Any]:
    """Return a hook that multiplies a layer's input, whether it is given by position or as `hidden_states`."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (args[0] * scale, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] * scale}

    return before


def _settings_of_layers(compatible: CompatibleParents) -> list[str]:
    """Return the settings that a path decides: the depth, and those that say something of each layer."""
    first, opened = compatible.members[0]
    once = compatible.config([Step(first, 0)])
    twice = vars(compatible.config([Step(first, 0)] * 2))
    pattern = pattern_of(opened.config, opened.architecture.n_layers)
    said = {*pattern.lists, *pattern.marked}
    depths = (key for key, value in vars(once).items() if not key.startswith("_") and value != twice[key])
    return list(dict.fromkeys((*depths, *(key for key in vars(once) if key in said))))


def _one_of_each_kind(compatible: CompatibleParents) -> list[Step]:
    """Return a path with every kind of layer (by their settings), whose length is not the first parent's depth."""
    kinds: dict[str, Step] = {}
    for name, model in compatible.members:
        pattern = pattern_of(model.config, compatible.n_layers[name])
        for layer in range(compatible.n_layers[name]):
            kinds.setdefault(pattern.kind(layer), Step(name, layer))
    steps = list(kinds.values())
    return steps + steps[-1:] if len(steps) == compatible.first.architecture.n_layers else steps
