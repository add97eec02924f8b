"""The role and the layer of each tensor of a model, found from the model's own module tree.

The model class is built from its configuration on the meta device, without weights. No model family is named here:

- embedding, head: the model's input and output embeddings, and other `Embedding` modules (positions);
- layers: as in `layers.py`; a tensor's layer is the number of its module there;
- kept: what stands beside the language part (`language.py`), as a vision tower does: it has no layer;
- roles inside a layer: by the names of modules (class and attribute), from the tensor outwards; where the names do not
  tell, by structure: a linear map beside an attention module belongs to the MLP;
- norm: modules with "norm" (or `ln`) in their name, wherever they stand, inside attention too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from evomerge.merge.files.language import find_language_part
from evomerge.merge.files.layers import Stack, find_stacks
from evomerge.merge.files.model_class import build_on_meta
from evomerge.merge.files.places import TensorPlace
from evomerge.recipe import ROLES

_NORM = re.compile(r"norm|^ln($|_)", re.IGNORECASE)
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe|expert|router", re.IGNORECASE)
_COMPUTED = re.compile(r"rotary|inv_freq|mask|position|(sin|cos)(_cached?)?$|embed_scale|alibi", re.IGNORECASE)
_ATTENTION_FIELDS = ("num_heads", "n_heads", "num_attention_heads", "head_dim")


@dataclass(frozen=True)
class ArchitectureSummary:
    """What a search space needs to know about the models, as plain data.

    Attributes:
        tied: whether the head is the embedding; then no tensor has the role "head", except perhaps its bias.
        layer_roles: roles that occur inside layers, in the order of `ROLES`.
        outer_roles: roles that occur outside of the layers, in the order of `ROLES`.
    """

    n_layers: int
    tied: bool
    layer_roles: tuple[str, ...]
    outer_roles: tuple[str, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles that occur, in the order of `ROLES`."""
        return tuple(role for role in ROLES if role in self.layer_roles or role in self.outer_roles)


