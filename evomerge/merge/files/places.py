"""Where a tensor stands in its model."""

from __future__ import annotations

from dataclasses import dataclass

from evomerge.merge.files.checkpoint import TensorInfo


@dataclass(frozen=True)
class TensorPlace:
    """Where a parameter stands.

    Attributes:
        role: one of `evomerge.recipe.ROLES`.
        layer: index of its layer; None outside of the layers.
        buffer: it is computed, not trained (a mask, a rotary cache): copied, never merged. Buffers that training moves
            (a router's correction bias) are not meant.
    """

    role: str
    layer: int | None
    buffer: bool = False


@dataclass(frozen=True)
class Merged:
    """One tensor of the result, before any recipe: as the donor has it."""

    name: str
    info: TensorInfo
    place: TensorPlace
