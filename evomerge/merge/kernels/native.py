"""The kernels for CPUs, compiled by numba: one function for every method, number of parents and dtype.

A block of 1024 entries is converted to fp32, worked on and stored while it stays in the first-level cache, so memory is
read and written once. What differs between methods and dtypes is decided once a block, outside of the inner loops;
those are plain enough for LLVM to use the vector unit. Tensors come as addresses, since one signature (compiled once,
kept in the user's cache) then serves them all.

All in one file on purpose: numba notices a change of the file that holds a cached function, but not of others.
"""

# mypy: ignore-errors
# numba infers the types itself, from the signatures below.

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

BF16, F16, F32, F64 = 0, 1, 2, 3
NO_MASK, CUT, DROP = 0, 1, 2
BLOCK = 1024
LANES = 128
SEGMENT = 64 * BLOCK

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_F16, _F32 = ir.HalfType(), ir.FloatType()


@intrinsic
def _pointer(context, address):  # an address as a pointer
    def build(_, b, signature, values):
        return b.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), build


# numba widens small integers to 64 bits, which leaves most of the vector unit idle; these stay at 32.


@intrinsic
def _from_bf16(context, bits):
    def build(_, b, signature, values):
        return b.bitcast(b.shl(b.zext(values[0], _I32), _I32(16)), _F32)

    return types.float32(types.uint16), build


@intrinsic
def _nearest_bf16(context, value):  # the bits of the nearest bf16, ties to even, in the upper half
    def build(_, b, signature, values):
        bits = b.bitcast(values[0], _I32)
        odd = b.and_(b.lshr(bits, _I32(16)), _I32(1))
        rounded = b.add(bits, b.add(odd, _I32(0x7FFF)))
        # A NaN with a full mantissa would carry over into a finite number: keep it a NaN.
        kept = b.select(b.fcmp_unordered("uno", values[0], values[0]), _I32(0x7FC00000), rounded)
        return b.and_(kept, _I32(-65536))

    return types.uint32(types.float32), build


@intrinsic
def _upper_half(context, bits):
    def build(_, b, signature, values):
        return b.trunc(b.lshr(values[0], _I32(16)), _I16)

    return types.uint16(types.uint32), build


@intrinsic
def _as_float(context, bits):
    def build(_, b, signature, values):
        return b.bitcast(values[0], _F32)

    return types.float32(types.uint32), build


@intrinsic
def _from_f16(context, bits):
    def build(_, b, signature, values):
        return b.fpext(b.bitcast(values[0], _F16), _F32)

    return types.float32(types.uint16), build


@intrinsic
def _to_f16(context, value):
    def build(_, b, signature, values):
        return b.bitcast(b.fptrunc(values[0], _F16), _I16)

    return types.uint16(types.float32), build


@intrinsic
def _magnitude(context, value):  # the bits of |x|, which sort as the numbers do
    def build(_, b, signature, values):
        return b.and_(b.bitcast(values[0], _I32), _I32(0x7FFFFFFF))

    return types.int32(types.float32), build


@intrinsic
def _note(context, flag, value):  # bit 31 of the flag is set by Inf and NaN
    def build(_, b, signature, values):
        exponent = b.and_(b.bitcast(values[1], _I32), _I32(0x7F800000))
        return b.or_(values[0], b.add(exponent, _I32(0x00800000)))

    return types.uint32(types.uint32, types.float32), build


@intrinsic
def _hit(context, count, value, low, high):  # count + (low <= value < high)
    def build(_, b, signature, values):
        inside = b.and_(b.icmp_signed(">=", values[1], values[2]), b.icmp_signed("<", values[1], values[3]))
        return b.add(values[0], b.zext(inside, _I32))

    return types.int32(types.int32, types.int32, types.int32, types.int32), build


# Choices are written as selects: a branch of Python's would keep LLVM from using the vector unit.


