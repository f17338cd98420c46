"""Sums of floats that come out the same in every order: exact, so that no rounding depends on how rows were cut.

A block's floats are split on a common grid into parts whose ordinary sums are exact; the parts add up as fractions.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 14  # values at a time: the working set stays in the processor's cache


def exact_sums(values: NDArray[np.float64]) -> tuple[Fraction, Fraction]:
    """Return the exact sum of finite doubles up to 1e100 in size, and the exact sum of their rounded squares."""
    total, squares = Fraction(0), Fraction(0)
    rest, part = np.empty(CHUNK), np.empty(CHUNK)
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        size = len(chunk)
        total += _chunk_sum(chunk, rest[:size], part[:size])
        squares += _chunk_sum(chunk * chunk, rest[:size], part[:size])
    return total, squares


def _chunk_sum(values: NDArray[np.float64], rest: NDArray[np.float64], part: NDArray[np.float64]) -> Fraction:
    total = Fraction(0)
    largest = max(float(values.max()), -float(values.min()))
    while largest > 0:
        # On this grid every part is a multiple of one unit and the sum of them all has at most 53 bits.
        grid = math.ldexp(1.0, math.frexp(largest)[1] + CHUNK.bit_length() + 1)
        np.add(values, grid, out=part)
        np.subtract(part, grid, out=part)
        total += Fraction(float(part.sum()))
        np.subtract(values, part, out=rest)
        values = rest
        largest = max(float(rest.max()), -float(rest.min()))
    return total
