"""Columns that give the target away: its copy, its parts, or a near-perfect stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.features import arrow_values
from rayline.features.arrow_values import READERS
from rayline.features.schema import ColumnSchema

if TYPE_CHECKING:
    import pyarrow as pa

Doubles = NDArray[np.float64]

FEWEST_ROWS = 50  # with fewer, a perfect fit may be chance
PERFECT = 0.9995  # correlation, or area under the ROC curve, from which a column counts as the target's stand-in
MOST_ROWS = 100_000
SAMPLE = 2_000  # rows on which sums are looked for, before the whole column confirms one


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A column that is better left out, and why."""

    column: str
    reason: str


def leaks(table: pa.Table, columns: tuple[ColumnSchema, ...], target: str, task: Task) -> tuple[Suggestion, ...]:
    """Return the columns that alone, or added up, tell the target of nearly every row."""
    if table.num_rows < FEWEST_ROWS:
        return ()
    table = table.slice(0, MOST_ROWS)
    answer = _answer(table.column(target), task)
    found: dict[str, str] = {}
    numeric: dict[str, Doubles] = {}
    for column in columns:
        values = READERS[column.kind](table.column(column.name))
        data = values.data.astype(np.float64)
        if column.kind == "numeric" and not values.missing.any():
            numeric[column.name] = data
        present = ~values.missing
        if present.sum() >= FEWEST_ROWS:
            reason = _alone(column, data[present], answer[present], target, task)
            if reason is not None:
                found[column.name] = reason
    if task == "regression":
        rest = {name: data for name, data in numeric.items() if name not in found}
        found |= _sums(rest, answer, target)
    return tuple(Suggestion(name, reason) for name, reason in found.items())


def _answer(array: Any, task: Task) -> Doubles:
    read = arrow_values.numbers if task == "regression" else arrow_values.levels
    return read(array).data.astype(np.float64)


def _alone(column: ColumnSchema, data: Doubles, answer: Doubles, target: str, task: Task) -> str | None:
    if len(np.unique(answer)) < 2 or len(np.unique(data)) < 2:
        return None
    if task == "regression":
        return _follows(data, answer, target) if column.kind == "numeric" else None
    if column.kind in ("categorical", "boolean"):
        share = _purity(data, answer)
        few = len(np.unique(data)) * 10 <= len(data)
        told = share > PERFECT and few
        return (
            f"gives the target '{target}' away: each value goes with one class ({share:.2%} of rows)" if told else None
        )
    if task == "binary":
        area = _area(data, answer)
        area = max(area, 1 - area)
        told = area > PERFECT
        return (
            f"gives the target '{target}' away: a threshold parts the classes (ROC area {area:.5f})" if told else None
        )
    parted = _runs(data, answer) == len(np.unique(answer))
    return f"gives the target '{target}' away: thresholds part the classes" if parted else None


def _follows(data: Doubles, answer: Doubles, target: str) -> str | None:
    if np.allclose(data, answer, rtol=1e-9, atol=1e-12):
        return f"equals the target '{target}'"
    correlation = float(np.corrcoef(data, answer)[0, 1])
    told = abs(correlation) > PERFECT
    return f"gives the target '{target}' away: correlation {correlation:.5f}" if told else None


def _purity(data: Doubles, answer: Doubles) -> float:
    """Return the share of rows whose class is the most frequent one of their value."""
    _, value = np.unique(data, return_inverse=True)
    _, label = np.unique(answer, return_inverse=True)
    table = np.zeros((value.max() + 1, label.max() + 1), dtype=np.int64)
    np.add.at(table, (value, label), 1)
    return float(table.max(axis=1).sum() / len(data))


def _area(data: Doubles, answer: Doubles) -> float:
    """Return the area under the ROC curve of a number, ties counted half."""
    _, rank, counts = np.unique(data, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    positive = answer == answer.max()
    wins = middle[rank][positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


def _runs(data: Doubles, answer: Doubles) -> int:
    """Return the number of stretches of one class when rows are sorted by a number; ties of two classes break one."""
    order = np.lexsort((answer, data))
    return int((np.diff(answer[order]) != 0).sum()) + 1


def _sums(numeric: dict[str, Doubles], answer: Doubles, target: str) -> dict[str, str]:
    """Find columns that add up to the target: pairs first, then a larger sum by least squares."""
    names = list(numeric)
    rows = np.linspace(0, len(answer) - 1, min(SAMPLE, len(answer))).astype(np.int64)
    sample = {name: numeric[name][rows] for name in names}
    for first, second in combinations(names, 2):
        for sign, pair in ((1.0, (first, second)), (-1.0, (first, second)), (-1.0, (second, first))):
            close = np.allclose(sample[pair[0]] + sign * sample[pair[1]], answer[rows], rtol=1e-9, atol=1e-9)
            if close and np.allclose(numeric[pair[0]] + sign * numeric[pair[1]], answer, rtol=1e-9, atol=1e-9):
                return _named({pair[0]: 1.0, pair[1]: sign}, target)
    if len(names) < 3 or len(rows) < 2 * len(names):
        return {}
    matrix = np.column_stack([sample[name] for name in names])
    weights, *_ = np.linalg.lstsq(matrix, answer[rows], rcond=None)
    signs = {name: float(np.round(weight)) for name, weight in zip(names, weights, strict=True) if round(weight)}
    whole = np.allclose(weights, np.round(weights), atol=1e-6) and all(abs(sign) == 1 for sign in signs.values())
    if not signs or not whole:
        return {}
    total = np.sum([sign * numeric[name] for name, sign in signs.items()], axis=0)
    return _named(signs, target) if np.allclose(total, answer, rtol=1e-9, atol=1e-9) else {}


def _named(signs: dict[str, float], target: str) -> dict[str, str]:
    ordered = sorted(signs, key=lambda name: -signs[name])
    formula = ordered[0] + "".join(f" {'+' if signs[name] > 0 else '-'} {name}" for name in ordered[1:])
    return dict.fromkeys(signs, f"gives the target '{target}' away: {formula} = {target}")
