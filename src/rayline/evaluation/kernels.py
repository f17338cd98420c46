"""The loops of a bootstrap, compiled: one pass over the rows for each resample, without a temporary array.

Compiling takes about a second, once on a machine. Every function takes ``counts`` int32 (b, units): how often each unit
counts in each of b resamples; and ``place`` int64 (n,): the unit of each of the n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
compiled: Callable[[Function], Function] = numba.njit(nogil=True, cache=True, error_model="numpy")

Counts = NDArray[np.int32]
Places = NDArray[np.int64]
Doubles = NDArray[np.float64]


@compiled
def count(drawn: NDArray[np.uint32], width: int) -> Counts:
    """Return how often each of ``width`` units was drawn, int32 (b, width), of drawn units uint32 (b, draws)."""
    counts = np.zeros((len(drawn), width), dtype=np.int32)
    for sample in range(len(drawn)):
        for each in drawn[sample]:
            counts[sample, each] += 1
    return counts


@compiled
def rank(counts: Counts, place: Places, positive: NDArray[np.bool_], last: NDArray[np.bool_]) -> Doubles:
    """Return the area under the ROC curve and the average precision of each resample, float64 (2, b).

    Rows are in falling order of their chance. The area is the share of pairs in which the positive row ranks higher,
    ties counting half (Mann and Whitney 1947); the average precision sums precision times the rise in recall over the
    distinct chances, as scikit-learn does.

    Args:
        positive: bool (n,), which rows are.
        last: bool (n,), whether a row is the last with its chance.
    """
    found = np.empty((2, len(counts)))
    for sample in range(len(counts)):
        row = counts[sample]
        positives = seen = tied = tied_positives = 0
        area = average = 0.0
        for each in range(len(place)):
            times = row[place[each]]
            tied += times
            if positive[each]:
                tied_positives += times
            if last[each]:
                area += float(tied - tied_positives) * (positives + 0.5 * tied_positives)
                positives += tied_positives
                seen += tied
                if tied_positives:
                    average += tied_positives * float(positives) / seen
                tied = tied_positives = 0
        negatives = seen - positives
        found[0, sample] = area / (float(positives) * negatives) if positives and negatives else np.nan
        found[1, sample] = average / positives if positives else np.nan
    return found


@compiled
def classes(counts: Counts, place: Places, truth: Places, said: Places, width: int) -> Doubles:
    """Return for each resample and class how many rows are of it, were said to be, and are both: float64 (3, k, b)."""
    found = np.zeros((3, width, len(counts)))
    for sample in range(len(counts)):
        row = counts[sample]
        for each in range(len(place)):
            times = row[place[each]]
            found[0, truth[each], sample] += times
            found[1, said[each], sample] += times
            if truth[each] == said[each]:
                found[2, truth[each], sample] += times
    return found


@compiled
def median(counts: Counts, place: Places, values: Doubles) -> Doubles:
    """Return the median of each resample, float64 (b,), of values (n,) in rising order."""
    found = np.empty(len(counts))
    for sample in range(len(counts)):
        row = counts[sample]
        total = 0
        for each in range(len(place)):
            total += row[place[each]]
        lower, upper, passed = (total - 1) // 2, total // 2, 0
        first = np.nan
        for each in range(len(place)):
            passed += row[place[each]]
            if passed > lower and np.isnan(first):
                first = values[each]
            if passed > upper:
                found[sample] = (first + values[each]) / 2
                break
    return found
