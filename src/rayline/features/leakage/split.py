"""Splits that let the test part be known: copies on both sides, neighbours in time, rows of one key, later instants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.config import SplitConfig
from rayline.errors import UsageError
from rayline.features.hashing import row_hashes
from rayline.features.reading import arrow_values
from rayline.features.reading.arrow_values import READERS
from rayline.features.schemas.schema import Schema
from rayline.features.splits.split import in_order, plan_split

if TYPE_CHECKING:
    import pyarrow as pa

Doubles = NDArray[np.float64]

FEWEST_ROWS = 200
FEWEST_COPIES = 10
COPIED = 0.01  # share of the test rows whose inputs were trained on
IN_ORDER = 0.99  # share of rows not earlier than the row before, for a file that is in the order of a column
ALIKE = 0.5  # how much of the target one row tells of the next, or of the others of its key; 0 is chance
LATER = 0.01
AT_RANDOM = ("hash", "stratified")  # splits of single rows
KEY = re.compile(r"(^|_|-)(id|key|uuid)$|[a-z](Id|ID|Key)$", re.ASCII)


def parts_of(table: pa.Table, split: SplitConfig, schema: Schema) -> NDArray[np.int8] | None:
    """Return the part of each row (0 train, 1 valid, 2 test), or None where these rows cannot be divided."""
    marked, by_number = in_order(table), schema.task == "regression"
    try:
        plan = plan_split(
            split,
            tuple(table.column_names),
            lambda _, see: iter((see(marked),)),
            schema.target,
            by_number=by_number,
        )
        return plan.parts(marked)
    except (UsageError, KeyError):  # no such column, rows without a time, or parts that are files of their own
        return None


def copied_inputs(table: pa.Table, schema: Schema, parts: NDArray[np.int8]) -> str | None:
    """Return what is wrong where test rows have the inputs of training rows, though inputs seldom repeat.

    Args:
        parts: int8 (n,): 0 train, 1 valid, 2 test.
    """
    names = tuple(name for name in schema.names if name in table.column_names)
    if not names or table.num_rows < FEWEST_ROWS:
        return None
    hashes = row_hashes(table, names)
    test = hashes[parts == 2]
    if not len(test) or len(np.unique(hashes)) * 2 < len(hashes):
        return None
    known = int(np.isin(test, hashes[parts == 0]).sum())
    if known < FEWEST_COPIES or known <= COPIED * len(test):
        return None
    return (
        f"{known:,} of {len(test):,} test rows ({known / len(test):.1%}) have the very inputs of a training row: the "
        "test measures what was learned by heart. Remove the copies, or keep them on one side with data.split.key"
    )


def later_than(table: pa.Table, schema: Schema, event_time: str) -> dict[str, str]:
    """Return what is wrong with date columns that are later than the time of the event, by name."""
    found: dict[str, str] = {}
    if event_time not in table.column_names:
        return found
    event = arrow_values.instants(table.column(event_time))
    for column in schema.columns:
        if column.kind != "datetime" or column.name in (event_time, schema.target):
            continue
        if column.name not in table.column_names:
            continue
        values = READERS["datetime"](table.column(column.name))
        both = ~(values.missing | values.wrong | event.missing | event.wrong)
        late = int(np.count_nonzero(values.data[both] > event.data[both]))
        if late > LATER * max(int(both.sum()), 1) and late >= FEWEST_COPIES:
            found[column.name] = (
                f"is later than '{event_time}' in {late / both.sum():.1%} of rows: was it known then? "
                "If not, leave it out (features.drop)"
            )
    return found


def neighbours(table: pa.Table, schema: Schema, split: SplitConfig) -> tuple[str, str] | None:
    """Return the column of time and what is wrong, where rows are split at random but tell of the next in time."""
    if split.by not in AT_RANDOM or split.key is not None or table.num_rows < FEWEST_ROWS:
        return None
    answer = _answer(table, schema)
    for column in schema.columns:
        if column.kind != "datetime" or column.name not in table.column_names:
            continue
        values = READERS["datetime"](table.column(column.name))
        sound = ~(values.missing | values.wrong) & np.isfinite(answer)
        times, ordered = values.data[sound], answer[sound]
        if len(times) < FEWEST_ROWS or (np.diff(times) >= 0).mean() < IN_ORDER or len(np.unique(times)) < FEWEST_COPIES:
            continue
        alike = _told_by(ordered[:-1], ordered[1:], schema)
        if alike > ALIKE:
            return column.name, (
                f"rows follow one another in '{column.name}', and the target of one tells {_words(alike, schema)} of "
                "the next: split at random, the test part lies between rows that were trained on. Use "
                f"data.split: {{by: time, column: {column.name}}}"
            )
    return None


def keys(table: pa.Table, schema: Schema, split: SplitConfig) -> tuple[str, str] | None:
    """Return the column and what is wrong, where rows of one key lie on both sides and their targets are alike."""
    if split.by not in AT_RANDOM or split.key is not None or table.num_rows < FEWEST_ROWS:
        return None
    answer = _answer(table, schema)
    for name in table.column_names:
        if name == schema.target or not KEY.search(name):
            continue
        codes = arrow_values.levels(table.column(name)).codes
        sound = (codes >= 0) & np.isfinite(answer)
        groups = len(np.unique(codes[sound]))
        if not 20 <= groups <= sound.sum() / 2:
            continue
        order = np.argsort(codes[sound], kind="stable")
        key, ordered = codes[sound][order], answer[sound][order]
        same = key[1:] == key[:-1]
        if same.sum() < FEWEST_ROWS / 2:
            continue
        alike = _told_by(ordered[:-1][same], ordered[1:][same], schema)
        if alike > ALIKE:
            return name, (
                f"rows of one '{name}' have targets alike (one tells {_words(alike, schema)} of another), and a split "
                f"of single rows puts them on both sides. Use data.split: {{by: hash, key: {name}}}"
            )
    return None


def _answer(table: pa.Table, schema: Schema) -> Doubles:
    read = arrow_values.numbers if schema.task == "regression" else arrow_values.levels
    values = read(table.column(schema.target))
    return np.where(values.missing | values.wrong, np.nan, values.data.astype(np.float64))


def _told_by(first: Doubles, second: Doubles, schema: Schema) -> float:
    """Return the correlation of two targets, or for classes how far beyond chance they agree (Cohen's kappa)."""
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return 0.0
    if schema.task == "regression":
        return float(np.corrcoef(first, second)[0, 1])
    agree = float((first == second).mean())
    chance = sum(float((first == each).mean() * (second == each).mean()) for each in np.unique(first))
    return (agree - chance) / (1 - chance) if chance < 1 else 0.0


def _words(alike: float, schema: Schema) -> str:
    return f"{alike:.0%} (correlation)" if schema.task == "regression" else f"{alike:.0%} beyond chance"
