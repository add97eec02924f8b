"""The compiled kernel of programs that are not `simple`: masks by rank, bands of |τ|, votes of their own, pooled means.

It takes one block after the other, as `native.run`, whose parts it uses; what those programs have in common with simple
ones is computed by the same operations in the same order.
"""

# mypy: ignore-errors
# numba infers the types itself, from the signature below.

from __future__ import annotations

import numpy as np
from numba import carray

from evomerge.merge.kernels import lanes
from evomerge.merge.kernels.lanes import WIDTH, bits, floats, from_bits, ints, load, store
from evomerge.merge.kernels.native import (
    BF16,
    BLOCK,
    CLIP,
    CUT,
    DROP,
    LANES,
    ROW,
    _add,
    _clip,
    _drop,
    _fetch,
    _fetch_delta,
    _finish,
    _inner,
    _least,
    _magnitude,
    _philox,
    _pointer,
    _round,
    _store,
    _store_bf16,
    _trim,
    _trim_within,
    _zero,
)

BAND, RANKED = 4, 5
SUM, ELECT, POOL = 0, 1, 2


@_inner
def _between(n, raw, least, most, into, row):
    """Keep the entries whose |τ| has bits from `least` to below `most`."""
    magnitude, last, end = ints(np.int32(0x7FFFFFFF)), ints(np.int32(least - 1)), ints(np.int32(most))
    for i in range(0, n, WIDTH):
        x = bits(load(raw, i))
        size = x & magnitude
        store(into, row + i, from_bits(x & lanes.above(size, last) & lanes.above(end, size)))


@_inner
def _band_within(start, n, raw, threshold, limit, upper, upper_limit, into, row):
    """Do the same in a block in which the last entry of one of both cuts lies."""
    low, high = _magnitude(threshold), _magnitude(upper)
    flat = into.reshape(into.size)
    for i in range(n):
        size = _magnitude(raw[i])
        kept = size > low or (size == low and start + i < limit)
        removed = size > high or (size == high and start + i < upper_limit)
        flat[row + i] = raw[i] if kept and not removed else np.float32(0)


@_inner
def _words(group, seed, into):
    """Put the 16 random bits of each entry of a block into `into`; see philox.py."""
    first, short = np.uint64(group) * np.uint64(LANES), ints(np.int32(0xFFFF))
    for lane in range(0, LANES, WIDTH):
        found = _philox(lanes.counting(first + np.uint64(lane)), first >> np.uint64(32), seed)
        _halves(lane, found[0], short, into)
        _halves(lane + 2 * LANES, found[1], short, into)
        _halves(lane + 4 * LANES, found[2], short, into)
        _halves(lane + 6 * LANES, found[3], short, into)


@_inner
def _halves(at, word, short, into):
    store(into, at, word & short)
    store(into, at + LANES, lanes.upper_halves(word))


@_inner
def _by_rank(address, wide, start, n, raw, words, below, factor, into):
    if wide:
        long = carray(_pointer(address + 4 * start), (n,), np.int32)
        for i in range(n):
            rank = np.uint64(long[i])
            into[i] = raw[i] * factor[rank]
            words[i] = below[rank] - words[i]
    else:
        short = carray(_pointer(address + 2 * start), (n,), np.int16)
        for i in range(n):
            rank = np.uint64(short[i])
            into[i] = raw[i] * factor[rank]
            words[i] = below[rank] - words[i]

    nothing = ints(np.int32(0))
    for i in range(0, n, WIDTH):  # chosen in a loop of its own, without branches, which chance would mispredict
        store(into, i, from_bits(bits(load(into, i)) & lanes.above(load(words, i), nothing)))


@_inner
def _rank_band(address, wide, start, n, raw, first, end, into):
    """Keep the entries whose ranks are from `first` to below `end`."""
    if wide:
        long = carray(_pointer(address + 4 * start), (n,), np.int32)
        for i in range(n):
            into[i] = raw[i] if long[i] >= np.int32(first) and long[i] < np.int32(end) else np.float32(0)
    else:
        short = carray(_pointer(address + 2 * start), (n,), np.int16)
        for i in range(n):
            rank = np.int32(short[i])
            into[i] = raw[i] if rank >= np.int32(first) and rank < np.int32(end) else np.float32(0)


@_inner
def _elect(n, n_parents, x, weight, votes, by_count, normalize, scale, base, into):
    one, sign, nothing = floats(np.float32(1)), ints(np.int32(-0x80000000)), floats(np.float32(0))
    for i in range(0, n, WIDTH):
        total, divisor, vote = nothing, nothing, nothing
        for k in range(n_parents):
            tau = load(x, k * ROW + i)
            if by_count:
                up, down = lanes.positive(tau) & bits(one), lanes.negative(tau) & bits(one)
                vote = vote + (from_bits(up) - from_bits(down))
            else:
                vote = vote + tau * floats(votes[k])
        flip = lanes.negative(vote) & sign  # a draw elects +
        for k in range(n_parents):
            tau, w = load(x, k * ROW + i), floats(weight[k])
            agrees = lanes.positive(from_bits(bits(tau) ^ flip))
            total = total + from_bits(bits(tau * w) & agrees)
            divisor = divisor + from_bits(bits(w) & agrees)
        if normalize:
            total = total / from_bits(bits(divisor) | (lanes.zero(divisor) & bits(one)))
        store(into, i, total * floats(scale) + load(base, i))


