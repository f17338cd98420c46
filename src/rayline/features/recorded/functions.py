"""NumPy's functions that are no ufuncs and still take each row by itself, in terms of those that are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rayline.features.recorded.operations import OPERATIONS
from rayline.features.recorded.traced import PROBES, Tape, Traced, Unrecordable, node_of, probe_of, written


@dataclass(frozen=True, slots=True)
class Stacked:
    """Several outputs side by side, which can only be returned."""

    columns: tuple[Any, ...]


def _tape(*values: Any) -> Tape:
    return next(each._tape for each in values if isinstance(each, Traced))


def _where(condition: Any, *choices: Any) -> Any:
    if len(choices) != 2:
        raise Unrecordable("numpy.where(condition)", "Use numpy.where(condition, this, that).")
    probe = np.where(probe_of(condition), *(probe_of(each) for each in choices))
    if not isinstance(condition, Traced):
        raise Unrecordable("numpy.where with a condition of your own", "The condition compares inputs.")
    return written(_tape(condition), "where", probe, condition, *choices)


def _clip(values: Any, a_min: Any = None, a_max: Any = None, **bounds: Any) -> Any:
    low, high = bounds.get("min", a_min), bounds.get("max", a_max)
    values = values if low is None else np.maximum(values, low)
    return values if high is None else np.minimum(values, high)


def _select(conditions: Sequence[Any], choices: Sequence[Any], default: Any = 0) -> Any:
    result = default
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = np.where(condition, choice, result)
    return result


def _round(values: Any, decimals: int = 0) -> Any:
    if not decimals:
        return np.rint(values)
    unit = 10.0 ** abs(decimals)
    return np.rint(values * unit) / unit if decimals > 0 else np.rint(values / unit) * unit


def _nan_to_num(values: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    if not copy:
        raise Unrecordable("numpy.nan_to_num(copy=False)", "Assign the result to a name.")
    largest = np.finfo(np.float64).max
    values = np.where(np.isnan(values), nan, values)
    values = np.where(values == math.inf, largest if posinf is None else posinf, values)
    return np.where(values == -math.inf, -largest if neginf is None else neginf, values)


def _full_like(values: Any, fill_value: Any, dtype: Any = None) -> Any:
    if isinstance(fill_value, Traced):
        raise Unrecordable("numpy.full_like(x, array)", "Use the array itself.")
    wanted = values.dtype if dtype is None else np.dtype(dtype)
    probe = np.full_like(PROBES, fill_value, dtype=wanted)
    tape = _tape(values)
    # A constant is a register without rows; a plan's outputs are as long as its inputs whatever they are made of.
    return Traced(tape, node_of(tape, probe[0].item()), probe)


def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Any:
    if left is not None or right is not None:
        raise Unrecordable("numpy.interp(left=, right=)", "Use numpy.where for what lies outside.")
    places, heights = _table(xp, "numpy.interp"), _table(fp, "numpy.interp")
    return written(_tape(x), "interp", np.interp(probe_of(x), places, heights), x, places, heights)


def _digitize(x: Any, bins: Any, right: bool = False) -> Any:
    if right:
        raise Unrecordable("numpy.digitize(right=True)", "A value on a border belongs to the bin above.")
    edges = _table(bins, "numpy.digitize")
    if any(one > other for one, other in pairwise(edges)):
        raise Unrecordable("numpy.digitize with falling borders", "Sort them.")
    return written(_tape(x), "bins", np.digitize(probe_of(x), np.asarray(edges)), x, edges)


def _stack(columns: Sequence[Any], axis: int = 0) -> Any:
    if axis not in (1, -1):
        raise Unrecordable(f"numpy.stack(axis={axis})", "Return a tuple of arrays.")
    return Stacked(tuple(columns))


def _table(values: Any, name: str) -> tuple[float, ...]:
    if isinstance(values, Traced):
        raise Unrecordable(f"{name} with a table made of inputs", "The table is a constant.")
    return tuple(np.asarray(values, dtype=np.float64).tolist())


def _isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8) -> Any:
    near = np.abs(a - b) <= atol + rtol * np.abs(b)
    return (near & np.isfinite(b)) | (a == b)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where,
    np.clip: _clip,
    np.select: _select,
    np.round: _round,
    np.around: _round,
    np.nan_to_num: _nan_to_num,
    np.full_like: _full_like,
    np.zeros_like: lambda values, dtype=None: _full_like(values, 0, dtype),
    np.ones_like: lambda values, dtype=None: _full_like(values, 1, dtype),
    np.copy: lambda values: values.copy(),
    np.interp: _interp,
    np.digitize: _digitize,
    np.column_stack: lambda columns: _stack(columns, 1),
    np.stack: _stack,
    np.isclose: _isclose,
}
"""What replaces each of them while a function is recorded."""

NAMES = (*sorted(OPERATIONS.keys() - {"float", "truth", "bins", "interp"}), "where", "clip", "round", "interp")
