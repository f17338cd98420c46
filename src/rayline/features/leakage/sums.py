"""Numeric columns that add up to the target: pairs first, then a larger sum by least squares. Gaps are left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

FEWEST_ROWS = 50
FIRST_LOOK = 16  # rows that nearly every pair fails on
SAMPLE = 2_000  # rows on which sums are looked for, before all rows confirm one


def sums(numeric: Mapping[str, Doubles], answer: Doubles) -> tuple[str, tuple[str, ...]]:
    """Return a formula and the columns in it, or an empty one.

    Args:
        numeric: float64 (n,) by name, NaN where missing.
        answer: float64 (n,), the target.
    """
    full = {name: data for name, data in numeric.items() if np.isfinite(data).mean() >= 0.5}
    if len(full) < 2:
        return "", ()
    return _pair(full, answer) or _larger(full, answer) or ("", ())


def _pair(numeric: Mapping[str, Doubles], answer: Doubles) -> tuple[str, tuple[str, ...]] | None:
    names = list(numeric)
    matrix = np.stack([numeric[name] for name in names])
    whole = np.flatnonzero(np.isfinite(matrix).all(axis=0))
    if len(whole) < FIRST_LOOK:
        return None
    look = whole[np.linspace(0, len(whole) - 1, FIRST_LOOK).astype(np.int64)]
    few, wanted = matrix[:, look], answer[look]
    for first in range(len(names)):
        for sign in (1.0, -1.0):
            rest = slice(first + 1, None) if sign > 0 else slice(0, None)
            close = np.isclose(few[first] + sign * few[rest], wanted, rtol=1e-9, atol=1e-9).all(axis=1)
            for place in np.flatnonzero(close):
                second = int(place) + (first + 1 if sign > 0 else 0)
                signs = {names[first]: 1.0, names[second]: sign}
                if second != first and _holds(signs, numeric, answer):
                    return _told(signs)
    return None


def _larger(numeric: Mapping[str, Doubles], answer: Doubles) -> tuple[str, tuple[str, ...]] | None:
    names = list(numeric)
    matrix = np.stack([numeric[name] for name in names], axis=1)
    whole = np.flatnonzero(np.isfinite(matrix).all(axis=1))
    rows = whole[np.linspace(0, len(whole) - 1, min(SAMPLE, len(whole))).astype(np.int64)] if len(whole) else whole
    if len(names) < 3 or len(rows) < max(2 * len(names), FEWEST_ROWS):
        return None
    weights, *_ = np.linalg.lstsq(matrix[rows], answer[rows], rcond=None)
    rounded = np.round(weights)
    if not np.allclose(weights, rounded, atol=1e-6) or not set(np.abs(rounded)) <= {0.0, 1.0} or not rounded.any():
        return None
    signs = {name: float(sign) for name, sign in zip(names, rounded, strict=True) if sign}
    return _told(signs) if _holds(signs, numeric, answer) else None


def _holds(signs: Mapping[str, float], numeric: Mapping[str, Doubles], answer: Doubles) -> bool:
    total = np.sum([sign * numeric[name] for name, sign in signs.items()], axis=0)
    known = np.isfinite(total)
    return int(known.sum()) >= FEWEST_ROWS and np.allclose(total[known], answer[known], rtol=1e-9, atol=1e-9)


def _told(signs: Mapping[str, float]) -> tuple[str, tuple[str, ...]]:
    ordered = sorted(signs, key=lambda name: -signs[name])
    formula = ordered[0] + "".join(f" {'+' if signs[name] > 0 else '-'} {name}" for name in ordered[1:])
    return formula, tuple(signs)
