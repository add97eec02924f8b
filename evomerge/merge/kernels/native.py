"""The kernels for CPUs, compiled by numba: one function for every method, number of parents and dtype.

A block of 1024 entries is converted to fp32, computed and stored while it stays in the first-level cache, so memory is
read and written once. What differs between methods and dtypes is decided once for each block, outside of the inner
loops. These are plain enough for LLVM to use the vector unit, or are written with vectors (`lanes`). Tensors are passed
as addresses, so that one signature (compiled once, kept in the user's cache) serves all dtypes.

No loop writes a choice between an entry and 0 back to the place of the entry: LLVM makes that a masked store, for which
some processors take twenty times as long as for a plain one.
"""

# mypy: ignore-errors
# numba infers the types itself, from the signatures below.

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from evomerge.merge.kernels import lanes
from evomerge.merge.kernels.lanes import WIDTH, bits, floats, from_bits, ints, load, store

BF16, F16, F32, F64 = 0, 1, 2, 3
NO_MASK, CUT, DROP, CLIP = 0, 1, 2, 3
BLOCK = 1024
LANES = 128
SEGMENT = 64 * BLOCK
ROW = BLOCK + 528
"""The distance between buffers: with a multiple of 4096 bytes, all would share the same few lines of the cache."""
WORDS = BLOCK // 2 + 16
RUN_OF = 64

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_F16, _F32 = ir.HalfType(), ir.FloatType()


@intrinsic
def _pointer(context, address):  # an address as a pointer
    def build(_, b, signature, values):
        return b.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), build


# numba widens small integers to 64 bits, which leaves most of the vector unit idle; these functions stay at 32 bits.


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
        # Rounding would carry a NaN with a full mantissa into a finite number, so it is kept a NaN.
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
def _store_bf16(address, n, x):  # in whole vectors
    magnitude, one, half = ints(np.int32(0x7FFFFFFF)), ints(np.int32(1)), ints(np.int32(0x7FFF))
    most = ints(np.int32(0))
    for i in range(0, n, WIDTH):
        word = bits(load(x, i))
        lanes.store_upper(address + 2 * i, word + half + (lanes.upper_halves(word) & one))
        most = lanes.larger(most, word & magnitude)
    if lanes.largest(most) < np.uint32(0x7F7F8000):  # what rounds to Inf, which a NaN with a full mantissa would not
        return np.uint32(0)
    return _store(address, BF16, 0, n, x)


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
def _least(start, n, threshold, limit):
    """Return the least bits of |τ| that are kept in a block; −1 if they change within it."""
    equal = _magnitude(threshold)
    if limit >= start + n:
        return equal
    if limit <= start:
        return np.int32(equal + 1)
    return np.int32(-1)


@_inner
def _trim(n, raw, least, into, row):
    magnitude, last = ints(np.int32(0x7FFFFFFF)), ints(np.int32(least - 1))
    for i in range(0, n, WIDTH):
        x = bits(load(raw, i))
        store(into, row + i, from_bits(x & lanes.above(x & magnitude, last)))


@_inner
def _trim_within(start, n, raw, threshold, limit, into, row):
    """Trim the one block that holds the last kept entry among those equal to the threshold."""
    equal = _magnitude(threshold)
    flat = into.reshape(into.size)
    for i in range(n):
        magnitude = _magnitude(raw[i])
        kept = magnitude > equal or (magnitude == equal and start + i < limit)
        flat[row + i] = raw[i] if kept else np.float32(0)


@_inner
def _fetch_trim(address, n, base, least, into, row):  # of bf16 parents, in whole vectors
    magnitude, last = ints(np.int32(0x7FFFFFFF)), ints(np.int32(least - 1))
    for i in range(0, n, WIDTH):
        x = bits(lanes.load_bf16(address + 2 * i) - load(base, i))
        store(into, row + i, from_bits(x & lanes.above(x & magnitude, last)))