@intrinsic
def _if_positive(context, test, value):  # value where test > 0, else 0
    def build(_, b, signature, values):
        return b.select(b.fcmp_ordered(">", values[0], _F32(0)), values[1], _F32(0))

    return types.float32(types.float32, types.float32), build


@intrinsic
def _direction(context, votes):  # the elected sign; a draw is +
    def build(_, b, signature, values):
        return b.select(b.fcmp_ordered(">=", values[0], _F32(0)), _F32(1), _F32(-1))

    return types.float32(types.float32), build


@intrinsic
def _divisor(context, share):
    def build(_, b, signature, values):
        return b.select(b.fcmp_ordered("==", values[0], _F32(0)), _F32(1), values[0])

    return types.float32(types.float32), build


@intrinsic
def _if_least(context, x, least):  # x where the bits of |x| are at least that, else 0
    def build(_, b, signature, values):
        magnitude = b.and_(b.bitcast(values[0], _I32), _I32(0x7FFFFFFF))
        return b.select(b.icmp_signed(">=", magnitude, values[1]), values[0], _F32(0))

    return types.float32(types.float32, types.int32), build


@intrinsic
def _if_drawn(context, word, last, x):  # x where word <= last, else 0
    def build(_, b, signature, values):
        return b.select(b.icmp_unsigned("<=", values[0], values[1]), values[2], _F32(0))

    return types.float32(types.uint32, types.uint32, types.float32), build


_inner = njit(nogil=True, error_model="numpy", inline="never")


@_inner
def _fetch(address, code, start, n, into):
    if code == BF16:
        bf16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            into[i] = _from_bf16(bf16[i])
    elif code == F16:
        f16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            into[i] = _from_f16(f16[i])
    elif code == F32:
        f32 = carray(_pointer(address + 4 * start), (n,), np.float32)
        for i in range(n):
            into[i] = f32[i]
    else:
        f64 = carray(_pointer(address + 8 * start), (n,), np.float64)
        for i in range(n):
            into[i] = np.float32(f64[i])


@_inner
def _round(code, n, x):
    if code == BF16:
        for i in range(n):
            x[i] = _as_float(_nearest_bf16(x[i]))
    elif code == F16:
        for i in range(n):
            x[i] = _from_f16(_to_f16(x[i]))


@_inner
def _store(address, code, start, n, x):
    flag = np.uint32(0)
    if code == BF16:
        bf16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            bits = _nearest_bf16(x[i])
            bf16[i] = _upper_half(bits)
            flag = _note(flag, _as_float(bits))
    elif code == F16:
        f16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            bits = _to_f16(x[i])
            f16[i] = bits
            flag = _note(flag, _from_f16(bits))
    elif code == F32:
        f32 = carray(_pointer(address + 4 * start), (n,), np.float32)
        for i in range(n):
            f32[i] = x[i]
            flag = _note(flag, x[i])
    else:
        f64 = carray(_pointer(address + 8 * start), (n,), np.float64)
        for i in range(n):
            f64[i] = np.float64(x[i])
            flag = _note(flag, x[i])
    return flag >> np.uint32(31)


@_inner
def _fetch_delta(address, code, start, n, base, into):
    if code == BF16:
        bf16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            into[i] = _from_bf16(bf16[i]) - base[i]
    else:
        _fetch(address, code, start, n, into)
        for i in range(n):
            into[i] -= base[i]


@_inner
def _fetch_add(address, code, start, n, w, total, buffer):
    if code == BF16:
        bf16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            total[i] += _from_bf16(bf16[i]) * w
    else:
        _fetch(address, code, start, n, buffer)
        _add(n, total, buffer, w)


@_inner
def _fetch_delta_add(address, code, start, n, base, w, total, buffer):
    if code == BF16:
        bf16 = carray(_pointer(address + 2 * start), (n,), np.uint16)
        for i in range(n):
            total[i] += (_from_bf16(bf16[i]) - base[i]) * w
    else:
        _fetch_delta(address, code, start, n, base, buffer)
        _add(n, total, buffer, w)


