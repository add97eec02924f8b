"""The same bits on a GPU, with one kernel for each tensor: plain torch starts dozens, which takes longer than they run.

Counting and ranking are left to plain torch. A kernel is compiled once for each kind of program and set of types (in a
second or two; Triton keeps it on disk). Fused multiply-add is switched off, and division is exact.
"""

# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from evomerge.merge.kernels import philox
from evomerge.merge.kernels.program import Clip, Cut, Drop, Mask, Program
from evomerge.merge.kernels.torch_engine import TorchEngine

MOST = 4
"""Most parents of a kernel; more are left to plain torch, and so are fp64, masks of both kinds in one program, and
programs that are not `simple`."""

_MASKS = {Cut: 1, Drop: 2, Clip: 3}

_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_BOTH = 1 << 32

_M0, _M1 = tl.constexpr(philox.MULTIPLIERS[0]), tl.constexpr(philox.MULTIPLIERS[1])
_K0, _K1 = tl.constexpr(philox.KEY_STEPS[0]), tl.constexpr(philox.KEY_STEPS[1])
_ROUNDS = tl.constexpr(philox.ROUNDS)


class TritonEngine(TorchEngine):
    """`run` as one kernel."""

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
        inputs = [*parents, *([] if base is None else [base])]
        kinds = {type(mask) for mask in program.masks}
        known = all(dtype in _TYPES for dtype in (*(each.dtype for each in inputs), *roundings, out.dtype))
        # A subclass of tensors may be something else than a GPU's memory.
        plain = all(type(each) in (torch.Tensor, torch.nn.Parameter) for each in (*inputs, out))
        if (
            not program.simple
            or not known
            or not plain
            or not 0 < len(parents) <= MOST
            or len(kinds) > 1
            or len(roundings) > 2
        ):
            return super().run(program, base, parents, out, roundings=roundings)
        bad = torch.zeros((), dtype=torch.uint8, device=out.device)
        n = out.numel()
        if n:
            dropped = kinds == {Drop}
            groups, warps = (1, 4) if dropped else (2, 4)
            rounded = [_TYPES[dtype] for dtype in roundings] + [tl.float32, tl.float32]
            call = _run[(triton.cdiv(n, groups * philox.GROUP),)]
            arguments = (
                out, bad, out if base is None else base.contiguous(),
                *_four([each.contiguous() for each in parents], out), n, float(program.scale),
                *_four([float(each) for each in program.weight], 0.0), *_masks(program.masks),
            )  # fmt: skip
            words: dict[str, Any] = {
                "N": len(parents), "BASE": base is not None, "MASK": _MASKS[kinds.pop()] if kinds else 0,
                "COPY": base is None and len(parents) == 1 and program.weight[0] == 1.0,
                "DISJOINT": program.disjoint, "BY_COUNT": program.by_count, "NORMALIZE": program.normalize,
                "FIRST": rounded[0], "SECOND": rounded[1], "GROUPS": groups,
                "num_warps": warps, "enable_fp_fusion": False,
            }  # fmt: skip
            if out.device.type == "cuda":
                with torch.cuda.device(out.device):
                    call(*arguments, **words)
            else:
                call(*arguments, **words)
        return bad.view(torch.bool)


def _four(some: list[Any], missing: Any) -> list[Any]:
    return some + [missing] * (MOST - len(some))


def _masks(masks: Sequence[Mask]) -> list[Any]:
    """Return the masks as four numbers each: threshold or factor, limit or bound, and the halves of the seed."""
    rows: list[tuple[float, int, int, int]] = []
    for mask in masks:
        if isinstance(mask, Cut):
            rows.append((mask.threshold, mask.limit, 0, 0))
        elif isinstance(mask, Clip):
            rows.append((mask.most, 0, 0, 0))
        else:
            rows.append((mask.rescale, mask.below, _signed(mask.seed % _BOTH), _signed((mask.seed >> 32) % _BOTH)))
    columns = zip(*_four(rows, (0.0, 0, 0, 0)), strict=True)
    return [value for column in columns for value in column]


def _signed(word: int) -> int:
    """Return the 32-bit number with these bits, so that every seed has the same type."""
    return word - _BOTH if word >= _BOTH // 2 else word


@triton.jit
def _words(counter, low, high):  # see philox.py, which this repeats
    c0, c1 = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    c2, c3 = tl.zeros_like(c0), tl.zeros_like(c0)
    k0, k1 = low.to(tl.uint32, bitcast=True), high.to(tl.uint32, bitcast=True)
    for _ in tl.static_range(_ROUNDS):
        h0, l0 = tl.umulhi(c0, tl.full(c0.shape, _M0, tl.uint32)), c0 * _M0
        h1, l1 = tl.umulhi(c2, tl.full(c0.shape, _M1, tl.uint32)), c2 * _M1
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = k0 + _K0, k1 + _K1
    return c0, c1, c2, c3


@triton.jit
def _half(a, b, c, d, PIECE: tl.constexpr):
    if PIECE // 2 == 0:
        word = a
    elif PIECE // 2 == 1:
        word = b
    elif PIECE // 2 == 2:
        word = c
    else:
        word = d
    return (word >> (16 * (PIECE % 2))) & 0xFFFF