@_inner
def _pool(n, n_parents, x, weight, alone, normalize, scale, base, into):
    one, nothing = floats(np.float32(1)), floats(np.float32(0))
    for i in range(0, n, WIDTH):
        total, divisor, factor, number = nothing, nothing, nothing, nothing
        for k in range(n_parents):
            tau, w = load(x, k * ROW + i), floats(weight[k])
            absent = lanes.zero(tau)
            total = total + tau * w
            divisor = divisor + from_bits(lanes.without(bits(w), absent))
            factor = factor + from_bits(lanes.without(bits(floats(alone[k])), absent))
            number = number + from_bits(lanes.without(bits(one), absent))
        if normalize:
            total = total / from_bits(bits(divisor) | (lanes.zero(divisor) & bits(one)))
        single = lanes.same(bits(number), bits(one))
        total = from_bits((bits(total * factor) & single) | lanes.without(bits(total), single))
        store(into, i, total * floats(scale) + load(base, i))


SPARSE = (
    "uint32(int64[::1], int64[::1], float32[::1], float32[::1], float32[::1], int64[::1], float32[::1], int64[::1], "
    "float32[::1], int64[::1], uint64[::1], boolean[::1], float32[::1], int64[::1], boolean, int32[:, ::1], "
    "float32[:, ::1], int64, int64, float32, int64, boolean, boolean, int64, int64, int64, int64, int64, int64)"
)


def sparse(addresses, codes, weight, votes, alone, mask, threshold, limit, upper, upper_limit, seed, drawn, rescale,
           ranks, wide, below, factor, base, base_code, scale, how, by_count, normalize, out, out_code, round_1,
           round_2, start, stop):  # fmt: skip
    """Compute the entries start to stop − 1 of a tensor with a base; return 1 if one of them is not finite, else 0.

    Most arguments are those of `native.run`. For a `BAND`, `threshold` and `limit` are those of the kept entries,
    `upper` and `upper_limit` those of the removed ones among them. For a `RANKED`, `ranks` is the address of the ranks
    (`wide`: of 32 bits), `drawn` whether there are random numbers, and a row of `below` and `factor` its table; without
    random numbers, the ranks from `limit` to below `upper_limit` are kept.
    """
    n_parents = len(addresses)
    x = np.zeros((n_parents, ROW), np.float32)
    origin, total, raw = np.zeros(ROW, np.float32), np.zeros(ROW, np.float32), np.zeros(ROW, np.float32)
    words = np.zeros(ROW, np.int32)
    flag = np.uint32(0)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _fetch(base, base_code, at, n, origin)
        for k in range(n_parents):
            _fetch_delta(addresses[k], codes[k], at, n, origin, raw)
            if mask[k] == CUT:
                least = _least(at, n, threshold[k], limit[k])
                if least >= 0:
                    _trim(n, raw, least, x, k * ROW)
                else:
                    _trim_within(at, n, raw, threshold[k], limit[k], x, k * ROW)
            elif mask[k] == DROP:
                _drop(at // BLOCK, seed[k], np.int32(limit[k] + 1), rescale[k], raw, x, k * ROW)
            elif mask[k] == CLIP:
                _clip(n, raw, threshold[k], x[k])
            elif mask[k] == BAND:
                least, most = _least(at, n, threshold[k], limit[k]), _least(at, n, upper[k], upper_limit[k])
                if least >= 0 and most >= 0:
                    _between(n, raw, least, most, x, k * ROW)
                else:
                    _band_within(at, n, raw, threshold[k], limit[k], upper[k], upper_limit[k], x, k * ROW)
            elif mask[k] == RANKED:
                if drawn[k]:
                    _words(at // BLOCK, seed[k], words)
                    _by_rank(ranks[k], wide, at, n, raw, words, below[k], factor[k], x[k])
                else:
                    _rank_band(ranks[k], wide, at, n, raw, limit[k], upper_limit[k], x[k])
            else:
                _trim(n, raw, np.int32(0), x, k * ROW)
        if how == ELECT:
            _elect(n, n_parents, x, weight, votes, by_count, normalize, scale, origin, total)
        elif how == POOL:
            _pool(n, n_parents, x, weight, alone, normalize, scale, origin, total)
        else:
            _zero(n, total)
            for k in range(n_parents):
                _add(n, total, x[k], weight[k])
            _finish(n, total, scale, origin)
        _round(round_1, n, total)
        _round(round_2, n, total)
        if out_code == BF16 and n % WIDTH == 0:
            flag |= _store_bf16(out + 2 * at, n, total)
        else:
            flag |= _store(out, out_code, at, n, total)
    return flag
