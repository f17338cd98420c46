"""Sums of floats that come out the same in every order: exact, so that no rounding depends on how rows were cut.

A block's floats are split on a common grid into parts whose ordinary sums are exact; the parts add up as fractions.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 15  # values at a time: the working set stays in the processor's cache
ROOM = CHUNK.bit_length() + 1  # bits that the sum of so many needs beyond its parts


def exact_sums(values: NDArray[np.float64], center: float = 0.0) -> tuple[Fraction, Fraction]:
    """Return the exact sum of the distances of doubles up to 1e100 in size from a centre, and of their squares.

    Each distance and each square is rounded to a double before it is added.
    """
    total, squares = Fraction(0), Fraction(0)
    moved, rest, part = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        size = len(chunk)
        np.subtract(chunk, center, out=moved[:size])
        total += _chunk_sum(moved[:size], rest[:size], part[:size])
        np.multiply(moved[:size], moved[:size], out=moved[:size])
        squares += _chunk_sum(moved[:size], rest[:size], part[:size])
    return total, squares


def _chunk_sum(values: NDArray[np.float64], rest: NDArray[np.float64], part: NDArray[np.float64]) -> Fraction:
    total = Fraction(0)
    exponent = math.frexp(max(float(values.max()), -float(values.min())))[1]
    while True:
        # On this grid every part is a multiple of one unit, and the sum of them all has at most 53 bits.
        grid = math.ldexp(1.0, exponent + ROOM)
        np.add(values, grid, out=part)
        np.subtract(part, grid, out=part)
        total += Fraction(float(part.sum()))
        np.subtract(values, part, out=rest)
        if not rest.any():
            return total
        values = rest
        exponent += ROOM - 53  # what is left is half a unit of the grid at most
