"""Raw columns as float64 numbers with NaN where missing, for the kinds that take several: a batch, or one row.

Booleans are 0 and 1, dates are days since 1970, and a level counts where its text is a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError, RowError
from rayline.features.kinds.datetime import MICROSECONDS_A_DAY
from rayline.features.kinds.seam import Feature, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import LIMIT, RULES
from rayline.features.reading.batch import Batch
from rayline.features.reading.canonical import LONGEST_NUMBER, NUMBER

Doubles = NDArray[np.float64]
RowReader = Callable[[Mapping[str, Any]], list[float]]

NOT_A_NUMBER = "is no number, which this feature takes"


@dataclass(frozen=True, slots=True)
class Input:
    """A raw column and the kind that it is read as."""

    name: str
    kind: str


def inputs_of(feature: Feature) -> tuple[Input, ...]:
    """Return the raw columns of a feature that takes numbers.

    Raises:
        ConfigError: one of them cannot be read as numbers.
    """
    for column in feature.inputs:
        place = f"features.columns.{feature.name}.inputs names '{column.name}', which"
        if column.kind not in _ROW_READERS:
            raise ConfigError(f"{place} is read as {column.kind}: a {feature.kind} takes numbers, booleans and dates.")
        wrong = [level for level in column.levels or () if _number_of(level) is None]
        if column.kind == "categorical" and wrong:
            raise ConfigError(
                f"{place} is categorical with the level '{wrong[0]}': a {feature.kind} takes numbers, booleans, dates "
                "and levels that are numbers."
            )
    return tuple(Input(column.name, column.kind) for column in feature.inputs)


def arrays_of(batch: Batch, inputs: Sequence[Input]) -> list[Doubles]:
    """Return float64 (n,) for each raw column. Raises ``RowError`` for the first value that is no number."""
    return [_array(batch, each) for each in inputs]


def row_reader(inputs: Sequence[Input]) -> RowReader:
    """Return a closure that gives one row's numbers. It raises ``KeyError`` for an absent column, and ``RowError``."""
    readers = tuple((each.name, _ROW_READERS[each.kind]) for each in inputs)

    def values(row: Mapping[str, Any]) -> list[float]:
        found = []
        for name, read_value in readers:
            value = row[name]
            if value.__class__ is float and -LIMIT < value < LIMIT:
                found.append(value)
            else:
                found.append(read_value(value, name))
        return found

    def general(row: Mapping[str, Any]) -> list[float]:
        return [read_value(row[name], name) for name, read_value in readers]

    return values if all(each.kind == "numeric" for each in inputs) else general


def _array(batch: Batch, each: Input) -> Doubles:
    if each.kind == "categorical":
        return _numbers_of_levels(batch, each.name)
    values = batch.values(each.name, each.kind)  # type: ignore[arg-type]
    data = values.data / MICROSECONDS_A_DAY if each.kind == "datetime" else values.data
    return np.where(values.missing, np.nan, data) if values.gaps else np.asarray(data, dtype=np.float64)


def _numbers_of_levels(batch: Batch, name: str) -> Doubles:
    values = batch.values(name, "categorical")
    found = [_number_of(text) for text in values.texts]
    lookup = np.array([*(math.inf if number is None else number for number in found), math.nan])
    numbers: Doubles = lookup[values.codes]
    if np.isinf(numbers).any():
        row = int(np.argmax(np.isinf(numbers)))
        raise RowError(row, name, batch.table.column(name)[row].as_py(), NOT_A_NUMBER)
    return numbers


def _number_of(text: str) -> float | None:
    if len(text) > LONGEST_NUMBER or not NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if -LIMIT < number < LIMIT else None


def _one_number(value: Any, name: str) -> float:
    if value.__class__ is int and -LIMIT < value < LIMIT:
        return float(value)
    number = read(canonical.number, value, name, RULES["numeric"])
    if number is None:
        return math.nan
    if not -LIMIT < number < LIMIT:
        raise RowError(0, name, value, RULES["numeric"])
    return float(number)


def _one_truth(value: Any, name: str) -> float:
    found = read(canonical.truth, value, name, RULES["boolean"])
    return math.nan if found is None else float(found)


def _one_instant(value: Any, name: str) -> float:
    moment = read(canonical.instant, value, name, RULES["datetime"])
    return math.nan if moment is None else float(moment) / MICROSECONDS_A_DAY


def _one_level(value: Any, name: str) -> float:
    text = read(canonical.level_text, value, name, RULES["categorical"])
    if text is None:
        return math.nan
    number = _number_of(text)
    if number is None:
        raise RowError(0, name, value, NOT_A_NUMBER)
    return number


_ROW_READERS: dict[str, Callable[[Any, str], float]] = {
    "numeric": _one_number,
    "boolean": _one_truth,
    "datetime": _one_instant,
    "categorical": _one_level,
}
