"""Columns that give the target away: its copy, its parts, or a near-perfect stand-in. Nothing here is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.features.leakage.sums import sums
from rayline.features.reading import arrow_values
from rayline.features.reading.arrow_values import READERS
from rayline.features.schemas.schema import ColumnSchema

if TYPE_CHECKING:
    import pyarrow as pa

Doubles = NDArray[np.float64]
Leaking = Literal["unusable", "identifier", "alone", "sum"]

FEWEST_ROWS = 50  # with fewer, a perfect fit may be chance
FEWEST_OF_A_KIND = 10  # rows of a class, or with and without a value
ROWS_A_VALUE = 10  # on average, for a value's rows to tell anything
PERFECT = 0.9995  # correlation, explained variance or area under the ROC curve of a stand-in
MOST_OF_THE_REST = 0.995  # of what the most frequent class alone does not tell
MOST_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A column that is better left out, and why."""

    column: str
    reason: str
    kind: Leaking = "unusable"


def leaks(table: pa.Table, columns: tuple[ColumnSchema, ...], target: str, task: Task) -> tuple[Suggestion, ...]:
    """Return the columns that alone, or added up, tell the target of nearly every row that has both.

    Of a larger table, 20,000 rows spread over it are looked at.
    """
    table, answer = _answered(_spread(table.select([*(each.name for each in columns), target])), target, task)
    if table.num_rows < FEWEST_ROWS or len(np.unique(answer)) < 2:
        return ()
    found: dict[str, Suggestion] = {}
    numeric: dict[str, Doubles] = {}
    for column in columns:
        if column.kind not in ("numeric", "categorical", "boolean", "datetime"):
            continue
        values = READERS[column.kind](table.column(column.name))
        present = ~(values.missing | values.wrong)
        data = np.where(present, values.data.astype(np.float64), np.nan)
        if column.kind == "numeric":
            numeric[column.name] = data
        reason = _by_gaps(present, answer, target, task)
        if reason is None and present.sum() >= FEWEST_ROWS:
            reason = _alone(column, data[present], answer[present], target, task)
        if reason is not None:
            found[column.name] = Suggestion(column.name, reason, "alone")
    if task == "regression":
        rest = {name: data for name, data in numeric.items() if name not in found}
        formula, parts = sums(rest, answer)
        reason = f"gives the target '{target}' away: {formula} = {target}"
        found |= {name: Suggestion(name, reason, "sum") for name in parts}
    return tuple(found.values())


def _spread(table: pa.Table) -> pa.Table:
    if table.num_rows <= MOST_ROWS:
        return table
    return table.take(np.linspace(0, table.num_rows - 1, MOST_ROWS).astype(np.int64))


def _answered(table: pa.Table, target: str, task: Task) -> tuple[pa.Table, Doubles]:
    """Return the rows that have a usable target, and the target as numbers (class codes for a classification)."""
    values = (arrow_values.numbers if task == "regression" else arrow_values.levels)(table.column(target))
    sound = ~(values.missing | values.wrong)
    answer = values.data.astype(np.float64)
    return (table, answer) if sound.all() else (table.filter(sound), answer[sound])


def _by_gaps(present: NDArray[np.bool_], answer: Doubles, target: str, task: Task) -> str | None:
    """Return what having a value tells, whatever the value is."""
    have = int(np.count_nonzero(present))
    if min(have, len(present) - have) < FEWEST_OF_A_KIND or len(present) < FEWEST_ROWS:
        return None
    told = _groups_tell(present.astype(np.float64), answer, task)
    return f"gives the target '{target}' away: whether it has a value tells it" if told else None


def _alone(column: ColumnSchema, data: Doubles, answer: Doubles, target: str, task: Task) -> str | None:
    distinct = len(np.unique(data))
    if len(np.unique(answer)) < 2 or distinct < 2:
        return None
    away = f"gives the target '{target}' away"
    ordered = column.kind in ("numeric", "datetime")
    if task == "regression" and ordered:
        reason = _follows(data, answer, target)
        if reason is not None:
            return reason
    if distinct * ROWS_A_VALUE <= len(data) and _groups_tell(data, answer, task):
        if task == "regression":
            return f"{away}: each value goes with one number (it explains {_explained(data, answer):.2%})"
        return f"{away}: each value goes with one class ({_purity(data, answer):.2%} of rows)"
    if task == "binary" and ordered:
        fewest = int(np.unique(answer, return_counts=True)[1].min())
        area = _area(data, answer)
        area = max(area, 1 - area)
        told = area > PERFECT and fewest >= FEWEST_OF_A_KIND
        return f"{away}: a threshold parts the classes (ROC area {area:.5f})" if told else None
    if task == "multiclass" and ordered and _runs(data, answer) == len(np.unique(answer)):
        return f"{away}: thresholds part the classes"
    return None


def _follows(data: Doubles, answer: Doubles, target: str) -> str | None:
    if len(np.unique(answer)) < FEWEST_OF_A_KIND:
        return None
    if np.allclose(data, answer, rtol=1e-9, atol=1e-12):
        return f"equals the target '{target}'"
    for words, first, second in (
        ("correlation", data, answer),
        ("correlation of ranks", _ranks(data), _ranks(answer)),
    ):
        correlation = float(np.corrcoef(first, second)[0, 1])
        if abs(correlation) > PERFECT:
            return f"gives the target '{target}' away: {words} {correlation:.5f}"
    return None


def _groups_tell(data: Doubles, answer: Doubles, task: Task) -> bool:
    if task == "regression":
        return _explained(data, answer) > PERFECT
    most = float(np.unique(answer, return_counts=True)[1].max()) / len(answer)
    purity = _purity(data, answer)
    return purity > PERFECT and most < 1 and (purity - most) / (1 - most) > MOST_OF_THE_REST


def _explained(data: Doubles, answer: Doubles) -> float:
    """Return the share of the target's variance that lies between the values of a column."""
    _, value, counts = np.unique(data, return_inverse=True, return_counts=True)
    centred = answer - answer.mean()
    whole = float((centred**2).sum())
    sums_ = np.bincount(value, weights=centred)
    return float((sums_**2 / counts).sum()) / whole if whole else 0.0


def _purity(data: Doubles, answer: Doubles) -> float:
    """Return the share of rows whose class is the most frequent one of their value."""
    _, value = np.unique(data, return_inverse=True)
    _, label = np.unique(answer, return_inverse=True)
    width = int(label.max()) + 1
    table = np.bincount(value * width + label, minlength=(int(value.max()) + 1) * width).reshape(-1, width)
    return float(table.max(axis=1).sum() / len(data))


def _area(data: Doubles, answer: Doubles) -> float:
    """Return the area under the ROC curve of a number, ties counted half."""
    middle = _ranks(data)
    positive = answer == answer.max()
    wins = middle[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


def _ranks(data: Doubles) -> Doubles:
    """Return each row's place in order, from 1; rows alike share the middle of theirs."""
    _, rank, counts = np.unique(data, return_inverse=True, return_counts=True)
    middle: Doubles = (np.cumsum(counts) - (counts - 1) / 2)[rank]
    return middle


def _runs(data: Doubles, answer: Doubles) -> int:
    """Return the number of stretches of one class when rows are sorted by a number; ties of two classes break one."""
    order = np.lexsort((answer, data))
    return int((np.diff(answer[order]) != 0).sum()) + 1
