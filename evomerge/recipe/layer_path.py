"""A layer path: which layer of which parent a token passes next, and at what scale. Plain data.

Akiba et al. (arXiv 2403.13187, section 3.2): the input of each layer of the path is multiplied by a scale. In YAML, a
run of neighbouring layers of one parent is one entry; its scale applies to the input of its first layer::

    path:
      - {parent: math, layers: [0, 4]}                  # layers 0, 1, 2, 3
      - {parent: japanese, layers: [2, 4], scale: 0.8}  # 0.8 times what came out of layer 3 of math goes into layer 2
      - {parent: math, layers: [5, 6]}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import RecipeError
from evomerge.system.yaml_text import Inline


@dataclass(frozen=True)
class Step:
    """One layer of a path.

    Attributes:
        parent: name of the parent from which it comes.
        layer: its index there, from 0.
        scale: the factor of its input (the residual stream), above 0. Zero would erase all that came before, and a
            negative number would flip the sign of the stream, which no layer of a parent has ever seen flipped.

    Raises:
        RecipeError: if the layer or the scale is no such number.
    """

    parent: str
    layer: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise RecipeError(f"a layer of a path is a whole number from 0, but came {self.layer!r}")
        scale = self.scale
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
            raise RecipeError(f"the scale of a path's step must be a finite number, but came {scale!r}")
        if scale <= 0:
            why = "erases all that came before" if scale == 0 else "flips the sign of the residual stream"
            raise RecipeError(
                f"the scale of {self.parent} layer {self.layer} must be above 0, but came {scale:g}, which {why}"
            )
        object.__setattr__(self, "scale", float(scale))


def runs(path: Iterable[Step]) -> list[tuple[str, int, int, float]]:
    """Return the path as runs of neighbouring layers: parent, start, stop (exclusive), scale of the first input."""
    found: list[tuple[str, int, int, float]] = []
    for step in path:
        if found and step.scale == 1.0 and found[-1][0] == step.parent and found[-1][2] == step.layer:
            parent, start, _, scale = found[-1]
            found[-1] = (parent, start, step.layer + 1, scale)
        else:
            found.append((step.parent, step.layer, step.layer + 1, step.scale))
    return found


def path_to_data(path: Iterable[Step]) -> list[dict[str, Any]]:
    """Return the JSON/YAML form: equal paths give equal data."""
    return [
        {"parent": parent, "layers": Inline([start, stop])} | ({} if scale == 1.0 else {"scale": scale})
        for parent, start, stop, scale in runs(path)
    ]


def path_from_data(data: Any) -> tuple[Step, ...]:
    """Read the JSON/YAML form.

    Raises:
        RecipeError: if an entry is not {parent:, layers: [start, stop], scale:} (or `layer:` for a single layer).
    """
    if data is None:
        return ()
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise RecipeError(f"`path` must list runs of layers like {{parent: NAME, layers: [0, 4]}}, but came {data!r}")
    return tuple(step for entry in data for step in _run_from_data(entry))


def _run_from_data(entry: Any) -> list[Step]:
    layers: Any = None
    if isinstance(entry, Mapping) and "parent" in entry and not set(entry) - {"parent", "layer", "layers", "scale"}:
        layers = entry.get("layers") if "layer" not in entry else None if "layers" in entry else [entry["layer"]] * 2
    whole = isinstance(layers, (list, tuple)) and len(layers) == 2
    if not whole or any(isinstance(i, bool) or not isinstance(i, int) for i in layers):
        raise RecipeError(
            "an entry of `path` is {parent: NAME, layers: [start, stop]} or {parent: NAME, layer: n}, each with an "
            f"optional scale, but came {entry!r}"
        )
    start, stop = (layers[0], layers[0] + 1) if "layer" in entry else layers
    if not 0 <= start < stop:
        raise RecipeError(f"`layers` of a path's entry must be [start, stop] with 0 <= start < stop, but came {layers}")
    scale = entry.get("scale")
    first = Step(str(entry["parent"]), start, 1.0 if scale is None else scale)
    return [first, *(Step(first.parent, layer) for layer in range(start + 1, stop))]
