"""Random numbers that are a function of (seed, flat index): Philox4x32-7, https://doi.org/10.1145/2063384.2063405.

Seven rounds are the fewest with which it passes all tests of its authors (BigCrush among them).

There is no state to pass on, so any part of a tensor can be computed by any thread, in any order, and no mask is ever
stored. The 64 bits of the seed are the key. One counter gives four words of 32 bits, and each word gives two entries 16
bits each. So that a vector unit finds neighbours in memory, entries are taken in groups of 1024: the lower half of word
v of counter 128·g + l belongs to entry 1024·g + 256·v + l, the upper half to the entry 128 further on.
"""

from __future__ import annotations

import torch

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 7
GROUP = 1024
LANES = GROUP // 8
_MASK = 0xFFFFFFFF


def philox(counter: tuple[torch.Tensor, ...], key: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Return the four words of each counter.

    Args:
        counter: four int64 tensors of one shape, with values in [0, 2^32).
        key: two numbers in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The product of two 32-bit words may exceed 2^63, which makes its sign wrong, but its bits are right.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32 & _MASK) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32 & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = k0 + KEY_STEPS[0] & _MASK, k1 + KEY_STEPS[1] & _MASK
    return c0, c1, c2, c3


def words(seed: int, start: int, n: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the 16 random bits of the entries start to start + n − 1 of a tensor, as int64, `(n,)`."""
    first, last = start // GROUP, -(-(start + n) // GROUP)
    counter = torch.arange(first * LANES, last * LANES, device=device)
    zero = torch.zeros_like(counter)
    made = philox((counter & _MASK, counter >> 32, zero, zero), (seed & _MASK, seed >> 32 & _MASK))
    halves = [half.view(-1, LANES) for word in made for half in (word & 0xFFFF, word >> 16)]
    grouped = torch.stack(halves, dim=1)
    return grouped.view(-1)[start - first * GROUP : start - first * GROUP + n]
