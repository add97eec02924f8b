"""The same bits with plain torch: where numba is not installed, or Triton on a GPU.

Products and sums are separate operations, since torch's fused forms (`add` with `alpha`, `addcmul`) round once on some
processors and twice on others. A scalar is never a divisor, since a GPU multiplies by its reciprocal instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from evomerge.merge.kernels import philox
from evomerge.merge.kernels.program import Band, BitRange, Clip, Cut, Drop, Mask, Program, Ranked, Survey

_LANES = 1024
_ROWS = 64


def _chunk(device: torch.device) -> int:
    """Return how many entries are computed at a time: few enough for a CPU's cache, many enough for a GPU."""
    return 1 << 17 if device.type == "cpu" else 1 << 24


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1)


class TorchEngine:
    """Plain torch, one operation after the other, in chunks."""

    def run(
        self,
        program: Program,
        base: torch.Tensor | None,
        parents: Sequence[torch.Tensor],
        out: torch.Tensor,
        *,
        roundings: Sequence[torch.dtype] = (),
    ) -> torch.Tensor:
        """See `KernelEngine`."""
        target, step = out.view(-1), _chunk(out.device)
        bad = torch.zeros((), dtype=torch.bool, device=out.device)
        for start in range(0, target.numel(), step):
            stop = min(start + step, target.numel())
            made = _compute(
                program, None if base is None else _flat(base)[start:stop],
                [_flat(parent)[start:stop] for parent in parents], start,
            )  # fmt: skip
            for dtype in roundings:
                made = made.to(dtype)
            target[start:stop] = made
            bad |= ~target[start:stop].isfinite().all()
        return bad

    def product(self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
        """See `KernelEngine`."""
        out.zero_()
        for k in range(right.shape[0]):  # a product of matrices would add up in an order of its own
            out += left[:, k : k + 1] * right[k : k + 1]

    def finite(self, tensor: torch.Tensor) -> bool:
        """See `KernelEngine`."""
        return all(bool(piece.isfinite().all()) for piece in _flat(tensor).split(_chunk(tensor.device)))

    def dots(self, a: torch.Tensor, b: torch.Tensor, base: torch.Tensor | None = None) -> tuple[float, float, float]:
        """See `KernelEngine`."""
        step = 64 * _LANES * _ROWS
        origins = itertools.repeat(None) if base is None else _flat(base).split(step)
        pieces = zip(_chunks(a, b, step), origins, strict=False)
        sums = torch.cat([_segments(x, y, origin) for (x, y), origin in pieces]).T.tolist()
        aa, ab, bb = (sum(column) for column in sums)
        return float(aa), float(ab), float(bb)

    def tally(self, base: torch.Tensor, parent: torch.Tensor, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """See `KernelEngine`."""
        made = (
            torch.zeros(0, dtype=torch.int32, device=base.device),
            torch.zeros(0, dtype=torch.int64, device=base.device),
        )
        for some in _bits(base, parent):
            values, counts = some.unique(return_counts=True)
            different, which = torch.cat([made[0], values]).unique(return_inverse=True)
            if len(different) > most:
                return None
            counts = torch.zeros_like(different, dtype=torch.int64).index_add_(0, which, torch.cat([made[1], counts]))
            made = different, counts
        return made[0].cpu().numpy(), made[1].cpu().numpy()

    def histogram(
        self, base: torch.Tensor, parent: torch.Tensor, shift: int, counts: np.ndarray, member: np.ndarray
    ) -> None:
        """See `KernelEngine`."""
        for bits in _bits(base, parent):
            counts += torch.bincount(bits >> shift, minlength=len(counts)).cpu().numpy()
            some = bits[::4].cpu().numpy()
            member[some >> shift] = some

    def survey(self, base: torch.Tensor, parents: Sequence[torch.Tensor], ranges: Sequence[BitRange]) -> list[Survey]:
        """See `KernelEngine`."""
        return [_survey(base, parent, each) for parent, each in zip(parents, ranges, strict=True)]

    def nth(self, base: torch.Tensor, parent: torch.Tensor, bits: int, n: int) -> tuple[int, int]:
        """See `KernelEngine`."""
        start, passed = 0, 0
        for some in _bits(base, parent):
            hits = (some == bits).nonzero()[:, 0]
            if n <= passed + hits.numel():
                return start + int(hits[n - passed - 1]), n
            start, passed = start + some.numel(), passed + hits.numel()
        return -1, passed


def _survey(base: torch.Tensor, parent: torch.Tensor, wanted: BitRange) -> Survey:
    values, places, n, at = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], 0, 0
    for bits in _bits(base, parent):
        equal = bits == wanted.value
        others = ((bits >= wanted.low) & (bits < wanted.high) & ~equal).nonzero()[:, 0]
        values.append(bits[others].cpu().numpy())
        places.append(others.cpu().numpy() + at)
        n += int(equal.sum())
        at += bits.numel()
    return Survey(n, np.concatenate(values), np.concatenate(places))


def _compute(program: Program, base: torch.Tensor | None, parents: Sequence[torch.Tensor], start: int) -> torch.Tensor:
    origin = None if base is None else base.float()
    terms = [parent.float() if origin is None else parent.float() - origin for parent in parents]
    if origin is None and len(terms) == 1 and program.weight[0] == 1.0:
        return terms[0]
    if program.masks:
        terms = [_masked(term, mask, start) for term, mask in zip(terms, program.masks, strict=True)]
    total = _disjoint(program, terms) if program.disjoint else weighted_sum(terms, program.weight)
    return total if origin is None else total.mul_(program.scale).add_(origin)


def _masked(term: torch.Tensor, mask: Mask, start: int) -> torch.Tensor:
    if isinstance(mask, Cut):
        return trimmed(term, mask, start)
    if isinstance(mask, Clip):
        return term.clamp(-mask.most, mask.most)
    if isinstance(mask, Band):
        return torch.where(_kept(term, mask.removed, start), 0.0, trimmed(term, mask.kept, start))
    return _ranked(term, mask, start) if isinstance(mask, Ranked) else dropped(term, mask, start)


def trimmed(tau: torch.Tensor, cut: Cut, start: int = 0) -> torch.Tensor:
    """Return τ, with 0 for entries that the cut does not keep; `start` is the flat index of its first entry."""
    return torch.where(_kept(tau, cut, start), tau, 0.0)


def _kept(tau: torch.Tensor, cut: Cut, start: int) -> torch.Tensor:
    magnitude = tau.abs()
    keep = magnitude > cut.threshold
    if cut.limit > start:
        equal = (magnitude == cut.threshold).view(-1)
        equal[cut.limit - start :] = False
        keep |= equal.view(keep.shape)
    return keep


def _ranked(tau: torch.Tensor, mask: Ranked, start: int) -> torch.Tensor:
    below, rescale = (torch.from_numpy(each).to(tau.device) for each in (mask.below, mask.rescale))
    rank = mask.ranks[start : start + tau.numel()].long()
    word = 0 if mask.seed is None else philox.words(mask.seed, start, tau.numel(), tau.device)
    return torch.where((below[rank] > word).view(tau.shape), tau * rescale[rank].view(tau.shape), 0.0)


def dropped(tau: torch.Tensor, drop: Drop, start: int = 0) -> torch.Tensor:
    """Return τ, with 0 for entries that the drop does not keep, and the others rescaled."""
    if drop.below == 65536:
        return tau
    keep = philox.words(drop.seed, start, tau.numel(), tau.device) < drop.below
    return torch.where(keep.view(tau.shape), tau * drop.rescale, 0.0)


def weighted_sum(terms: Sequence[torch.Tensor], weight: Sequence[float]) -> torch.Tensor:
    """Return Σ w_i x_i, each product rounded before it is added."""
    total = torch.zeros_like(terms[0])
    for w, term in zip(weight, terms, strict=True):
        total += term * w
    return total


def _disjoint(program: Program, terms: Sequence[torch.Tensor]) -> torch.Tensor:
    if not program.elect:
        return _pooled(program, terms)
    if program.by_count:
        positive = sum((term.sign() for term in terms), torch.zeros_like(terms[0])) >= 0
    else:
        positive = weighted_sum(terms, program.votes or program.weight) >= 0
    total, divisor = torch.zeros_like(terms[0]), torch.zeros_like(terms[0])
    for w, term in zip(program.weight, terms, strict=True):
        agrees = torch.where(positive, term > 0, term < 0)
        total += torch.where(agrees, term * w, 0.0)
        divisor += agrees * w
    return total.div_(divisor.masked_fill_(divisor == 0, 1.0)) if program.normalize else total


def _pooled(program: Program, terms: Sequence[torch.Tensor]) -> torch.Tensor:
    total, divisor, factor, number = (torch.zeros_like(terms[0]) for _ in range(4))
    for w, alone, term in zip(program.weight, program.alone or program.weight, terms, strict=True):
        there = term != 0
        total += term * w
        divisor += there * w
        factor += there * alone
        number += there
    if program.normalize:
        total.div_(divisor.masked_fill_(divisor == 0, 1.0))
    return torch.where(number == 1, total * factor, total) if program.alone else total


def _chunks(a: torch.Tensor, b: torch.Tensor, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(_flat(a).split(step), _flat(b).split(step), strict=True)


def _bits(base: torch.Tensor, parent: torch.Tensor) -> Iterator[torch.Tensor]:
    for x, y in _chunks(base, parent, _chunk(base.device)):
        yield (y.float() - x.float()).abs().view(torch.int32)


def _segments(a: torch.Tensor, b: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor:
    """Return ⟨a,a⟩, ⟨a,b⟩ and ⟨b,b⟩ of each segment of 64 × 1024 entries, as the compiled kernel sums them."""
    n = -(-a.numel() // (_LANES * _ROWS))
    exact = (each.float() if base is None else each.float() - base.float() for each in (a, b))
    x, y = (
        torch.nn.functional.pad(each.double(), (0, n * _LANES * _ROWS - each.numel())).view(n, _ROWS, _LANES)
        for each in exact
    )
    columns = []
    for p, q in ((x, x), (x, y), (y, y)):
        lanes = torch.zeros(n, _LANES, dtype=torch.float64, device=a.device)
        for row in range(_ROWS):
            lanes += p[:, row] * q[:, row]
        while lanes.shape[1] > 1:
            half = lanes.shape[1] // 2
            lanes = lanes[:, :half] + lanes[:, half:]
        columns.append(lanes[:, 0])
    return torch.stack(columns, dim=1)
