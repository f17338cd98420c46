"""Aggregates of many stretches of one array at once, each from its own values alone.

A running total would be quicker and wrong: what left the window would stay in the rounding, and one huge value would
drown all that follow it. Here a stretch is put together of pieces of 1, 2, 4, 8, ... values, as a binary number is, and
the pieces of each length are made of two of the length before: n log w steps, rounding as in pairwise summation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Positions = NDArray[np.int64]
State = tuple[Numbers, ...]
Merge = Callable[[State, State], State]


def aggregated(aggregate: str, values: Numbers, starts: Positions, ends: Positions) -> Numbers:
    """Return an aggregate of ``values[start:end]`` for each pair, missing values (NaN) left out.

    Args:
        aggregate: ``mean``, ``sum``, ``min``, ``max``, ``count``, ``std`` (of a sample: over n - 1) or ``last``.
        values: float64 (n,).
        starts, ends: int64 (m,), start <= end.

    Returns:
        float64 (m,); NaN where a stretch has no value (for ``std``: fewer than two), and 0 for its ``count``.
    """
    present = ~np.isnan(values)
    count = present.astype(np.float64)
    if aggregate == "count":
        return _folded((count,), _sums, starts, ends)[0]
    if aggregate == "last":
        return _folded((values,), _lasts, starts, ends)[0]
    if aggregate in ("min", "max"):
        return _folded((values,), _least if aggregate == "min" else _greatest, starts, ends)[0]
    filled = np.where(present, values, 0.0)
    if aggregate == "std":
        number, _, spread = _folded((count, filled, np.zeros_like(filled)), _spreads, starts, ends)
        deviation: Numbers = np.sqrt(np.divide(spread, number - 1, out=np.full(len(number), np.nan), where=number > 1))
        return deviation
    number, total = _folded((count, filled), _sums, starts, ends)
    divisor = number if aggregate == "mean" else np.ones_like(number)
    result: Numbers = np.divide(total, divisor, out=np.full(len(number), np.nan), where=number > 0)
    return result


def _folded(state: State, merge: Merge, starts: Positions, ends: Positions) -> State:
    nothing = tuple(np.full(len(starts), _EMPTY[merge]) for _ in state)
    result, place, left = nothing, starts.copy(), ends - starts
    piece = 1
    while True:
        here = np.flatnonzero(left & piece)
        if len(here):
            merged = merge(tuple(each[here] for each in result), tuple(each[place[here]] for each in state))
            for whole, part in zip(result, merged, strict=True):
                whole[here] = part
            place[here] += piece
        if not (left >= 2 * piece).any():
            return result
        state = merge(tuple(each[:-piece] for each in state), tuple(each[piece:] for each in state))
        piece *= 2


def _sums(one: State, other: State) -> State:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _least(one: State, other: State) -> State:
    return (np.fmin(one[0], other[0]),)


def _greatest(one: State, other: State) -> State:
    return (np.fmax(one[0], other[0]),)


def _lasts(one: State, other: State) -> State:
    return (np.where(np.isnan(other[0]), one[0], other[0]),)


def _spreads(one: State, other: State) -> State:
    """Merge (count, mean, sum of squared distances), after Chan, Golub and LeVeque."""
    count = one[0] + other[0]
    share = np.divide(other[0], count, out=np.zeros_like(count), where=count > 0)
    apart = other[1] - one[1]
    mean = one[1] + apart * share
    return count, np.where(count > 0, mean, 0.0), one[2] + other[2] + apart * apart * one[0] * share


_EMPTY: dict[Merge, float] = {_sums: 0.0, _spreads: 0.0, _least: np.nan, _greatest: np.nan, _lasts: np.nan}
