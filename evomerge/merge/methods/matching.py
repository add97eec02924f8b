"""Weight matching: the order of one model's units in which its weights are most like another's.

The objective is Σ ⟨A, π(B)⟩ over all tensors. Units of one kind are matched by linear assignment; heads within groups
of keys and values by an assignment of groups whose similarity is that of their best assignment of heads. Where the
residual stream keeps its order, each bunch of units is a problem of its own, and the result is the best order.
Otherwise the stream and the bunches are improved in turns until nothing gains (coordinate ascent): a local optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evomerge.merge.methods.units import RESIDUAL, Axis, Bunch, Units

if TYPE_CHECKING:
    import torch

Orders: TypeAlias = Mapping[str, np.ndarray]
"""Key of units to `(n_units,)` int64: π(B) has unit `order[u]` of B at the place u. Others stay where they are."""

EXACT = 4096
"""Up to how many units an assignment is exact; its time grows with the third power (1 to 5 s for 4096 on one core)."""

MAX_SWEEPS = 100
SMALLEST_GAIN = 1e-12
"""Relative to the objective: what gains less is rounding."""


def assign(similarity: np.ndarray) -> np.ndarray:
    """Return for each row the column of an assignment of large total similarity.

    Args:
        similarity: `(n, n)`. Up to `EXACT` rows the total is the largest possible. With more, rows choose one after the
            other the most similar column that is left, those first that have the most similar one.
    """
    n = len(similarity)
    if n <= EXACT:
        from scipy.optimize import linear_sum_assignment

        return np.asarray(linear_sum_assignment(similarity, maximize=True)[1], np.int64)
    left, order = np.zeros(n, similarity.dtype), np.empty(n, np.int64)
    for row in np.argsort(-similarity.max(axis=1), kind="stable"):
        order[row] = np.argmax(similarity[row] + left)
        left[order[row]] = -np.inf
    return order


def reorder(x: torch.Tensor, axes: tuple[Axis | None, ...], orders: Orders) -> torch.Tensor:
    """Return a tensor of B as π(B) has it; the tensor itself where nothing changes its place."""
    import torch

    for dim, axis in enumerate(axes):
        if axis is not None and axis.units in orders:
            places = orders[axis.units][:, None] * axis.block + np.arange(axis.block)
            x = x.index_select(dim, torch.from_numpy(places.reshape(-1)).to(x.device))
    return x


def _zeros(n: int) -> np.ndarray:
    """Return an `(n, n)` matrix; a large one, which is assigned greedily, is of half the size."""
    return np.zeros((n, n), np.float64 if n <= EXACT else np.float32)


class Matching:
    """Matches the units of a model B to those of a model A.

    Args:
        units: of both.
        load: returns a tensor of A and of B.
    """

    def __init__(self, units: Units, load: Callable[[str], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._units = units
        self._load = load
        self.orders: dict[str, np.ndarray] = {}

    def match(self, bunches: Iterable[Bunch]) -> dict[str, np.ndarray]:
        """Return the best orders of bunches of units, the residual stream as it is."""
        for bunch in bunches:
            self._improve(bunch)
        return self.orders

    def match_all(self) -> dict[str, np.ndarray]:
        """Return orders of all units and of the residual stream that no change of one of them improves."""
        steps = [Bunch(RESIDUAL), *self._units.bunches]
        for _ in range(MAX_SWEEPS):
            gained = [self._improve(bunch) for bunch in steps]  # all of them, also after one that gained
            if not any(gained):
                break
        return self.orders

    def _improve(self, bunch: Bunch) -> bool:
        """Give a bunch its best order, the others as they are; return whether the objective grew."""
        keys = (bunch.heads, *(() if bunch.groups is None else (bunch.groups,)))
        similar = {key: _zeros(self._units.sizes[key]) for key in keys}
        for name in self._units.tensors_of(*keys):
            self._add(name, similar)
        found = self._best(bunch, similar)
        before = {key: self.orders.get(key, np.arange(self._units.sizes[key])) for key in keys}
        was, now = (sum(float(similar[key][np.arange(len(order)), order].sum()) for key, order in orders.items())
                    for orders in (before, found))  # fmt: skip
        if now <= was + SMALLEST_GAIN * abs(was):
            return False
        self.orders |= found
        return True

    def _add(self, name: str, similar: Mapping[str, np.ndarray]) -> None:
        """Add what a tensor says about the similarity of units of A with units of B, others in their present order."""
        axes = self._units.axes[name]
        a, b = self._load(name)
        others = {key: order for key, order in self.orders.items() if key not in similar}
        a, b = a.double(), reorder(b.double(), axes, others)
        for dim, axis in enumerate(axes):
            if axis is not None and axis.units in similar:
                n = self._units.sizes[axis.units]
                rows = [x.movedim(dim, 0).reshape(n, -1) for x in (a, b)]
                similar[axis.units][...] += (rows[0] @ rows[1].T).cpu().numpy()

    def _best(self, bunch: Bunch, similar: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if bunch.groups is None:
            return {bunch.heads: assign(similar[bunch.heads])}
        n, r = len(similar[bunch.groups]), bunch.per_group
        blocks = similar[bunch.heads].reshape(n, r, n, r).swapaxes(1, 2)  # of group g of A with group h of B
        inner = np.empty((n, n, r), np.int64)
        total = similar[bunch.groups].copy()
        for g in range(n):
            for h in range(n):
                inner[g, h] = assign(blocks[g, h])
                total[g, h] += blocks[g, h][np.arange(r), inner[g, h]].sum()
        groups = assign(total)
        heads = np.concatenate([groups[g] * r + inner[g, groups[g]] for g in range(n)])
        return {bunch.groups: groups, bunch.heads: heads}
