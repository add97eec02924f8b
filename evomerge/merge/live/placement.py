"""A model over several devices: which of its parts lie where, and what moves between them in a forward pass.

The parts are the layers and the modules outside of them. In the model's order, each device takes a run of parts, so
that all devices are filled to the same share of their free memory; the rest is for the keys, values and activations of
the parts. accelerate's hooks bring the input of each part to its device, and the model's output back to the device of
its input. accelerate's own planner is not used: so that it can offload layers, it keeps the size of the largest layer
free, and then finds no place for models that fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evomerge.errors import CheckpointError
from evomerge.merge.files.architecture import Architecture
from evomerge.system.memory import GIB

_STEPS = 40
"""How often the interval is halved in which the common share of filled memory is searched."""


@dataclass(frozen=True)
class Part:
    """A part of a model that lies on one device.

    Attributes:
        name: the name of its module, or of a tensor that belongs to no other part.
        n_bytes: the size of its parameters and buffers, without those that it shares with an earlier part.
        beside: index of the part whose device it must share, because they share a tensor. It is the first part for a
            tensor of no module that is called, and for a module without parameters that serves all layers. None: it may
            lie anywhere.
    """

    name: str
    n_bytes: int
    beside: int | None = None


def parts_of(architecture: Architecture, dtype: torch.dtype) -> list[Part]:
    """Return the parts of a model in their order; no weights are needed.

    Args:
        architecture: the model's architecture.
        dtype: the type of the floating-point parameters once they are loaded.
    """
    parts: list[Part] = []
    owner: dict[int, int] = {}  # id of a parameter to the part in which it counts
    lists = tuple(name for stack in architecture.stacks for name in stack.lists)
    for name, piece in _pieces(architecture.model, lists):
        index, n_bytes, beside = len(parts), 0, None
        tensors = [*piece.parameters(), *piece.buffers()] if isinstance(piece, nn.Module) else [piece]
        if not tensors:
            continue  # nothing to move: it works on any device
        for tensor in tensors:
            first = owner.setdefault(id(tensor), index)
            if first == index:
                n_bytes += tensor.numel() * (dtype.itemsize if tensor.is_floating_point() else tensor.element_size())
            else:
                beside = first if beside is None else min(beside, first)
        called = isinstance(piece, nn.Module) and any(isinstance(tensor, nn.Parameter) for tensor in tensors)
        if index and beside is None and not called:
            beside = 0
        parts.append(Part(name, n_bytes, beside))
    return parts


def _pieces(
    module: nn.Module, lists: Sequence[str], prefix: str = ""
) -> Iterator[tuple[str, nn.Module | torch.Tensor]]:
    """Yield the modules that neither are a list of layers nor contain one, and the tensors outside of them."""
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield prefix + name, tensor
    for name, child in module.named_children():
        if any(f"{one}.".startswith(f"{prefix}{name}.") for one in lists):
            yield from _pieces(child, lists, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def partition(parts: Sequence[Part], free: Sequence[int]) -> list[int] | None:
    """Choose the device of each part, so that the fullest device is filled as little as possible.

    Args:
        parts: in the order in which the model runs them.
        free: bytes that each device has free, in the order in which they are to be used.

    Returns:
        An index into `free` for each part, which never falls except for parts beside an earlier one; None if the model
        does not fit.
    """
    best = _fill(parts, free, 1.0)
    if best is None:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        share = (low + high) / 2
        found = _fill(parts, free, share)
        if found is None:
            low = share
        else:
            best, high = found, share
    return best


def _fill(parts: Sequence[Part], free: Sequence[int], share: float) -> list[int] | None:
    """Return devices that the parts fill, in order, up to a share of the free memory; None if a part finds no room."""
    chosen: list[int] = []
    used = [0] * len(free)
    here = 0
    for part in parts:
        if part.beside is not None:
            device = chosen[part.beside]
            if used[device] + part.n_bytes > share * free[device]:
                return None
        else:
            while here < len(free) and used[here] + part.n_bytes > share * free[here]:
                here += 1
            if here == len(free):
                return None
            device = here
        used[device] += part.n_bytes
        chosen.append(device)
    return chosen


def plan_devices(
    architecture: Architecture, dtype: torch.dtype, free: Mapping[torch.device, int]
) -> tuple[dict[str, torch.device], dict[torch.device, int]]:
    """Choose the device of each part of a model.

    Args:
        dtype: of its floating-point parameters once they are loaded.
        free: bytes that each device has free, the first device first.

    Returns:
        Name of each part to its device, and device to the model's bytes there.

    Raises:
        CheckpointError: with the sizes, if the model does not fit.
    """
    parts, devices = parts_of(architecture, dtype), list(free)
    chosen = partition(parts, list(free.values()))
    if chosen is None:
        there = ", ".join(f"{device} has {n_bytes / GIB:.2f} GiB" for device, n_bytes in free.items())
        raise CheckpointError(
            f"the live model takes {sum(part.n_bytes for part in parts) / GIB:.2f} GiB, in parts of up to "
            f"{max(part.n_bytes for part in parts) / GIB:.2f} GiB that cannot be split, and does not fit into what is "
            f"free: {there}"
        )
    taken = dict.fromkeys(devices, 0)
    for part, index in zip(parts, chosen, strict=True):
        taken[devices[index]] += part.n_bytes
    return {part.name: devices[index] for part, index in zip(parts, chosen, strict=True)}, taken


def spread(model: Any, places: Mapping[str, torch.device]) -> None:
    """Move the parts of a transformers model to their devices, and let activations follow them.

    Shared parameters stay shared. The model is called as before: its input may be on any device, its output comes back
    to the input's device, and each layer's keys and values stay with the layer.

    Args:
        model: the model.
        places: the devices that `plan_devices` returned; the input goes to that of the first part.

    Raises:
        CheckpointError: if parts on different devices share a tensor, which `plan_devices` could not see.
    """
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    stays = ["past_key_values", "past_key_value"]  # each of the cache's layers lies on the device of the model's layer
    first = next(iter(places.values()))
    modules = dict(model.named_modules())
    for name, device in places.items():
        if name in modules:
            modules[name].to(device)
            add_hook_to_module(modules[name], AlignDevicesHook(execution_device=device, skip_keys=stays))
        else:
            owner, _, last = name.rpartition(".")
            _move(modules[owner], last, device)
    add_hook_to_module(model, AlignDevicesHook(execution_device=first, io_same_device=True, skip_keys=stays))
    for name, device in places.items():
        if name in modules and any(tensor.device != device for tensor in modules[name].state_dict().values()):
            raise CheckpointError(
                f"{name} of {type(model).__name__} shares tensors with another part of the model, so that they cannot "
                "lie on different devices; give it one device"
            )


def _move(owner: nn.Module, name: str, device: torch.device) -> None:
    """Move one parameter or buffer of a module."""
    if name in owner._parameters:
        parameter = owner._parameters[name]
        assert parameter is not None  # named_parameters leaves out None
        parameter.data = parameter.data.to(device)
    else:
        setattr(owner, name, getattr(owner, name).to(device))
