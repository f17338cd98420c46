"""Doubles cut at fixed places, multiples of 2**32, into whole numbers that add up without rounding.

It is a superaccumulator (Collange et al. 2015): pieces of at most 32 bits stay exact in doubles for 2**20 rows and in
64-bit integers for 2**31, so that no order and no cut of the rows changes a bit of their sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

LIMB = 32  # bits between two cuts
CHUNK = 1 << 20  # rows that may be added up in doubles
DIRECT = 960  # powers of two up to here are multiplied with; beyond, products could leave the range of a double

Doubles = NDArray[np.float64]


def pieces(values: Doubles) -> Iterator[tuple[int, Doubles]]:
    """Yield limbs and whole numbers below 2**32 in size, from the largest limb down to the last that is not zero.

    In units of ``2 ** (32 * limb)`` they add up to ``values``, which are finite and up to 1e100 in size, of any shape.
    A yielded array is written over by the next one.
    """
    largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
    if not largest:
        return
    limb = (int(np.frexp(largest)[1]) - 1) // LIMB
    rest, piece, part = values.copy(), np.empty_like(values), np.empty_like(values)
    while True:
        _shifted(rest, -LIMB * limb, piece)
        np.trunc(piece, out=piece)
        yield limb, piece
        rest -= _shifted(piece, LIMB * limb, part)
        if not rest.any():
            return
        limb -= 1


def unit(limb: int) -> Fraction:
    """Return what a whole number of a limb counts."""
    return Fraction(2) ** (LIMB * limb)


def _shifted(values: Doubles, bits: int, out: Doubles) -> Doubles:
    if abs(bits) <= DIRECT:
        return np.multiply(values, 2.0**bits, out=out)
    return np.ldexp(values, bits, out=out)
