"""Units whose order means nothing: which axes of a model's tensors may be put in another order together.

The hidden units of an MLP, the attention heads (groups of keys and values first, then the queries of a group) and,
where all tensors are understood, the residual stream. Groups are found by shapes and by which tensors stand in one
module; whatever does not fit the pattern exactly (fused projections, norms across heads, experts in one tensor, ALiBi)
is left in its order. The dimensions inside of a head are never touched: rotary positions pair them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from evomerge.merge.methods.tensor_at import TensorAt

RESIDUAL = "residual"
"""The key of the residual stream among units."""

_INPUT = re.compile(r"^w?[qkv](_|\d|$)|^(query|key|value)", re.IGNORECASE)


@dataclass(frozen=True)
class Axis:
    """How one axis of a tensor is made of units: entries u·block … (u+1)·block − 1 belong to unit u."""

    units: str
    block: int = 1


@dataclass(frozen=True)
class Bunch:
    """Units that are matched together: one kind of them, or heads within groups of keys and values.

    Attributes:
        heads: the key of the units, or of the heads.
        groups: the key of the groups of keys and values; None: the units stand alone.
        per_group: how many heads a group has.
    """

    heads: str
    groups: str | None = None
    per_group: int = 1


@dataclass
class Units:
    """The units of a model.

    Attributes:
        axes: tensor to what its axes are made of; None: of what keeps its order. Other tensors have no units.
        bunches: what is matched together.
        sizes: key of units to their number.
        strange: tensors that keep the residual stream from being put in another order, as it is not clear how.
    """

    axes: dict[str, tuple[Axis | None, ...]] = field(default_factory=dict)
    bunches: list[Bunch] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    def tensors_of(self, *keys: str | None) -> list[str]:
        """Return the tensors with an axis of some of these units."""
        return [
            name for name, axes in self.axes.items() if any(axis is not None and axis.units in keys for axis in axes)
        ]

    def bunch_of(self, name: str) -> Bunch | None:
        """Return the bunch that a tensor's units, other than the residual stream, belong to."""
        keys = {axis.units for axis in self.axes.get(name, ()) if axis is not None}
        return next((bunch for bunch in self.bunches if {bunch.heads, bunch.groups} & keys), None)


def find_units(tensors: Mapping[str, TensorAt]) -> Units:
    """Return the units of a model.

    Args:
        tensors: all of its tensors that are merged, by name.
    """
    units = Units()
    hidden = _hidden_size(tensors)
    modules: dict[str, dict[str, TensorAt]] = {}
    for name, at in tensors.items():
        if at.layer is not None:
            modules.setdefault(".".join(name.split(".")[:-2]), {})[name] = at
    for prefix, inside in modules.items():
        roles = {at.role for at in inside.values()}
        if "mlp" in roles:
            _add_mlp(units, prefix, inside, hidden)
        elif "attention" in roles:
            _add_attention(units, prefix, inside, hidden)
    _add_residual(units, tensors, hidden)
    return units


def _hidden_size(tensors: Mapping[str, TensorAt]) -> int:
    """Return the width of the largest embedding; 0 where there is none."""
    shapes = [at.shape for at in tensors.values() if at.role == "embedding" and len(at.shape) == 2]
    return max(shapes)[1] if shapes else 0


def _sizes(at: TensorAt) -> tuple[int, int]:
    """Return the outputs and inputs of a matrix."""
    return (at.shape[1], at.shape[0]) if at.transposed else (at.shape[0], at.shape[1])


def _axes(at: TensorAt, out: Axis | None, into: Axis | None) -> tuple[Axis | None, ...]:
    return (into, out) if at.transposed else (out, into)


def _matrices(inside: Mapping[str, TensorAt]) -> tuple[dict[str, TensorAt], dict[str, str], list[str]]:
    """Return the matrices of a module, bias to the matrix beside it, and what is neither."""
    matrices = {name: at for name, at in inside.items() if at.kind == "matrix"}
    beside = {name.rpartition(".")[0]: name for name in matrices}
    biases = {
        name: beside[name.rpartition(".")[0]]
        for name, at in inside.items()
        if len(at.shape) == 1 and name.rpartition(".")[0] in beside
    }
    biases = {name: matrix for name, matrix in biases.items() if inside[name].shape == (_sizes(inside[matrix])[0],)}
    return matrices, biases, [name for name in inside if name not in matrices and name not in biases]


