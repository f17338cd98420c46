"""Sums of floats that come out the same in every order: exact, so that no rounding depends on how rows were cut.

A block's floats are split on a common grid into parts whose ordinary sums are exact; the parts add up as fractions.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 15  # values at a time: the working set stays in the processor's cache
SPLIT = 134_217_729.0  # 2**27 + 1, Veltkamp's constant for halving a double


def exact_moments(values: NDArray[np.float64]) -> tuple[Fraction, Fraction]:
    """Return the exact sum and the exact sum of squares of finite doubles up to 1e100 in size."""
    total, squares = Fraction(0), Fraction(0)
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        total += _chunk_sum(chunk)
        square = chunk * chunk
        squares += _chunk_sum(square) + _chunk_sum(_square_error(chunk, square))
    return total, squares


def _chunk_sum(values: NDArray[np.float64]) -> Fraction:
    total = Fraction(0)
    largest = float(np.max(np.abs(values), initial=0.0))
    rest = values
    while largest > 0:
        # On this grid every part is a multiple of one unit and the sum of them all has at most 53 bits.
        grid = math.ldexp(1.0, math.frexp(largest)[1] + CHUNK.bit_length() + 1)
        part = (rest + grid) - grid
        total += Fraction(float(part.sum()))
        rest = rest - part
        largest = float(np.max(np.abs(rest)))
    return total


def _square_error(values: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what rounding took from each square (Dekker): square plus error is the square, exactly."""
    scaled = SPLIT * values
    high = scaled - (scaled - values)
    low = values - high
    error: NDArray[np.float64] = ((high * high - squares) + 2.0 * high * low) + low * low
    return error
