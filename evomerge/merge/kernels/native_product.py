"""The product of two matrices of low rank for CPUs, compiled by numba, with sums in one order, and what is added to it.

Each entry of the product is a sum over the rank, added up one after the other from the first, products rounded before
they are added: plain torch and a GPU give the same bits, and neither tiles nor threads change them. Four rows and
thirty-two columns are computed at a time, in the processor's registers.
"""

# mypy: ignore-errors
# numba infers the types itself, from the signatures below.

from __future__ import annotations

import numpy as np

from evomerge.merge.kernels import lanes
from evomerge.merge.kernels.lanes import WIDTH, all_wide, bits, floats, from_bits, ints, load_wide, store

PRODUCT = "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], int64, int64)"

HALF = 2 * WIDTH
TILE = 2 * HALF


def product(left, right, out, start, stop):
    """Put the rows start to stop − 1 of left · right, `(m, k)` and `(k, n)`, into those of `out`, `(m, n)`."""
    rank, n = right.shape
    panel = np.empty(max(rank, 1) * TILE, np.float32)
    nothing = np.zeros(1, np.float32)
    rows, flat = left.reshape(-1), out.reshape(-1)
    whole = n // TILE * TILE
    for column in range(0, whole, TILE):
        for k in range(rank):
            for j in range(TILE):
                panel[k * TILE + j] = right[k, column + j]
        row = start
        while row + 4 <= stop:
            a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = all_wide(nothing, 0)
            at = row * rank
            for k in range(rank):
                x, y = load_wide(panel, k * TILE), load_wide(panel, k * TILE + HALF)
                factor = all_wide(rows, at + k)
                a0, a1 = a0 + factor * x, a1 + factor * y
                factor = all_wide(rows, at + rank + k)
                b0, b1 = b0 + factor * x, b1 + factor * y
                factor = all_wide(rows, at + 2 * rank + k)
                c0, c1 = c0 + factor * x, c1 + factor * y
                factor = all_wide(rows, at + 3 * rank + k)
                d0, d1 = d0 + factor * x, d1 + factor * y
            to = row * n + column
            store(flat, to, a0)
            store(flat, to + HALF, a1)
            store(flat, to + n, b0)
            store(flat, to + n + HALF, b1)
            store(flat, to + 2 * n, c0)
            store(flat, to + 2 * n + HALF, c1)
            store(flat, to + 3 * n, d0)
            store(flat, to + 3 * n + HALF, d1)
            row += 4
        while row < stop:
            a0 = a1 = all_wide(nothing, 0)
            for k in range(rank):
                factor = all_wide(rows, row * rank + k)
                a0 = a0 + factor * load_wide(panel, k * TILE)
                a1 = a1 + factor * load_wide(panel, k * TILE + HALF)
            store(flat, row * n + column, a0)
            store(flat, row * n + column + HALF, a1)
            row += 1
    for row in range(start, stop):
        for column in range(whole, n):
            total = np.float32(0.0)
            for k in range(rank):
                total += left[row, k] * right[k, column]
            out[row, column] = total


ADDED = "int64(int64, float32, int64, int64, boolean, int64, int64)"


def added(origin, weight, made, out, wide, start, stop):
    """Write the entries start to stop − 1 of w·θ0 + x for bf16 θ0 and fp32 x, given by their addresses.

    They are rounded to bf16, and written as such or, where `wide` is true, as fp32: the sum that `native.run` makes of
    these two, to the bit. It returns how many entries were written: whole vectors, or none if one may not be finite.
    """
    magnitude, one, half = ints(np.int32(0x7FFFFFFF)), ints(np.int32(1)), ints(np.int32(0x7FFF))
    upper = ints(np.int32(-0x10000))
    most, factor, nothing = ints(np.int32(0)), floats(weight), floats(np.float32(0))
    stop -= (stop - start) % WIDTH
    for i in range(start, stop, WIDTH):
        x = nothing + lanes.load_bf16(origin + 2 * i) * factor
        word = bits(x + from_bits(lanes.load_words(made + 4 * i)))
        rounded = word + half + (lanes.upper_halves(word) & one)
        if wide:
            lanes.store_words(out + 4 * i, rounded & upper)
        else:
            lanes.store_upper(out + 2 * i, rounded)
        most = lanes.larger(most, word & magnitude)
    return stop - start if lanes.largest(most) < np.uint32(0x7F7F8000) else 0