@intrinsic
def _philox(context, low, high, key):
    """Return the four words of `WIDTH` counters, whose lower halves are in `low` and share the upper half `high`."""

    def build(context, b, signature, values):
        def every(number):  # a number in each lane
            one = b.insert_element(ir.Constant(wide, ir.Undefined), number, _I32(0))
            return b.shuffle_vector(one, ir.Constant(wide, ir.Undefined), ir.Constant(ir.VectorType(_I32, WIDTH), None))

        # Only the lower 32 bits of a word or key count, so the upper bits need not be cleared on the way.
        wide = ir.VectorType(_I64, WIDTH)
        lower, half = ir.Constant(wide, [0xFFFFFFFF] * WIDTH), ir.Constant(wide, [32] * WIDTH)
        c0, c1, c2, c3 = values[0], every(values[1]), ir.Constant(wide, None), ir.Constant(wide, None)
        key0, key1 = values[2], b.lshr(values[2], _I64(32))
        for _ in range(7):  # see philox.py, which this repeats
            p0 = b.mul(b.and_(c0, lower), ir.Constant(wide, [0xD2511F53] * WIDTH))
            p1 = b.mul(b.and_(c2, lower), ir.Constant(wide, [0xCD9E8D57] * WIDTH))
            c0, c1 = b.xor(b.lshr(p1, half), b.xor(c1, every(key0))), p1
            c2, c3 = b.xor(b.lshr(p0, half), b.xor(c3, every(key1))), p0
            key0, key1 = b.add(key0, _I64(0x9E3779B9)), b.add(key1, _I64(0xBB67AE85))
        short = ir.VectorType(_I32, WIDTH)
        return context.make_tuple(b, signature.return_type, [b.trunc(each, short) for each in (c0, c1, c2, c3)])

    return types.UniTuple(lanes.INTS, 4)(lanes.LONGS, types.uint64, types.uint64), build


@_inner
def _drop(group, seed, below, rescale, raw, into, row):
    short, bound, factor = ints(np.int32(0xFFFF)), ints(below), floats(rescale)
    first = np.uint64(group) * np.uint64(LANES)
    for lane in range(0, LANES, WIDTH):
        words = _philox(lanes.counting(first + np.uint64(lane)), first >> np.uint64(32), seed)
        _drop_pair(lane, words[0], bound, short, factor, raw, into, row)
        _drop_pair(lane + 2 * LANES, words[1], bound, short, factor, raw, into, row)
        _drop_pair(lane + 4 * LANES, words[2], bound, short, factor, raw, into, row)
        _drop_pair(lane + 6 * LANES, words[3], bound, short, factor, raw, into, row)


@njit(nogil=True, error_model="numpy")
def _drop_pair(i, word, bound, short, factor, raw, into, row):
    kept = lanes.above(bound, word & short)
    store(into, row + i, from_bits(bits(load(raw, i) * factor) & kept))
    kept = lanes.above(bound, lanes.upper_halves(word))
    store(into, row + LANES + i, from_bits(bits(load(raw, LANES + i) * factor) & kept))


@_inner
def _clip(n, raw, most, into):
    for i in range(n):
        into[i] = most if raw[i] > most else -most if raw[i] < -most else raw[i]


@_inner
def _add(n, total, x, w):
    for i in range(n):
        total[i] += x[i] * w


def _disjoint_of(number):
    """Return a function for the election and disjoint mean of so many parents (0: any number), and θ0 + λ · mean."""

    @_inner
    def disjoint(n, n_parents, x, weight, by_count, normalize, scale, base, into):
        one, sign, nothing = floats(np.float32(1)), ints(np.int32(-0x80000000)), floats(np.float32(0))
        factor = floats(scale)
        for i in range(0, n, WIDTH):
            votes = nothing
            for k in range(number or n_parents):
                tau = load(x, k * ROW + i)
                if by_count:
                    up, down = lanes.positive(tau) & bits(one), lanes.negative(tau) & bits(one)
                    votes = votes + (from_bits(up) - from_bits(down))
                else:
                    votes = votes + tau * floats(weight[k])
            flip = lanes.negative(votes) & sign  # a draw elects +
            total, divisor = nothing, nothing
            for k in range(number or n_parents):
                tau, w = load(x, k * ROW + i), floats(weight[k])
                agrees = lanes.positive(from_bits(bits(tau) ^ flip))
                total = total + from_bits(bits(tau * w) & agrees)
                divisor = divisor + from_bits(bits(w) & agrees)
            if normalize:
                total = total / from_bits(bits(divisor) | (lanes.zero(divisor) & bits(one)))
            store(into, i, total * factor + load(base, i))

    return disjoint


_disjoint_2, _disjoint_3, _disjoint_4, _disjoint_any = (_disjoint_of(number) for number in (2, 3, 4, 0))


