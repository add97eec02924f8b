"""The place of a tensor in its model, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from evomerge.merge.files.checkpoint import TensorInfo


@dataclass(frozen=True)
class TensorPlace:
    """The place of a tensor: its role and layer.

    Attributes:
        role: one of `evomerge.recipe.ROLES`.
        layer: index of its layer; None outside of the layers.
        buffer: whether it is computed rather than trained (a mask, a rotary cache), so that it is copied and never
            merged; False for buffers that training changes (a router's correction bias).
        transposed: whether it is the matrix of a linear map stored as inputs × outputs (GPT-2's `Conv1D`) rather than
            outputs × inputs.
        heads: of a tensor of an attention: how many heads its queries have, how many its keys and values have, and how
            wide a head is; None where the configuration does not say it, or where heads differ by their number (ALiBi).
        kept: whether it stands beside the language part, as a vision tower does, so that one model lends it and it is
            never merged.
    """

    role: str
    layer: int | None
    buffer: bool = False
    transposed: bool = False
    heads: tuple[int, int, int] | None = None
    kept: bool = False

    @property
    def copied(self) -> bool:
        """Whether it is copied from one model, whatever the recipe, so that no gene moves it."""
        return self.buffer or self.kept


@dataclass(frozen=True)
class Merged:
    """One tensor of a merge's result, as the donor has it, whatever the recipe."""

    name: str
    info: TensorInfo
    place: TensorPlace