@_inner
def _trim(start, n, x, threshold, limit):
    # Those equal to the threshold are kept in the first `within` entries of the block.
    within = min(max(limit - start, 0), n)
    equal = _magnitude(threshold)
    above = np.int32(equal + 1)
    for i in range(within):
        x[i] = _if_least(x[i], equal)
    rest = x[within:n]
    for i in range(n - within):
        rest[i] = _if_least(rest[i], above)


@_inner
def _philox(group, seed, words):  # see philox.py, which this repeats
    low, short = np.uint64(0xFFFFFFFF), np.uint64(0xFFFF)
    half, quarter = np.uint64(32), np.uint64(16)
    m0, m1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
    s0, s1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
    first = np.uint64(group) * np.uint64(LANES)
    key0, key1 = np.uint64(seed) & low, np.uint64(seed) >> half
    for l in range(LANES):
        counter = first + np.uint64(l)
        c0, c1, c2, c3 = counter & low, counter >> half, np.uint64(0), np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            p0, p1 = (c0 & low) * m0, (c2 & low) * m1
            c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
            k0, k1 = (k0 + s0) & low, (k1 + s1) & low
        words[l] = np.uint32(c0 & short)
        words[LANES + l] = np.uint32(c0 >> quarter)
        words[2 * LANES + l] = np.uint32(c1 & short)
        words[3 * LANES + l] = np.uint32(c1 >> quarter)
        words[4 * LANES + l] = np.uint32(c2 & short)
        words[5 * LANES + l] = np.uint32(c2 >> quarter)
        words[6 * LANES + l] = np.uint32(c3 & short)
        words[7 * LANES + l] = np.uint32(c3 >> quarter)


@_inner
def _drop(n, x, words, last, rescale):
    for i in range(n):
        x[i] = _if_drawn(words[i], last, x[i] * rescale)


@_inner
def _add(n, total, x, w):
    for i in range(n):
        total[i] += x[i] * w


@_inner
def _vote(n, votes, x):
    one = np.float32(1)
    for i in range(n):
        votes[i] += _if_positive(x[i], one) - _if_positive(-x[i], one)


@_inner
def _agree(n, votes, x, w, total, divisor):
    for i in range(n):
        agrees = x[i] * _direction(votes[i])
        total[i] += _if_positive(agrees, x[i] * w)
        divisor[i] += _if_positive(agrees, w)


@_inner
def _divide(n, total, divisor):
    for i in range(n):
        total[i] /= _divisor(divisor[i])


@_inner
def _disjoint_2(n, x, y, u, v, total):
    for i in range(n):
        a, b = x[i], y[i]
        p, q = a * u, b * v
        up = _direction(p + q)
        share = _if_positive(a * up, u) + _if_positive(b * up, v)
        total[i] = (_if_positive(a * up, p) + _if_positive(b * up, q)) / _divisor(share)


@_inner
def _disjoint_3(n, x, y, z, u, v, w, total):
    for i in range(n):
        a, b, c = x[i], y[i], z[i]
        p, q, r = a * u, b * v, c * w
        up = _direction(p + q + r)
        share = _if_positive(a * up, u) + _if_positive(b * up, v) + _if_positive(c * up, w)
        total[i] = (_if_positive(a * up, p) + _if_positive(b * up, q) + _if_positive(c * up, r)) / _divisor(share)


@_inner
def _finish(n, total, scale, base):
    for i in range(n):
        total[i] = total[i] * scale + base[i]


@_inner
def _zero(n, x):
    for i in range(n):
        x[i] = np.float32(0)


RUN = (
    "uint32(int64[::1], int64[::1], float32[::1], int64[::1], float32[::1], int64[::1], uint64[::1], float32[::1], "
    "int64, int64, float32, boolean, boolean, boolean, int64, int64, int64, int64, int64, int64)"
)