def _add_mlp(units: Units, prefix: str, inside: Mapping[str, TensorAt], hidden: int) -> None:
    """Note the hidden units of an MLP: outputs of the maps that lead in, inputs of the one that leads out."""
    matrices, biases, others = _matrices(inside)
    out = [name for name, at in matrices.items() if _sizes(at)[0] == hidden]
    on_stream = all(inside[name].role == "norm" and inside[name].shape == (hidden,) for name in others)
    if len(out) != 1 or not on_stream or len(matrices) < 2:
        return
    inner = _sizes(matrices[out[0]])[1]
    into = [name for name in matrices if name not in out]
    if inner == hidden or any(_sizes(matrices[name]) != (inner, hidden) for name in into):
        return
    key = f"{prefix}: units"
    stream, own = Axis(RESIDUAL), Axis(key)
    for name in into:
        units.axes[name] = _axes(matrices[name], own, stream)
    units.axes[out[0]] = _axes(matrices[out[0]], stream, own)
    for bias, matrix in biases.items():
        units.axes[bias] = (stream if matrix == out[0] else own,)
    units.sizes[key] = inner
    units.bunches.append(Bunch(key))


def _add_attention(units: Units, prefix: str, inside: Mapping[str, TensorAt], hidden: int) -> None:
    """Note the heads of an attention with projections of its own for queries, keys, values and the output."""
    matrices, biases, others = _matrices(inside)
    heads = next((at.heads for at in matrices.values() if at.heads is not None), None)
    if heads is None or len(matrices) != 4:
        return
    n, groups, size = heads
    # Each head has a norm of the same scales, which know nothing of its place.
    if size == hidden or any(inside[name].role != "norm" or inside[name].shape != (size,) for name in others):
        return
    into = [name for name in matrices if _INPUT.match(name.split(".")[-2])]
    out = [name for name in matrices if name not in into]
    wanted = sorted([(n * size, hidden), (groups * size, hidden), (groups * size, hidden)])
    if len(out) != 1 or sorted(_sizes(matrices[name]) for name in into) != wanted:
        return
    if _sizes(matrices[out[0]]) != (hidden, n * size) or n % groups:
        return
    all_heads, all_groups = Axis(f"{prefix}: heads", size), Axis(f"{prefix}: groups", size)
    queries = [name for name in into if _is_query(name)]
    if len(queries) != 1 or _sizes(matrices[queries[0]])[0] != n * size:
        return
    stream = Axis(RESIDUAL)
    for name in into:
        units.axes[name] = _axes(matrices[name], all_heads if name in queries else all_groups, stream)
    units.axes[out[0]] = _axes(matrices[out[0]], stream, all_heads)
    for bias, matrix in biases.items():
        units.axes[bias] = (stream if matrix == out[0] else all_heads if matrix in queries else all_groups,)
    units.sizes[all_heads.units], units.sizes[all_groups.units] = n, groups
    units.bunches.append(Bunch(all_heads.units, all_groups.units, n // groups))


def _is_query(name: str) -> bool:
    return name.split(".")[-2].lower().removeprefix("w").startswith("q")


def _add_residual(units: Units, tensors: Mapping[str, TensorAt], hidden: int) -> None:
    """Note the residual stream, if it is clear for every tensor which of its axes is the stream."""
    for name, at in tensors.items():
        if name in units.axes:
            continue
        if at.kind == "embedding" and at.shape[1:] == (hidden,) and not at.transposed:
            units.axes[name] = (None, Axis(RESIDUAL))
        elif at.role == "norm" and at.shape == (hidden,):
            units.axes[name] = (Axis(RESIDUAL),)
        elif at.kind != "vector" or at.role not in ("head", "norm") or hidden in at.shape:
            units.strange.append(name)
    units.sizes[RESIDUAL] = hidden
