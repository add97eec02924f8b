"""What methods on singular values share: the matrices of a tensor, singular value decompositions, polar factors.

A merge must be the same bytes with any number of threads, but LAPACK's last bits change with that number. So everything
here is computed in float64 on the CPU by one thread, and rounded once, to fp32. Singular vectors are unique only up to
their signs, and rotate freely where singular values are equal; methods should use expressions that do not depend on
this, such as U Vᵀ, or the projection U Uᵀ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.tensor_at import TensorAt

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

TOLERANCE = 1e-6
"""A singular value that is at most this share of the largest counts as 0: fp32 parents hold no more."""

_ALONE = threading.RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, so that sums of products are added up in one order."""
    import torch

    with _ALONE:  # the number belongs to the process: two threads that set it back would leave it wrong
        before = torch.get_num_threads()
        if before != 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if before != 1:
                torch.set_num_threads(before)


def holds_matrices(at: TensorAt) -> bool:
    """Return whether a tensor is one linear map, or a stack of them; embeddings, vectors and kernels are not."""
    return at.kind in ("matrix", "stack")


def exact_task_vectors(inputs: Inputs) -> list[torch.Tensor]:
    """Return τ_i = θ_i − θ0 in float64 on the CPU: the differences of numbers of the files, exact or nearly so."""
    base = inputs.origin.cpu().double()
    return [parent.cpu().double() - base for parent in inputs.parents]


def matrices(tensor: torch.Tensor, at: TensorAt) -> list[torch.Tensor]:
    """Return the matrix of a tensor, or those of a stack, each outputs × inputs, in float64 on the CPU."""
    wide = tensor.cpu().double()  # not every device has float64
    wide = wide.mT if at.transposed else wide
    return list(wide) if at.kind == "stack" else [wide]


def rejoin(parts: Sequence[torch.Tensor], at: TensorAt, device: torch.device) -> torch.Tensor:
    """Return the tensor that has these matrices, the reverse of `matrices`, as contiguous fp32."""
    import torch

    narrow = [(part.mT if at.transposed else part).float().contiguous() for part in parts]
    return (torch.stack(narrow) if at.kind == "stack" else narrow[0]).to(device)