def run(addresses, codes, weight, mask, threshold, limit, seed, rescale, base, base_code, scale, disjoint,
        by_count, normalize, out, out_code, round_1, round_2, start, stop):  # fmt: skip
    """Compute the entries start … stop − 1 of a tensor; 1 if one of them is not finite, else 0.

    `start` is a multiple of `BLOCK`. A base of address 0 is none. `round_1` and `round_2` are dtypes to round to on the
    way (`F32` for none). A single parent of weight 1 without base is only converted. For a `DROP`, `limit` is the
    largest random word that is kept.
    """
    n_parents = len(addresses)
    x = np.empty((n_parents, BLOCK), np.float32)
    origin, total, votes = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    divisor = np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK, np.uint32)
    convert = n_parents == 1 and base == 0 and weight[0] == np.float32(1)
    flag = np.uint32(0)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        if base != 0:
            _fetch(base, base_code, at, n, origin)
        _zero(n, total)
        for k in range(n_parents):
            tau = x[k]
            if convert:
                _fetch(addresses[k], codes[k], at, n, tau)
            elif base == 0:
                _fetch_add(addresses[k], codes[k], at, n, weight[k], total, tau)
            elif mask[k] == NO_MASK and not disjoint:
                _fetch_delta_add(addresses[k], codes[k], at, n, origin, weight[k], total, tau)
            else:
                _fetch_delta(addresses[k], codes[k], at, n, origin, tau)
                if mask[k] == CUT:
                    _trim(at, n, tau, threshold[k], limit[k])
                elif mask[k] == DROP:
                    _philox(at // BLOCK, seed[k], words)
                    _drop(n, tau, words, np.uint32(limit[k]), rescale[k])
                if not disjoint:
                    _add(n, total, tau, weight[k])
        if disjoint and normalize and not by_count and n_parents == 2:  # the usual cases take one loop
            _disjoint_2(n, x[0], x[1], weight[0], weight[1], total)
        elif disjoint and normalize and not by_count and n_parents == 3:
            _disjoint_3(n, x[0], x[1], x[2], weight[0], weight[1], weight[2], total)
        elif disjoint:
            _zero(n, votes)
            _zero(n, divisor)
            for k in range(n_parents):
                if by_count:
                    _vote(n, votes, x[k])
                else:
                    _add(n, votes, x[k], weight[k])
            for k in range(n_parents):
                _agree(n, votes, x[k], weight[k], total, divisor)
            if normalize:
                _divide(n, total, divisor)
        if base != 0:
            _finish(n, total, scale, origin)
        result = x[0] if convert else total
        _round(round_1, n, result)
        _round(round_2, n, result)
        flag |= _store(out, out_code, at, n, result)
    return flag


FINITE = "uint32(int64, int64, int64, int64)"


def finite(address, code, start, stop):
    """Return 1 if one of the entries is not finite (as fp32), else 0."""
    x = np.empty(BLOCK, np.float32)
    flag = np.uint32(0)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _fetch(address, code, at, n, x)
        for i in range(n):
            flag = _note(flag, x[i])
    return flag >> np.uint32(31)


DOTS = "void(int64, int64, int64, int64, int64, int64, float64[:, ::1])"


def dots(a, a_code, b, b_code, start, stop, sums):
    """Put ⟨a,a⟩, ⟨a,b⟩ and ⟨b,b⟩ of each `SEGMENT` of entries into a row of `sums`, in float64 and a fixed order."""
    x, y = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    aa, ab, bb = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for segment in range(start // SEGMENT, (stop + SEGMENT - 1) // SEGMENT):
        aa[:], ab[:], bb[:] = 0.0, 0.0, 0.0
        for at in range(segment * SEGMENT, min(stop, (segment + 1) * SEGMENT), BLOCK):
            n = min(BLOCK, stop - at)
            _fetch(a, a_code, at, n, x)
            _fetch(b, b_code, at, n, y)
            for i in range(n):
                p, q = np.float64(x[i]), np.float64(y[i])
                aa[i] += p * p
                ab[i] += p * q
                bb[i] += q * q
        half = BLOCK // 2
        while half:
            for i in range(half):
                aa[i] += aa[half + i]
                ab[i] += ab[half + i]
                bb[i] += bb[half + i]
            half //= 2
        sums[segment, 0], sums[segment, 1], sums[segment, 2] = aa[0], ab[0], bb[0]


@_inner
def _bits(base, base_code, parent, code, at, n, origin, tau, bits):
    _fetch(base, base_code, at, n, origin)
    _fetch(parent, code, at, n, tau)
    for i in range(n):
        bits[i] = _magnitude(tau[i] - origin[i])


HISTOGRAM = "void(int64, int64, int64, int64, int64, int64, int64, uint32[:, ::1])"


def histogram(base, base_code, parent, code, start, stop, shift, counts):
    """Count the entries by the upper bits of |τ| (all but `shift`), spread over the four rows of `counts`."""
    origin, tau = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits = np.empty(BLOCK, np.int32)
    one = np.uint32(1)
    # Neighbours often fall into the same bin: in rows of their own they need not wait for each other.
    row_0, row_1, row_2, row_3 = counts[0], counts[1], counts[2], counts[3]
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _bits(base, base_code, parent, code, at, n, origin, tau, bits)
        whole = n // 4 * 4
        for i in range(0, whole, 4):
            row_0[bits[i] >> shift] += one
            row_1[bits[i + 1] >> shift] += one
            row_2[bits[i + 2] >> shift] += one
            row_3[bits[i + 3] >> shift] += one
        for i in range(whole, n):
            row_0[bits[i] >> shift] += one


WITHIN = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64[::1])"


def within(base, base_code, parent, code, start, stop, low, high, counts):
    """Count the entries whose |τ| has bits in [low, high), by value."""
    origin, tau = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits = np.empty(BLOCK, np.int32)
    first, last = np.int32(low), np.int32(high)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _bits(base, base_code, parent, code, at, n, origin, tau, bits)
        for begin in range(0, n, 64):
            end = min(n, begin + 64)
            run_bits = bits[begin:end]
            hits = np.int32(0)
            for i in range(end - begin):
                hits = _hit(hits, run_bits[i], first, last)
            if hits:
                for i in range(begin, end):
                    if low <= bits[i] < high:
                        counts[bits[i] - low] += 1


COUNT = "int64(int64, int64, int64, int64, int64, int64, int64, int64)"


def count(base, base_code, parent, code, start, stop, low, high):
    """Return how many of the entries have |τ| with bits in [low, high)."""
    origin, tau = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits = np.empty(BLOCK, np.int32)
    first, last = np.int32(low), np.int32(high)
    total = 0
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _bits(base, base_code, parent, code, at, n, origin, tau, bits)
        hits = np.int32(0)
        for i in range(n):
            hits = _hit(hits, bits[i], first, last)
        total += hits
    return total


COLLECT = "int64(int64, int64, int64, int64, int64, int64, int64, int64, int32[::1], int64[::1])"


def collect(base, base_code, parent, code, start, stop, low, high, values, indices):
    """Write down the bits and the flat index of the entries whose |τ| has bits in [low, high); return how many."""
    origin, tau = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits = np.empty(BLOCK, np.int32)
    first, last = np.int32(low), np.int32(high)
    found = 0
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _bits(base, base_code, parent, code, at, n, origin, tau, bits)
        for begin in range(0, n, 64):  # few of these runs hold a hit: look at all of one at once
            end = min(n, begin + 64)
            run_bits = bits[begin:end]
            hits = np.int32(0)
            for i in range(end - begin):
                hits = _hit(hits, run_bits[i], first, last)
            if hits:
                for i in range(begin, end):
                    if low <= bits[i] < high:
                        values[found] = bits[i]
                        indices[found] = at + i
                        found += 1
    return found
