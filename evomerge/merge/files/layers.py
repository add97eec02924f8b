"""The layers of a model class, found from its module tree.

Mostly they are one list of modules. But an encoder-decoder has two, a model may run several stacks of one kind of layer
(byte encoder, latent transformer, byte decoder), blocks may be lists of layers themselves, and XLM keeps attentions,
norms and MLPs of its layers in lists of their own. The rules, of which none names a family:

- the main stack is the outermost list with the most parameters;
- a list whose modules are of a class that occurs in the main stack is a further stack, and so is the largest list of
  the encoder and of the decoder, where the configuration says that there are both;
- stacks are numbered on, in the order of the module tree: encoder layers come before decoder layers;
- lists of the same length beside a stack, in the same module, hold further parts of the same layers;
- a list of lists is as many stacks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Stack:
    """Layers that follow each other in one list of modules.

    Attributes:
        name: name of the list in the module tree, "model.layers" for a Llama.
        first: the number of its first layer; earlier stacks have the numbers before.
        n_layers: how many layers it has.
        beside: names of the lists that hold further parts of the same layers; mostly there are none.
    """

    name: str
    first: int
    n_layers: int
    beside: tuple[str, ...] = ()

    @property
    def lists(self) -> tuple[str, ...]:
        """The names of all lists that its layers are in."""
        return (self.name, *self.beside)


def find_stacks(model: Any, merged: Collection[str]) -> tuple[Stack, ...]:
    """Return the stacks of layers of a model; none where it has no list of modules.

    Args:
        model: the model.
        merged: the names of the tensors that are merged; lists without any, as in a vision tower, are no layers.
    """
    lists = {name: one for name, one in _lists(model) if any(each.startswith(f"{name}.") for each in merged)}
    sizes = {name: _size(one) for name, one in lists.items()}
    main = max(lists, key=lambda name: sizes[name], default=None)
    if main is None or not sizes[main]:
        return ()
    kinds = {type(layer) for layer in lists[main]}
    chosen = {main} | {name for name, one in lists.items() if kinds & {type(layer) for layer in one}}
    if getattr(model.config, "is_encoder_decoder", False):
        for part in _halves(model):
            inside = {id(module) for module in part.modules()}
            mine = [name for name, one in lists.items() if id(one) in inside]
            if mine and not chosen & set(mine):
                chosen.add(max(mine, key=lambda name: sizes[name]))
    stacks: list[Stack] = []
    taken: set[str] = set()
    for name, one in lists.items():
        if name not in chosen:
            continue
        above = name.rpartition(".")[0]
        beside = tuple(
            other
            for other, its in lists.items()
            if other not in chosen | taken and other.rpartition(".")[0] == above and len(its) == len(one)
        )
        taken.update((name, *beside))
        stacks.append(Stack(name, sum(stack.n_layers for stack in stacks), len(one), beside))
    return tuple(stacks)


def _lists(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """Yield the outermost lists of modules, in order; of lists of lists the inner ones."""
    for name, child in module.named_children():
        nested = len(list(child.children())) > 0 and all(isinstance(one, nn.ModuleList) for one in child.children())
        if isinstance(child, nn.ModuleList) and not nested:
            yield prefix + name, child
        else:
            yield from _lists(child, f"{prefix}{name}.")


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _halves(model: Any) -> Iterator[nn.Module]:
    """Yield the encoder and the decoder of a model that has both."""
    for get in ("get_encoder", "get_decoder"):
        try:
            half = getattr(model, get)()
        except (AttributeError, NotImplementedError, TypeError):
            continue
        if isinstance(half, nn.Module) and half is not model:
            yield half