@triton.jit
def _term(pointer, index, inside, origin, number, bound, a, b, c, d,
          PIECE: tl.constexpr, BASE: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    term = tl.load(pointer + index, mask=inside, other=0.0).to(tl.float32)
    if BASE:
        term = term - origin
    if MASK == 1:
        magnitude = tl.abs(term)
        keep = (magnitude > number) | ((magnitude == number) & (index < bound))
        term = tl.where(keep, term, 0.0)
    if MASK == 2:
        term = tl.where(_half(a, b, c, d, PIECE).to(tl.int32) < bound, term * number, 0.0)
    if MASK == 3:
        term = tl.where(term > number, number, tl.where(term < -number, -number, term))
    return term


@triton.jit
def _vote(votes, term, weight, BY_COUNT: tl.constexpr):
    if BY_COUNT:
        return votes + tl.where(term > 0, 1.0, tl.where(term < 0, -1.0, 0.0))
    return votes + term * weight


@triton.jit
def _add(total, divisor, term, weight, positive):
    agrees = tl.where(positive, term > 0, term < 0)
    return total + tl.where(agrees, term * weight, 0.0), divisor + tl.where(agrees, weight, 0.0)


@triton.jit(do_not_specialize=["n", "m0", "m1", "m2", "m3", "l0", "l1", "l2", "l3", "h0", "h1", "h2", "h3"])
def _run(out, bad, base, p0, p1, p2, p3, n, scale, w0, w1, w2, w3, t0, t1, t2, t3, m0, m1, m2, m3,
         l0, l1, l2, l3, h0, h1, h2, h3, N: tl.constexpr, BASE: tl.constexpr, MASK: tl.constexpr, COPY: tl.constexpr,
         DISJOINT: tl.constexpr, BY_COUNT: tl.constexpr, NORMALIZE: tl.constexpr, FIRST: tl.constexpr,
         SECOND: tl.constexpr, GROUPS: tl.constexpr):  # fmt: skip
    place = tl.arange(0, GROUPS * 128)
    group = tl.program_id(0).to(tl.int64) * GROUPS + place // 128
    counter = group * 128 + place % 128
    a0, b0, c0, d0 = counter, counter, counter, counter
    a1, b1, c1, d1 = counter, counter, counter, counter
    a2, b2, c2, d2 = counter, counter, counter, counter
    a3, b3, c3, d3 = counter, counter, counter, counter
    if MASK == 2:
        a0, b0, c0, d0 = _words(counter, l0, h0)
        if N > 1:
            a1, b1, c1, d1 = _words(counter, l1, h1)
        if N > 2:
            a2, b2, c2, d2 = _words(counter, l2, h2)
        if N > 3:
            a3, b3, c3, d3 = _words(counter, l3, h3)
    zero = tl.zeros_like(counter).to(tl.float32)
    wrong = zero != 0.0
    for piece in tl.static_range(8):
        index = group * 1024 + piece * 128 + place % 128
        inside = index < n
        origin = zero
        if BASE:
            origin = tl.load(base + index, mask=inside, other=0.0).to(tl.float32)
        x0 = _term(p0, index, inside, origin, t0, m0, a0, b0, c0, d0, piece, BASE, MASK)
        x1, x2, x3 = zero, zero, zero
        if N > 1:
            x1 = _term(p1, index, inside, origin, t1, m1, a1, b1, c1, d1, piece, BASE, MASK)
        if N > 2:
            x2 = _term(p2, index, inside, origin, t2, m2, a2, b2, c2, d2, piece, BASE, MASK)
        if N > 3:
            x3 = _term(p3, index, inside, origin, t3, m3, a3, b3, c3, d3, piece, BASE, MASK)
        if COPY:
            total = x0
        elif DISJOINT:
            votes = _vote(zero, x0, w0, BY_COUNT)
            if N > 1:
                votes = _vote(votes, x1, w1, BY_COUNT)
            if N > 2:
                votes = _vote(votes, x2, w2, BY_COUNT)
            if N > 3:
                votes = _vote(votes, x3, w3, BY_COUNT)
            positive = votes >= 0
            total, divisor = _add(zero, zero, x0, w0, positive)
            if N > 1:
                total, divisor = _add(total, divisor, x1, w1, positive)
            if N > 2:
                total, divisor = _add(total, divisor, x2, w2, positive)
            if N > 3:
                total, divisor = _add(total, divisor, x3, w3, positive)
            if NORMALIZE:
                total = tl.div_rn(total, tl.where(divisor == 0, 1.0, divisor))
        else:
            total = zero + x0 * w0
            if N > 1:
                total = total + x1 * w1
            if N > 2:
                total = total + x2 * w2
            if N > 3:
                total = total + x3 * w3
        if BASE:
            total = total * scale + origin
        made = total.to(FIRST).to(tl.float32).to(SECOND).to(tl.float32).to(out.dtype.element_ty)
        tl.store(out + index, made, mask=inside)
        shown = made.to(tl.float32)
        wrong = wrong | (shown != shown) | (tl.abs(shown) == float("inf"))
    tl.store(bad + place * 0, tl.full(place.shape, 1, tl.uint8), mask=wrong)


def works() -> bool:
    """Return whether a kernel that is built and run here gives the right result; raise what went wrong otherwise."""
    one = torch.ones(2, device="cuda")
    out = torch.empty_like(one)
    TritonEngine().run(Program(weight=(0.5, 0.25)), None, [one, one], out)
    return bool((out == 0.75).all())