def over_matrices(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]], at: TensorAt, tensors: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return the tensors whose matrices a function makes of those of others.

    Args:
        function: gets one matrix of each tensor, float64, outputs × inputs; it returns any number of matrices of the
            same shape. It is run by one thread.
        at: the place of the tensors; it must hold matrices.
        tensors: one or more, of the place's shape.

    Returns:
        For each matrix that the function returns a tensor in fp32, on the device of the given ones.
    """
    with one_thread():
        rows = zip(*(matrices(tensor, at) for tensor in tensors), strict=True)
        made = [function(list(row)) for row in rows]
        return [rejoin(parts, at, tensors[0].device) for parts in zip(*made, strict=True)]


@dataclass(frozen=True)
class Svd:
    """A matrix as U diag(σ) Vᵀ, without the singular values that count as 0.

    Attributes:
        u: `(m, rank)`.
        sigma: `(rank,)`, falling.
        vt: `(rank, n)`.
    """

    u: torch.Tensor
    sigma: torch.Tensor
    vt: torch.Tensor

    @property
    def rank(self) -> int:
        """How many singular values there are."""
        return len(self.sigma)

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return sum(each.numel() * each.element_size() for each in (self.u, self.sigma, self.vt))

    def top(self, k: int) -> Svd:
        """Return the k largest singular values with their vectors; all of them if there are no more than k."""
        return Svd(self.u[:, :k], self.sigma[:k], self.vt[:k])

    def float(self) -> Svd:
        """Return it in fp32, in memory of its own, in order to keep it."""
        import torch

        made = [each.to(torch.float32).contiguous() for each in (self.u, self.sigma, self.vt)]
        return Svd(made[0], made[1], made[2])


def numerical_rank(sigma: torch.Tensor, tolerance: float = TOLERANCE, largest: float | None = None) -> int:
    """Return how many singular values are above `tolerance` times the largest.

    Args:
        sigma: singular values, falling.
        tolerance: a share of the largest, in [0, 1).
        largest: what counts as the largest, where a matrix is what was left of another one; None: that of `sigma`.
    """
    if not len(sigma):
        return 0
    reference = float(sigma[0]) if largest is None else largest
    return int((sigma > tolerance * reference).sum())


def thin_svd(matrix: torch.Tensor, tolerance: float = TOLERANCE, largest: float | None = None) -> Svd:
    """Return the singular value decomposition of a matrix up to its numerical rank; call it within `one_thread`.

    Args:
        matrix: float64, `(m, n)`.
        tolerance, largest: see `numerical_rank`.
    """
    import torch

    size = float(torch.linalg.matrix_norm(matrix))
    if size <= tolerance * (largest or 0.0):  # nothing but zeros, for which LAPACK would take its time
        return Svd(matrix[:, :0], matrix.new_zeros(0), matrix[:0])
    try:
        found = Svd(*torch.linalg.svd(matrix, full_matrices=False))
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # with many zeros, LAPACK may find nothing at all
        found = _svd_of_range(matrix)
    return found.top(numerical_rank(found.sigma, tolerance, largest))


def _svd_of_range(matrix: torch.Tensor) -> Svd:
    """Return the decomposition without singular values near 0 (below 1e−7 of the largest).

    The eigenvectors of the smaller Gram matrix span what is left; in that basis the matrix has no zeros any more.
    """
    import torch

    if matrix.shape[0] < matrix.shape[1]:
        turned = _svd_of_range(matrix.T)
        return Svd(turned.vt.T, turned.sigma, turned.u.T)
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    basis = vectors[:, squares > 1e-14 * squares[-1]].flip(1)
    q, r = torch.linalg.qr(matrix @ basis)
    u, sigma, vt = torch.linalg.svd(r)
    return Svd(q @ u, sigma, vt @ basis.T)


def polar(matrix: torch.Tensor, tolerance: float = TOLERANCE) -> torch.Tensor:
    """Return the polar factor U Vᵀ of U Σ Vᵀ, without the singular values that count as 0: it is then unique.

    Of a matrix of full rank, it is the nearest one with orthonormal columns (or rows). Call it within `one_thread`.
    """
    found = thin_svd(matrix, tolerance)
    return found.u @ found.vt


def kept_svds(tensor: torch.Tensor, at: TensorAt) -> list[Svd]:
    """Return the decomposition of each matrix of a tensor, in fp32 on the CPU, in order to keep them."""
    with one_thread():
        return [thin_svd(matrix).float() for matrix in matrices(tensor, at)]


def low_rank_sum(
    decomposed: Sequence[Sequence[Svd]], weight: Sequence[float], k: int, at: TensorAt, device: torch.device
) -> torch.Tensor:
    """Return Σ w_i X_i, each X_i cut to its k largest singular values, from their kept decompositions, as fp32.

    Args:
        decomposed: for each X_i what `kept_svds` returned for it.
        weight: w_i.
        k: how many singular values stay in each matrix.
        at: the place of the tensors.
        device: where the result shall lie.
    """
    import torch

    parts = []
    with one_thread():
        for row in zip(*decomposed, strict=True):
            left = torch.cat([svd.top(k).u * (svd.top(k).sigma * w) for svd, w in zip(row, weight, strict=True)], dim=1)
            parts.append(left @ torch.cat([svd.top(k).vt for svd in row]))
    return rejoin(parts, at, device)


def smaller_side(at: TensorAt) -> int:
    """Return r, the smaller side of each matrix of a tensor."""
    return min(at.shape[-2:])


class LastFound(Generic[T]):
    """Keeps one value with what it was found for; the next one takes its place.

    A search that evolves what the value depends on then fills the parent cache once, not once for each candidate.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: T | None = None

    def find(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value for a key, which is made if another one is held."""
        if self._value is None or self._key != key:
            self._key, self._value = key, make()
        return self._value
