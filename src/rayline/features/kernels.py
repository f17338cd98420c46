"""The two hottest loops over numbers, compiled: what NumPy takes thirty passes for is one here, without Python's lock.

They give the very states and numbers that the NumPy paths give, bit for bit: sums are exact and buckets and hashes are
integers, so there is one right answer and a test compares. Compiling takes seconds, once on a machine; small tables
are left to NumPy, and a replica never loads this.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from rayline.features.sketches import Distinct, Moments, Quantiles
from rayline.features.sketches.distinct import KEPT, without_twins
from rayline.features.sketches.quantiles import SHIFT, floor_of

BLOCK = 1_024  # numbers at a time: their distances and bits lie in the first-level cache
HALF = 26  # bits of a mantissa that are summed apart, so that no sum overflows
Function = TypeVar("Function", bound=Callable[..., Any])
compiled: Callable[[Function], Function] = numba.njit(nogil=True, cache=True, error_model="numpy")


def look(data: NDArray[np.float64], missing: NDArray[np.bool_], center: float, unit: float) -> dict[str, Any]:
    """Return moments, quantiles and distinct values of the numbers that are not missing.

    Args:
        data: float64 (n,), each up to 1e100 in size where it is not missing.
        missing: bool (n,).
        center, unit: as ``grid_of`` gives them.
    """
    present, minimum, maximum = _bounds(data, missing)
    minimum, maximum = minimum + 0.0, maximum + 0.0
    if not present:
        return {"moments": Moments(center), "quantiles": Quantiles(center, unit), "distinct": Distinct()}
    floor = floor_of(unit)
    edges = np.array([minimum - center, maximum - center])
    low, high = _bucket(edges.view(np.int64), floor, SHIFT).tolist()
    counts = np.zeros(high - low + 1, dtype=np.int64)
    share = min(1.5 * KEPT / present, 1.0)
    limit = np.uint64(share * 2.0**64) if share < 1 else np.uint64(2**64 - 1)
    hashes = np.empty(present if share >= 1 else 4 * KEPT, dtype=np.uint64)
    sums = np.zeros((4, 2048), dtype=np.int64)
    kept = _look(data, missing, center, floor, low, counts, limit, hashes, sums)
    moments = Moments(center, present, _fraction(sums[0], sums[1]), _fraction(sums[2], sums[3]), minimum, maximum)
    few = without_twins(hashes[:kept])
    if kept > len(hashes) or (share < 1 and len(few) < KEPT):  # few values, often: another way finds them all
        few = Distinct.of(data[~missing]).hashes
    return {
        "moments": moments,
        "quantiles": Quantiles(center, unit, low, counts),
        "distinct": Distinct(few[:KEPT]),
    }


@compiled
def _bounds(data: Any, missing: Any) -> Any:
    present, minimum, maximum = 0, np.inf, -np.inf
    for place in range(len(data)):
        if not missing[place]:
            value = data[place]
            present += 1
            minimum = min(minimum, value)
            maximum = max(maximum, value)
    return present, minimum, maximum


@compiled
def _bucket(bits: Any, floor: Any, shift: Any) -> Any:
    found = np.empty(len(bits), dtype=np.int64)
    for place in range(len(bits)):
        bucket = max(((bits[place] & 0x7FFFFFFFFFFFFFFF) >> shift) - floor, 0)
        found[place] = -bucket if bits[place] < 0 else bucket
    return found


@compiled
def _add(bits: Any, high: Any, low: Any) -> None:
    """Add a double to sums by exponent: the upper and the lower half of its mantissa."""
    exponent = (bits >> 52) & 0x7FF
    mantissa = bits & 0xFFFFFFFFFFFFF
    if exponent:
        mantissa |= 0x10000000000000
    if bits < 0:
        high[exponent] -= mantissa >> 26
        low[exponent] -= mantissa & 0x3FFFFFF
    else:
        high[exponent] += mantissa >> 26
        low[exponent] += mantissa & 0x3FFFFFF


@compiled
def _look(
    data: Any, missing: Any, center: Any, floor: Any, low: Any, counts: Any, limit: Any, hashes: Any, sums: Any
) -> Any:
    """Return how many hashes lie below the limit; those that found room are in ``hashes``."""
    distance, value = np.empty(1_024), np.empty(1_024)
    bits, square_bits, value_bits = distance.view(np.int64), np.empty(1_024).view(np.int64), value.view(np.uint64)
    squares = square_bits.view(np.float64)
    kept = 0
    for start in range(0, len(data), 1_024):
        rows = 0
        for place in range(start, min(start + 1_024, len(data))):
            value[rows] = data[place] + 0.0
            rows += not missing[place]
        for place in range(rows):
            distance[place] = value[place] - center
            squares[place] = distance[place] * distance[place]
        for place in range(rows):
            _add(bits[place], sums[0], sums[1])
            _add(square_bits[place], sums[2], sums[3])
            bucket = max(((bits[place] & 0x7FFFFFFFFFFFFFFF) >> 44) - floor, 0)
            counts[(-bucket if bits[place] < 0 else bucket) - low] += 1
        for place in range(rows):
            word = value_bits[place] + np.uint64(0x9E3779B97F4A7C15)
            word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            word ^= word >> np.uint64(31)
            if word <= limit:
                if kept < len(hashes):
                    hashes[kept] = word
                kept += 1
    return kept


@compiled
def count_codes(codes: Any, counts: Any) -> None:
    """Add how often each code occurs to ``counts``, whose last place is for the code -1."""
    for row in range(len(codes)):
        counts[codes[row]] += 1


@compiled
def write_scaled(data: Any, missing: Any, fill: Any, mean: Any, std: Any, bound: Any, out: Any, place: Any) -> None:
    """Write scaled numbers into a column of float32 (n, width): ``(value - mean) / std``, cut to the bound."""
    for row in range(len(data)):
        value = fill if missing[row] else data[row]
        out[row, place] = min(max((value - mean) / std, -bound), bound)


@compiled
def write_marks(places: Any, out: Any) -> None:
    """Set ``out[row, places[row]]`` to 1 for every row of float32 (n, width)."""
    for row in range(len(places)):
        out[row, places[row]] = 1.0


def _fraction(high: NDArray[np.int64], low: NDArray[np.int64]) -> Fraction:
    """Return the sum that was kept by exponent."""
    total = 0
    for exponent in np.flatnonzero(high | low).tolist():
        mantissas = (int(high[exponent]) << HALF) + int(low[exponent])
        total += mantissas << max(exponent - 1, 0)
    return Fraction(total, 1 << 1074)
