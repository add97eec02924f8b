"""What a merge method may know about a tensor beside its entries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorAt:
    """What a merge method may know about one tensor beside its entries.

    Attributes:
        name: in the result.
        role: one of `evomerge.recipe.ROLES`.
        layer: index of its layer; None outside of the layers.
        n_layers: how many layers the model has.
        shape: its shape.
        transposed: whether it is a matrix stored as inputs × outputs.
        heads: of a tensor of an attention: how many heads its queries have, how many its keys and values have, and how
            wide a head is; None where this is not known, or where heads differ by their number (ALiBi).
    """

    name: str
    role: str
    layer: int | None
    n_layers: int
    shape: tuple[int, ...]
    transposed: bool = False
    heads: tuple[int, int, int] | None = None

    @property
    def kind(self) -> str:
        """What the tensor is to methods that work on matrices.

        "matrix": a linear map, outputs × inputs unless `transposed`; "stack": linear maps one after the other, as of
        experts, one for each index of the first axis; "embedding": rows for tokens or positions, of the embedding or
        the head; "vector": norms, scalars and biases, those of several experts too; "kernel": four or more axes.
        """
        n_axes = len(self.shape)
        if n_axes < 2 or self.name.endswith("bias"):
            return "vector"
        if self.role in ("embedding", "head"):
            return "embedding"
        return {2: "matrix", 3: "stack"}.get(n_axes, "kernel")