class Architecture:
    """The tensors of a model class under one configuration: names, shapes, roles, layers, ties.

    Attributes:
        model: the model on the meta device: modules and shapes, no values.
        places: name of each saved tensor to its place; of tensors that share storage only the first is listed.
        canonical: name of each saved tensor to the first tensor that shares its storage (itself, if none does).
        shapes: name of each saved tensor to its shape.
        stacks: the stacks of its layers, mostly one.
        n_layers: how many layers there are, in all stacks; 0 where there is none.
        layers_name: name of the list of layers in the module tree, "model.layers" for a Llama; "" where the layers are
            not in one list.
        language: the part that is merged: all of it, unless a vision tower or the like stands beside it.
    """

    def __init__(self, config: Any, *, trust_remote_code: bool = False, apart: Collection[str] = ()) -> None:
        """Build the class.

        Args:
            config: the configuration.
            trust_remote_code: whether its custom code may run.
            apart: names of tensors that the class ties, but that a checkpoint holds with values of their own.

        Raises:
            CheckpointError: if transformers cannot build it.
        """
        self.model = build_on_meta(config, trust_remote_code=trust_remote_code)
        for name in apart:
            module, _, key = name.rpartition(".")
            owner = self.model.get_submodule(module)
            setattr(owner, key, nn.Parameter(torch.empty_like(getattr(owner, key)), requires_grad=False))
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}
        self.canonical = _shared(self.model, self.shapes)
        self.language = find_language_part(self.model, self.shapes)
        self.stacks = find_stacks(self.model, self.language.names)
        self.n_layers = sum(stack.n_layers for stack in self.stacks)
        lists = [name for stack in self.stacks for name in stack.lists]
        self.layers_name = lists[0] if len(lists) == 1 else ""
        embeddings = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        roles = _RoleFinder(self.model, embeddings, self.stacks)
        buffers = {name for name, _ in self.model.named_buffers()}
        heads = cache(lambda layer: _heads(self.model.config, layer))
        found = {name: roles.find(name) for name, first in self.canonical.items() if name == first}
        self.places: Mapping[str, TensorPlace] = {
            name: TensorPlace(
                role,
                layer,
                buffer=name in buffers and _COMPUTED.search(name) is not None,
                transposed=isinstance(self.model.get_submodule(name.rpartition(".")[0]), Conv1D),
                heads=heads(layer) if role == "attention" else None,
                kept=name not in self.language.names,
            )
            for name, (role, layer) in found.items()
        }

    @property
    def n_embeddings(self) -> int | None:
        """How many rows the embedding of tokens has; None where there is no such matrix."""
        weight = getattr(self.model.get_input_embeddings(), "weight", None)
        return None if weight is None else int(weight.shape[0])

    @property
    def tied(self) -> bool:
        """Whether tensors share storage (in practice: the head is the embedding)."""
        return any(name != first for name, first in self.canonical.items())

    def layer_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the tensors of one layer: name inside of the layer ("mlp.down_proj.weight") to shape."""
        prefix = f"{self.layers_name}.{layer}."
        return {
            name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)
        }  # fmt: skip

    @property
    def summary(self) -> ArchitectureSummary:
        """The summary that a search space needs, as plain data."""
        merged = [place for place in self.places.values() if not place.copied]
        inside = {place.role for place in merged if place.layer is not None}
        outside = {place.role for place in merged if place.layer is None}
        return ArchitectureSummary(
            n_layers=self.n_layers,
            tied=self.tied,
            layer_roles=tuple(role for role in ROLES if role in inside),
            outer_roles=tuple(role for role in ROLES if role in outside),
        )


def _heads(config: Any, layer: int | None) -> tuple[int, int, int] | None:
    """Return how many heads queries have, how many keys and values have, and their width, as the configuration says."""
    config = config.get_text_config()
    if getattr(config, "is_heterogeneous", False):  # its layers have settings of their own
        if layer is None or layer >= len(config.per_layer_config):
            return None
        config = config.per_layer_config[layer]
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", None) == "alibi":
        return None  # the slope of a head follows from its number
    n, hidden = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    if not isinstance(n, int) or not isinstance(hidden, int) or n < 1:
        return None
    groups, size = getattr(config, "num_key_value_heads", None), getattr(config, "head_dim", None)
    return n, groups if isinstance(groups, int) else n, size if isinstance(size, int) else hidden // n


def _shared(model: nn.Module, names: Mapping[str, Any]) -> dict[str, str]:
    """Map each saved name to the first name that is the same parameter object."""
    objects = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    return {name: first.setdefault(id(objects[name]), name) if name in objects else name for name in names}


class _RoleFinder:
    """Finds the role and the layer of a parameter from the modules above it."""

    def __init__(
        self, model: nn.Module, embeddings: tuple[nn.Module | None, nn.Module | None], stacks: Sequence[Stack]
    ) -> None:
        self._modules = dict(model.named_modules())
        self._input, self._output = embeddings
        self._lists = {name: stack for stack in stacks for name in stack.lists}
        # "GraniteMoeHybrid", with which the names of its classes begin, says nothing of a module.
        same = (a == b for a, b in zip(type(model).__name__, type(model.config).__name__, strict=False))
        self._family = type(model).__name__[: len(list(takewhile(bool, same)))]

    def find(self, parameter: str) -> tuple[str, int | None]:
        path = parameter.split(".")[:-1]
        owner = self._modules[".".join(path)]
        for depth in range(1, len(path)):
            stack = self._lists.get(".".join(path[:depth]))
            if stack is not None:
                # A list that holds a part of each layer says by its name which part.
                role = self._inside(path, owner, depth, own_name=bool(stack.beside))
                return role, stack.first + int(path[depth])
        if owner is self._input or (owner is not self._output and "embedding" in type(owner).__name__.lower()):
            return "embedding", None
        if owner is self._output:
            return "head", None
        return ("norm" if _is_norm(path[-1] if path else "", owner) else "other"), None

    def _inside(self, path: list[str], owner: nn.Module, depth: int, *, own_name: bool) -> str:
        """Return the role of a tensor inside a layer; `depth` is the position of the layer's index in `path`."""
        inner = path[depth + 1 :]
        if (inner or own_name) and _is_norm(path[-1], owner):
            return "norm"
        # From the tensor outwards, the nearest module whose name tells its role decides.
        for end in range(len(path), depth - 1 if own_name else depth + 1, -1):
            module = self._modules[".".join(path[:end])]
            hint = self._hint(path[end - 1], module)
            if hint is not None:
                return hint
            if _convolves(module):
                return "other"
        # No name tells: a matrix (with its bias) in a layer whose attention is elsewhere is part of the MLP.
        top = next((end for end in range(depth + 2, len(path)) if not self._is_list(path[:end])), len(path))
        layer, branch = ".".join(path[: depth + 1]), ".".join(path[:top])
        has_attention = any(
            self._hint(name.rpartition(".")[2], self._modules[name]) == "attention"
            for name in self._modules
            if name.startswith(f"{layer}.") and not f"{name}.".startswith(f"{branch}.")
        )
        has_matrix = any(parameter.dim() >= 2 for parameter in owner.parameters(recurse=False))
        return "mlp" if inner and has_attention and has_matrix else "other"

    def _is_list(self, path: Sequence[str]) -> bool:
        return isinstance(self._modules[".".join(path)], nn.ModuleList)

    def _hint(self, name: str, module: nn.Module) -> str | None:
        """Return what a module calls itself, "attention" or "mlp"; its attribute's name goes before its class's."""
        for text in (name, type(module).__name__.removeprefix(self._family)):
            # Of two words in a name the later one is the noun, as in "MoeAttention".
            found = [(match.start(), role) for pattern, role in ((_ATTENTION, "attention"), (_MLP, "mlp"))
                     for match in pattern.finditer(text)]  # fmt: skip
            if found:
                return max(found)[1]
        if not _convolves(module) and any(hasattr(module, field) for field in _ATTENTION_FIELDS):
            return "attention"
        return None


def _is_norm(name: str, module: nn.Module) -> bool:
    return bool(_NORM.search(name) or _NORM.search(type(module).__name__))


def _convolves(module: nn.Module) -> bool:
    """Return whether a module begins with a convolution, as state-space mixers do, which count heads, too."""
    return any(isinstance(child, nn.Conv1d) for child in module.children())
