"""A column as a few levels: its values, or bins of its numbers or times. A missing value is a level of its own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 12
"""A number of no more distinct values than this is divided by its values where no bins are asked for."""
BINS = 5
"""Else into so many bins of equally many rows."""


@dataclass(frozen=True, slots=True)
class Levels:
    """One level for each row of a column.

    Attributes:
        codes: int64 (n,), the level of each row.
        texts: each level for people, with the column's name.
    """

    codes: NDArray[np.int64]
    texts: tuple[str, ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each level, int64 (levels,)."""
        return np.bincount(self.codes, minlength=len(self.texts))

    def rows(self, code: int) -> NDArray[np.int64]:
        """Return the rows of one level, int64, rising."""
        return np.flatnonzero(self.codes == code)


def levels_of(
    column: pa.ChunkedArray, name: str, bins: tuple[float, ...] | int | None = None, most: int | None = None
) -> Levels | None:
    """Return the levels of a column, or None where its type has no values to divide by (lists, images).

    Args:
        column: raw values.
        name: of the column, for the texts.
        bins: the inner edges of a number, each the lower end of the bin above it, or how many bins of equally many
            rows; None divides a number of few distinct values by its values, else into ``BINS`` bins.
        most: None is given for a text with more distinct values than this: they name rows, not groups of rows.

    Raises:
        ConfigError: ``bins`` are given for what is no number, or the edges do not rise.
    """
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return levels_of(column.cast(kind.value_type), name, bins, most)
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if numeric:
        return _of_numbers(_doubles(column.cast(pa.float64(), safe=False)), name, bins)
    if types.is_timestamp(kind) or types.is_date(kind):
        return _of_times(column, name, bins)
    if bins is not None:
        raise ConfigError(
            f"evaluate.slices: column '{name}' is of type {kind}, and bins divide numbers and times only. Leave its"
            " bins out."
        )
    if not (types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)):
        return None
    return _of_values(column, name, most)


def _of_values(column: pa.ChunkedArray, name: str, most: int | None) -> Levels | None:
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if most is not None and len(values) > most:
        return None
    order = sorted(range(len(values)), key=lambda index: str(values[index]))
    place = np.empty(len(values) + 1, dtype=np.int64)
    place[order] = np.arange(len(values))
    place[-1] = len(values)
    codes = place[encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)]
    texts = [f"{name} = {_text(values[index])}" for index in order]
    return _with_missing(codes, texts, name)


def _of_numbers(data: NDArray[np.float64], name: str, bins: tuple[float, ...] | int | None) -> Levels:
    present = ~np.isnan(data)
    values = np.unique(data[present])
    if bins is None and len(values) <= FEW:
        codes = np.where(present, np.searchsorted(values, data), len(values))
        return _with_missing(codes, [f"{name} = {text}" for text in _numbers(values)], name)
    edges = _edges(data[present], values, BINS if bins is None else bins, name)
    codes = np.where(present, np.searchsorted(edges, data, side="right"), len(edges) + 1)
    return _with_missing(codes, [f"{name} {_range(_numbers(edges), each)}" for each in range(len(edges) + 1)], name)


def _edges(
    data: NDArray[np.float64], values: NDArray[np.float64], bins: tuple[float, ...] | int, name: str
) -> NDArray[np.float64]:
    if not isinstance(bins, int):
        if sorted(set(bins)) != list(bins):
            raise ConfigError(f"evaluate.slices: the bins of column '{name}' are {list(bins)}; each must rise.")
        return np.array(bins, dtype=np.float64)
    if not len(data):
        return np.empty(0)
    # A bin holds its lower edge: an edge that is the least value would leave an empty one below it.
    edges = np.unique(np.quantile(data, np.arange(1, bins) / bins, method="higher"))
    return np.asarray(edges[edges > values[0]])


def _of_times(column: pa.ChunkedArray, name: str, bins: tuple[float, ...] | int | None) -> Levels:
    import pyarrow as pa

    if bins is not None and not isinstance(bins, int):
        raise ConfigError(
            f"evaluate.slices: column '{name}' holds times, and its bins are a count of bins, not edges. Write bins: 4."
        )
    seconds = _doubles(column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False)) / 1e6
    present = ~np.isnan(seconds)
    edges = _edges(seconds[present], np.unique(seconds[present]), BINS if bins is None else bins, name)
    codes = np.where(present, np.searchsorted(edges, seconds, side="right"), len(edges) + 1)
    days = [str(np.datetime64(round(edge * 1e6), "us").astype("datetime64[m]")) for edge in edges.tolist()]
    days = [day.removesuffix("T00:00") for day in days]
    if not days:
        return _with_missing(codes, [f"{name} at any time"], name)
    between = [f"{name} from {low} to before {high}" for low, high in itertools.pairwise(days)]
    return _with_missing(codes, [f"{name} before {days[0]}", *between, f"{name} from {days[-1]}"], name)


def _with_missing(codes: NDArray[Any], texts: list[str], name: str) -> Levels:
    return Levels(codes.astype(np.int64), (*texts, f"{name} is missing"))


def _range(edges: list[str], place: int) -> str:
    if not edges:
        return "has any value"
    if place == 0:
        return f"< {edges[0]}"
    if place == len(edges):
        return f">= {edges[-1]}"
    return f"in [{edges[place - 1]}, {edges[place]})"


def _numbers(values: NDArray[np.float64]) -> list[str]:
    """Return numbers with six digits, or with all where six do not tell them apart."""
    short = [f"{value:.6g}" for value in values.tolist()]
    return short if len(set(short)) == len(short) else [f"{value:.17g}" for value in values.tolist()]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _doubles(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(), dtype=np.float64)
