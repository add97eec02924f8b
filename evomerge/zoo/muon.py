"""Muon: momentum whose update is orthogonalised, for the hidden matrices of a small model.

From https://kellerjordan.github.io/posts/muon/ ; here matrices of one shape are stacked and treated at
once, because on a CPU many small products cost more than one batched product.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# The quintic Newton-Schulz iteration of the source, which drives every singular value to about one.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon:
    """Steps matrices along their orthogonalised Nesterov momentum."""

    def __init__(self, matrices: Iterable[Tensor], *, momentum: float = 0.95, weight_decay: float = 0.02) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._by_shape: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self._by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
        self._buffers = {shape: torch.zeros(len(ms), *shape) for shape, ms in self._by_shape.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step and drop the gradients."""
        for shape, matrices in self._by_shape.items():
            gradient = torch.stack([m.grad for m in matrices if m.grad is not None])  # (count, rows, columns)
            buffer = self._buffers[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonalised(gradient.lerp(buffer, self.momentum))
            scale = learning_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, step in zip(matrices, update, strict=True):
                matrix.mul_(1 - learning_rate * self.weight_decay).add_(step, alpha=-scale)
                matrix.grad = None


def orthogonalised(batch: Tensor, steps: int = 5) -> Tensor:
    """Return the matrices of a ``(count, rows, columns)`` batch with their singular values moved to about one."""
    wide = batch.shape[1] <= batch.shape[2]
    x = batch if wide else batch.mT
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x if wide else x.mT