@_inner
def _draw(group, seed, into, row):
    """Put the random words of a block's entries where `_drawn` reads them.

    Entries 128·v to 128·v + 127 get word v of each counter. Counters come in groups of sixteen, the even ones first,
    and the upper bit of each half is flipped, so that the halves sort as signed numbers.
    """
    first, turn = np.uint64(group) * np.uint64(LANES), ints(np.int32(-0x7FFF8000))
    for lane in range(0, LANES, WIDTH):
        counters = lanes.every_second(first + np.uint64(lane // (2 * WIDTH) * 2 * WIDTH + lane // WIDTH % 2))
        words = _philox(counters, first >> np.uint64(32), seed)
        store(into, row + lane, words[0] ^ turn)
        store(into, row + lane + LANES, words[1] ^ turn)
        store(into, row + lane + 2 * LANES, words[2] ^ turn)
        store(into, row + lane + 3 * LANES, words[3] ^ turn)


_part = njit(nogil=True, error_model="numpy", forceinline=True)

# A word holds two bf16 numbers that are neighbours in memory. The lower numbers of eight words make one vector, and the
# upper ones another, which takes fewer instructions than putting eight neighbours into a vector.


@_part
def _number(word, upper):
    if upper:
        return from_bits(word & ints(np.int32(-0x10000)))
    return from_bits(lanes.lifted(word, np.int32(16)))


@_part
def _above(x, origin, last):
    """Return eight entries of a task vector, with 0 where the bits of |τ| do not exceed `last`."""
    tau = bits(x - origin)
    return from_bits(tau & lanes.above(tau & ints(np.int32(0x7FFFFFFF)), last))


@_part
def _drawn(x, origin, words, at, shift, last, rescale):
    """Return eight rescaled entries of a task vector, with 0 where the random number exceeds `last`."""
    tau = bits((x - origin) * rescale)
    return from_bits(lanes.without(tau, lanes.above(lanes.lifted(load(words, at), shift), last)))


@_part
def _vote(tau, weight, by_count):
    if by_count:
        one = ints(np.int32(0x3F800000))
        return from_bits(lanes.positive(tau) & one) - from_bits(lanes.negative(tau) & one)
    return tau * weight


@_part
def _agreed(tau, weight, flip, total, divisor):
    agrees = lanes.positive(from_bits(bits(tau) ^ flip))
    return total + from_bits(bits(tau * weight) & agrees), divisor + from_bits(bits(weight) & agrees)


@_part
def _nearest(made):  # the bits of the nearest bf16, ties to even, in the upper half
    return made + ints(np.int32(0x7FFF)) + (lanes.upper_halves(made) & ints(np.int32(1)))


def _fused_of(number, drop, disjoint):
    """Return a function that computes a block of 2 to 4 bf16 parents in registers, from loading to storing bf16.

    Without `drop`, it keeps the entries with |τ| above `last`; with `drop`, those whose random number (with its upper
    bit flipped) is not above `last`, times `rescale`. It returns False if an entry may not be finite, so that the block
    must be computed in another way.
    """

    @_part
    def compute(origin, x0, x1, x2, x3, w0, w1, w2, w3, l0, l1, l2, l3, r0, r1, r2, r3, words, at, shift, by_count,
                normalize, factor):  # fmt: skip
        nothing = floats(np.float32(0))
        t2, t3 = nothing, nothing
        if drop:
            t0 = _drawn(x0, origin, words, at, shift, l0, r0)
            t1 = _drawn(x1, origin, words, at + WORDS, shift, l1, r1)
            if number > 2:
                t2 = _drawn(x2, origin, words, at + 2 * WORDS, shift, l2, r2)
            if number > 3:
                t3 = _drawn(x3, origin, words, at + 3 * WORDS, shift, l3, r3)
        else:
            t0, t1 = _above(x0, origin, l0), _above(x1, origin, l1)
            if number > 2:
                t2 = _above(x2, origin, l2)
            if number > 3:
                t3 = _above(x3, origin, l3)
        if disjoint:
            votes = _vote(t0, w0, by_count) + _vote(t1, w1, by_count)
            if number > 2:
                votes = votes + _vote(t2, w2, by_count)
            if number > 3:
                votes = votes + _vote(t3, w3, by_count)
            flip = lanes.negative(votes) & ints(np.int32(-0x80000000))  # a draw is +
            total, divisor = _agreed(t0, w0, flip, nothing, nothing)
            total, divisor = _agreed(t1, w1, flip, total, divisor)
            if number > 2:
                total, divisor = _agreed(t2, w2, flip, total, divisor)
            if number > 3:
                total, divisor = _agreed(t3, w3, flip, total, divisor)
            if normalize:
                one = bits(floats(np.float32(1)))
                total = total / from_bits(bits(divisor) | (lanes.zero(divisor) & one))
        else:
            total = nothing + t0 * w0 + t1 * w1
            if number > 2:
                total = total + t2 * w2
            if number > 3:
                total = total + t3 * w3
        return bits(total * factor + origin)

    @_inner
    def fused(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out):
        i2, i3 = min(2, number - 1), min(3, number - 1)  # where there are fewer parents, the others are not read
        a0, a1, a2, a3 = addresses[0], addresses[1], addresses[i2], addresses[i3]
        w0, w1, w2, w3 = floats(weight[0]), floats(weight[1]), floats(weight[i2]), floats(weight[i3])
        l0, l1, l2, l3 = ints(last[0]), ints(last[1]), ints(last[i2]), ints(last[i3])
        r0, r1, r2, r3 = floats(rescale[0]), floats(rescale[1]), floats(rescale[i2]), floats(rescale[i3])
        factor, most, magnitude = floats(scale), ints(np.int32(0)), ints(np.int32(0x7FFFFFFF))
        for begin in range(0, n, LANES):
            row, shift = begin // (2 * LANES) * LANES, np.int32(16 - begin // LANES % 2 * 16)
            for lane in range(0, min(LANES, n - begin), 2 * WIDTH):
                place, word = 2 * (at + begin + lane), row + lane
                o, q0, q1 = (
                    lanes.load_words(base + place), lanes.load_words(a0 + place), lanes.load_words(a1 + place)
                )  # fmt: skip
                q2, q3 = q0, q0
                if number > 2:
                    q2 = lanes.load_words(a2 + place)
                if number > 3:
                    q3 = lanes.load_words(a3 + place)
                lower = compute(
                    _number(o, False), _number(q0, False), _number(q1, False), _number(q2, False), _number(q3, False),
                    w0, w1, w2, w3, l0, l1, l2, l3, r0, r1, r2, r3, words, word, shift, by_count, normalize, factor,
                )  # fmt: skip
                upper = compute(
                    _number(o, True), _number(q0, True), _number(q1, True), _number(q2, True), _number(q3, True),
                    w0, w1, w2, w3, l0, l1, l2, l3, r0, r1, r2, r3, words, word + WIDTH, shift, by_count, normalize,
                    factor,
                )  # fmt: skip
                both = lanes.upper_halves(_nearest(lower)) | (_nearest(upper) & ints(np.int32(-0x10000)))
                lanes.store_words(out + place, both)
                most = lanes.larger(lanes.larger(most, lower & magnitude), upper & magnitude)
        return lanes.largest(most) < np.uint32(0x7F7F8000)  # from there on, a number rounds to Inf, or is NaN

    return fused


_cut_2, _cut_3 = (_fused_of(number, False, False) for number in (2, 3))
_elect_2, _elect_3, _elect_4 = (_fused_of(number, False, True) for number in (2, 3, 4))
_drop_2, _drop_3 = (_fused_of(number, True, False) for number in (2, 3))
_drop_elect_2, _drop_elect_3, _drop_elect_4 = (_fused_of(number, True, True) for number in (2, 3, 4))


@_inner
def _fused(n_parents, drop, disjoint, n, at, base, addresses, weight, last, rescale, words, by_count, normalize,
           scale, out):  # fmt: skip
    """Call the function for a number of parents, a mask and a method; False also if there is none."""
    if n_parents == 2 and not drop and not disjoint:
        return _cut_2(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 3 and not drop and not disjoint:
        return _cut_3(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 2 and not drop and disjoint:
        return _elect_2(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 3 and not drop and disjoint:
        return _elect_3(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 4 and not drop and disjoint:
        return _elect_4(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 2 and drop and not disjoint:
        return _drop_2(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 3 and drop and not disjoint:
        return _drop_3(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 2 and drop and disjoint:
        return _drop_elect_2(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 3 and drop and disjoint:
        return _drop_elect_3(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    if n_parents == 4 and drop and disjoint:
        return _drop_elect_4(n, at, base, addresses, weight, last, rescale, words, by_count, normalize, scale, out)
    return False


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
    """Compute the entries start to stop − 1 of a tensor; return 1 if one of them is not finite, else 0.

    `start` is a multiple of `BLOCK`. Address 0 stands for no base. `round_1` and `round_2` are dtypes to which the
    result is rounded on the way (`F32`: no rounding). A single parent of weight 1 without base is only converted. For a
    `DROP`, `limit` is the largest random word that is kept; for a `CLIP`, `threshold` is the largest |τ|.
    """
    n_parents = len(addresses)
    x = np.zeros((n_parents, ROW), np.float32)
    origin, total, raw = np.zeros(ROW, np.float32), np.zeros(ROW, np.float32), np.zeros(ROW, np.float32)
    convert = n_parents == 1 and base == 0 and weight[0] == np.float32(1)
    flag = np.uint32(0)
    step = BLOCK // 2 if disjoint else BLOCK  # half a block leaves room for the inputs in the cache
    for k in range(n_parents):
        if mask[k] == DROP:
            step = BLOCK  # random numbers are drawn for whole blocks
    for at in range(start, stop, step):
        n = min(step, stop - at)
        whole = n % WIDTH == 0  # otherwise the last vector of a block would go beyond it, which only our buffers allow
        if base != 0:
            _fetch(base, base_code, at, n, origin)
        if not disjoint:
            _zero(n, total)
        for k in range(n_parents):
            if convert:
                _fetch(addresses[k], codes[k], at, n, total)
            elif base == 0:
                _fetch_add(addresses[k], codes[k], at, n, weight[k], total, raw)
            elif mask[k] == NO_MASK and not disjoint:
                _fetch_delta_add(addresses[k], codes[k], at, n, origin, weight[k], total, raw)
            else:
                if mask[k] == DROP:
                    _fetch_delta(addresses[k], codes[k], at, n, origin, raw)
                    _drop(at // BLOCK, seed[k], np.int32(limit[k] + 1), rescale[k], raw, x, k * ROW)
                elif mask[k] == CLIP:
                    _fetch_delta(addresses[k], codes[k], at, n, origin, raw)
                    _clip(n, raw, threshold[k], x[k])
                else:
                    least = np.int32(0) if mask[k] == NO_MASK else _least(at, n, threshold[k], limit[k])
                    if whole and codes[k] == BF16 and least >= 0:
                        _fetch_trim(addresses[k] + 2 * at, n, origin, least, x, k * ROW)
                    else:
                        _fetch_delta(addresses[k], codes[k], at, n, origin, raw)
                        if least >= 0:
                            _trim(n, raw, least, x, k * ROW)
                        else:
                            _trim_within(at, n, raw, threshold[k], limit[k], x, k * ROW)
                if not disjoint:
                    _add(n, total, x[k], weight[k])
        if disjoint and n_parents == 2:
            _disjoint_2(n, n_parents, x, weight, by_count, normalize, scale, origin, total)
        elif disjoint and n_parents == 3:
            _disjoint_3(n, n_parents, x, weight, by_count, normalize, scale, origin, total)
        elif disjoint and n_parents == 4:
            _disjoint_4(n, n_parents, x, weight, by_count, normalize, scale, origin, total)
        elif disjoint:
            _disjoint_any(n, n_parents, x, weight, by_count, normalize, scale, origin, total)
        elif base != 0:
            _finish(n, total, scale, origin)
        _round(round_1, n, total)
        _round(round_2, n, total)
        if whole and out_code == BF16:
            flag |= _store_bf16(out + 2 * at, n, total)
        else:
            flag |= _store(out, out_code, at, n, total)
    return flag


MASKED = (
    "int64(int64[::1], float32[::1], int64[::1], float32[::1], int64[::1], uint64[::1], float32[::1], int64, float32, "
    "boolean, boolean, boolean, int64, int64, int64, int64[::1])"
)


def masked(addresses, weight, mask, threshold, limit, seed, rescale, base, scale, disjoint, by_count, normalize, out,
           start, stop, left):  # fmt: skip
    """Do as `run` for 2 to 4 bf16 parents with a bf16 base and result, all cut or all dropped; several times as fast.

    The starts of the blocks that it cannot compute go into `left`; it returns their number.
    """
    n_parents, n_left, drop = len(addresses), 0, False
    words, last = np.zeros(n_parents * WORDS, np.int32), np.zeros(n_parents, np.int32)
    for k in range(n_parents):
        drop |= mask[k] == DROP
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        can = n % (2 * WIDTH) == 0
        for k in range(n_parents):
            if drop:
                last[k] = (limit[k] if mask[k] == DROP else 0xFFFF) * 0x10000 + 0xFFFF - 0x80000000
                if mask[k] == DROP:
                    _draw(at // BLOCK, seed[k], words, k * WORDS)
            else:
                last[k] = -1 if mask[k] == NO_MASK else _least(at, n, threshold[k], limit[k]) - 1
                can &= last[k] >= -1
        if not can or not _fused(
            n_parents,
            drop,
            disjoint,
            n,
            at,
            base,
            addresses,
            weight,
            last,
            rescale,
            words,
            by_count,
            normalize,
            scale,
            out,
        ):
            left[n_left] = at
            n_left += 1
    return n_left


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


DOTS = "void(int64, int64, int64, int64, int64, int64, int64, int64, float64[:, ::1])"


def dots(a, a_code, b, b_code, base, base_code, start, stop, sums):
    """Put ⟨a,a⟩, ⟨a,b⟩ and ⟨b,b⟩ of each `SEGMENT` of entries into a row of `sums`, in float64 and a fixed order.

    A base (address 0: none) is subtracted from both first, in fp32.
    """
    x, y = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    origin = np.empty(BLOCK, np.float32)
    aa, ab, bb = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for segment in range(start // SEGMENT, (stop + SEGMENT - 1) // SEGMENT):
        aa[:], ab[:], bb[:] = 0.0, 0.0, 0.0
        for at in range(segment * SEGMENT, min(stop, (segment + 1) * SEGMENT), BLOCK):
            n = min(BLOCK, stop - at)
            _fetch(a, a_code, at, n, x)
            _fetch(b, b_code, at, n, y)
            if base != 0:
                _fetch(base, base_code, at, n, origin)
                for i in range(n):
                    x[i] -= origin[i]
                    y[i] -= origin[i]
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
def _magnitudes(base, base_code, parent, code, at, n, origin, tau, into):
    """Put the bits of |τ| into `into`, and fill the last vector with a number that no magnitude's bits can be."""
    _fetch(base, base_code, at, n, origin)
    _magnitudes_from(parent, code, at, n, origin, tau, into)


@_inner
def _magnitudes_from(parent, code, at, n, origin, tau, into):
    magnitude = ints(np.int32(0x7FFFFFFF))
    if code == BF16 and n % WIDTH == 0:
        address = parent + 2 * at
        for i in range(0, n, WIDTH):
            store(into, i, bits(lanes.load_bf16(address + 2 * i) - load(origin, i)) & magnitude)
    else:
        _fetch(parent, code, at, n, tau)
        for i in range(0, n, WIDTH):
            store(into, i, bits(load(tau, i) - load(origin, i)) & magnitude)
        for i in range(n, (n + WIDTH - 1) // WIDTH * WIDTH):
            into[i] = np.int32(-2)


HISTOGRAM = "void(int64, int64, int64, int64, int64, int64, int64, uint32[:, ::1], int32[::1])"


def histogram(base, base_code, parent, code, start, stop, shift, counts, member):
    """Count the entries by the upper bits of |τ| (all but `shift`); the four counters of each bin are added up later.

    `member` gets all the bits of one entry of each bin that has an entry at an index divisible by 4.
    """
    origin, tau = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    found = np.empty(BLOCK, np.int32)
    one = np.uint32(1)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _magnitudes(base, base_code, parent, code, at, n, origin, tau, found)
        # Neighbours often fall into the same bin; with separate counters they need not wait for each other.
        for i in range(0, n // 4 * 4, 4):
            counts[np.uint64(found[i] >> shift), 0] += one
            member[np.uint64(found[i] >> shift)] = found[i]
            counts[np.uint64(found[i + 1] >> shift), 1] += one
            counts[np.uint64(found[i + 2] >> shift), 2] += one
            counts[np.uint64(found[i + 3] >> shift), 3] += one
        for i in range(n // 4 * 4, n):
            counts[np.uint64(found[i] >> shift), 0] += one
            member[np.uint64(found[i] >> shift)] = found[i]


TAKE = "void(uint32[:, ::1], int64[::1])"


def take(counts, into):
    """Add the four counters of each bin to `into`, and set them to 0."""
    for i in range(len(counts)):
        into[i] += np.int64(counts[i, 0]) + np.int64(counts[i, 1]) + np.int64(counts[i, 2]) + np.int64(counts[i, 3])
        for j in range(4):
            counts[i, j] = 0


SURVEY = (
    "void(int64, int64, int64[::1], int64[::1], int64, int64, int32[::1], int32[::1], int32[::1], int64[::1], "
    "int64[::1], int32[:, ::1], int32[:, ::1])"
)


def survey(base, base_code, addresses, codes, start, stop, low, width, value, counts, sizes, values, places):
    """Find the entries of several parents whose |τ| has bits in [low, low + width), each parent with its own range.

    Entries with exactly the bits `value` are counted in `counts`. The bits of the others go into `values`, their
    indices less `start` into `places`, and their number into `sizes`.
    """
    origin, tau = np.zeros(ROW, np.float32), np.zeros(ROW, np.float32)
    found = np.full(ROW, -2, np.int32)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _fetch(base, base_code, at, n, origin)
        for k in range(len(addresses)):
            _magnitudes_from(addresses[k], codes[k], at, n, origin, tau, found)
            counts[k] += _count(
                found, n, at - start, low[k], width[k], value[k], sizes[k : k + 1], values[k], places[k]
            )


@_inner
def _count(found, n, at, low, width, value, size, values, places):
    first, room, wanted, hits = ints(low), ints(width), ints(value), ints(np.int32(0))
    for begin in range(0, n, RUN_OF):  # few of these runs hold another value, so a whole run is tested at once
        others, end = ints(np.int32(0)), min(n, begin + RUN_OF)
        for i in range(begin, end, WIDTH):
            magnitude = load(found, i)
            equal = lanes.same(magnitude, wanted)
            hits = hits - equal
            others = others | (lanes.below(magnitude - first, room) ^ equal)
        if lanes.anything(others):
            for i in range(begin, end):
                if low <= found[i] < low + width and found[i] != value:
                    values[size[0]] = found[i]
                    places[size[0]] = at + i
                    size[0] += 1
    return lanes.total(hits)


NTH = "int64(int64, int64, int64, int64, int64, int64, int32, int64)"


def nth(base, base_code, parent, code, start, stop, value, number):
    """Return the index of the `number`-th entry (from 1) with these bits of |τ|; −1 − c if there are only c."""
    origin, tau = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    found = np.full(BLOCK, -2, np.int32)
    passed = np.int64(0)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        if base_code == BF16 and code == BF16 and n % WIDTH == 0:
            here = _equal_bf16(base + 2 * at, parent + 2 * at, n, value)
            if passed + here < number:
                passed += here
                continue
        _magnitudes(base, base_code, parent, code, at, n, origin, tau, found)
        for i in range(n):
            if found[i] == value:
                passed += 1
                if passed == number:
                    return at + i
    return -1 - passed


@_inner
def _equal_bf16(base, parent, n, value):  # in whole vectors
    magnitude, wanted, hits = ints(np.int32(0x7FFFFFFF)), ints(value), ints(np.int32(0))
    for i in range(0, n, WIDTH):
        tau = lanes.load_bf16(parent + 2 * i) - lanes.load_bf16(base + 2 * i)
        hits = hits - lanes.same(bits(tau) & magnitude, wanted)
    return lanes.total(hits)


TALLY = "boolean(int64, int64, int64, int64, int64, int64, uint32[:, ::1], int64[::1], int64)"


def tally(base, base_code, parent, code, start, stop, table, used, most):
    """Count the entries by the bits of |τ| in a hash table; return False if there are more than `most` values.

    The counts are void then. A row of the table holds the bits + 1 (0: empty) and their count; the number of rows is a
    power of 2 above `most`. `used` counts the rows that are taken.
    """
    origin, tau = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    found = np.empty(BLOCK, np.int32)
    rows = np.uint32(len(table) - 1)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _magnitudes(base, base_code, parent, code, at, n, origin, tau, found)
        for i in range(n):
            key = np.uint32(found[i]) + np.uint32(1)
            row = _spread_bits(key) & rows
            while table[row, 0] != key and table[row, 0] != 0:
                row = (row + np.uint32(1)) & rows
            if table[row, 0] == 0:
                if used[0] == most:
                    return False
                used[0] += 1
                table[row, 0] = key
            table[row, 1] += np.uint32(1)
    return True


@njit(nogil=True, error_model="numpy")
def _spread_bits(key):  # the product moves differences into the upper bits, the shift brings them to those of a row
    return np.uint32(np.uint32(key * np.uint32(0x9E3779B1)) >> np.uint32(12))
