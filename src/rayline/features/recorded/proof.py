"""Prove on real rows that a recording gives what the function gives, for many rows and for each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError
from rayline.features.recorded.plan import Plan
from rayline.features.recorded.recording import RULE, results_of

Doubles = NDArray[np.float64]

ROWS = 1_000  # of a batch that are compared together
ALONE = 16  # of these that are compared one by one
CLOSE = 1e-9  # relative: libraries differ in the last bits of powers and logarithms


def prove(
    function: Callable[..., Any], plan: Plan, arrays: Sequence[Doubles], names: Sequence[str], place: str
) -> None:
    """Compare a function with its recording on some rows: together, and single rows by the row path as well.

    Raises:
        ConfigError: they differ; the message shows the row.
    """
    total = len(arrays[0])
    if not total:
        return
    gaps = np.flatnonzero(np.isnan(np.sum(arrays, axis=0)))[:ALONE]
    rows = np.union1d(_spread(total, ROWS), gaps)
    few = [array[rows] for array in arrays]
    expected = _called(function, few, place)
    _compare(expected, plan.many(few), few, names, f"{place} gives", "its recording")
    one = plan.one()
    alone_too = np.union1d(_spread(len(rows), ALONE), np.searchsorted(rows, gaps[: ALONE // 4]))
    for row in alone_too.tolist():
        single = [array[row : row + 1] for array in few]
        alone = _called(function, single, place)
        among = [column[row : row + 1] for column in expected]
        _compare(alone, among, single, names, f"{place} gives, for the row alone,", "among other rows")
        values = [np.array([value]) for value in one([float(array[0]) for array in single])]
        _compare(alone, values, single, names, f"{place} gives", "its recording for one row")


def _called(function: Callable[..., Any], arrays: Sequence[Doubles], place: str) -> list[Doubles]:
    with np.errstate(all="ignore"):
        try:
            returned = function(*(array.copy() for array in arrays))
        except Exception as error:
            raise ConfigError(f"{place} raises {type(error).__name__} on the training rows: {error}.") from error
    return results_of(returned, len(arrays[0]), place)


def _compare(
    expected: Sequence[Doubles],
    found: Sequence[Doubles],
    arrays: Sequence[Doubles],
    names: Sequence[str],
    gives: str,
    other: str,
) -> None:
    for one, two in zip(expected, found, strict=True):
        # Numbers that are none, or infinite, are missing either way: see the kind 'function'.
        valued = np.isfinite(one)
        wrong = valued != np.isfinite(two)
        wrong[valued] |= ~np.isclose(one[valued], two[valued], rtol=CLOSE, atol=1e-12)
        if wrong.any():
            row = int(np.argmax(wrong))
            inputs = ", ".join(f"{name}={array[row]:g}" for name, array in zip(names, arrays, strict=True))
            raise ConfigError(
                f"{gives} {one[row]!r} for {inputs}, and {other} gives {two[row]!r}. {RULE} Nor may its result change "
                "from call to call, or look at the type of its inputs."
            )


def _spread(total: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.int64))
