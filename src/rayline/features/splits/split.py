"""Which part each row belongs to: train, valid or test. Decided row by row, whatever the blocks and their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayline.config import FeaturesConfig, SplitConfig
from rayline.errors import ConfigError, DataError, nearest, shown, suggestion
from rayline.features.hashing import Words, mix, row_hashes
from rayline.features.reading import arrow_values

if TYPE_CHECKING:
    import pyarrow as pa

Part = NDArray[np.int8]

PARTS = ("train", "valid", "test")
LEFT_OUT = -1  # in the gap before a border
POSITION = "__rayline_position__"  # row number in the source, where the split follows the order of the file
FILE_PART = "__rayline_part__"  # which file the row came from: 0 the source, 1 valid, 2 test
MARKS = (POSITION, FILE_PART)
SALT = np.uint64(0x52AE1F7C0D93B645)  # the split must not share bits with other uses of the row hash
WORDS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}


class SplitPlan(Protocol):
    """The split as plain values that travel to workers."""

    def parts(self, table: pa.Table, hashes: Words | None = None) -> Part:
        """Return int8 (n,): 0 train, 1 valid, 2 test, -1 for a row that the gap leaves out.

        Args:
            table: some rows, with the marks that the split needs.
            hashes: ``row_hashes`` of all columns but the marks, where they are at hand.

        Raises:
            DataError: a row has no time, or another word than a part's name.
        """
        ...


Look = Callable[[tuple[str, ...] | None, Callable[[Any], Any]], Iterator[Any]]
"""Gives what a function finds in each block of the given columns (all where None): one execution on a large source."""


@dataclass(frozen=True, slots=True)
class HashSplit:
    """By the hash of ``columns`` (none: the whole row); ``train`` and ``valid`` are upper bounds as shares of it."""

    columns: tuple[str, ...]
    train: float
    valid: float

    def parts(self, table: pa.Table, hashes: Words | None = None) -> Part:
        """Return the parts."""
        place = places(table, self.columns, hashes)
        return (place >= self.train).astype(np.int8) + (place >= self.valid).astype(np.int8)


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """By the values of ``column``: ``ends`` are the last that train and that validate, ``starts`` the first of the
    part after each. What lies between is left out."""

    column: str
    ends: tuple[float, float]
    starts: tuple[float, float]

    def parts(self, table: pa.Table, hashes: Words | None = None) -> Part:
        """Return the parts."""
        times, _ = read_times(table.column(self.column), self.column)
        found = (times >= self.starts[0]).astype(np.int8) + (times >= self.starts[1]).astype(np.int8)
        for end, start in zip(self.ends, self.starts, strict=True):
            found[(times > end) & (times < start)] = LEFT_OUT
        return found


@dataclass(frozen=True, slots=True)
class ColumnSplit:
    """By the word that ``column`` has in each row."""

    column: str

    def parts(self, table: pa.Table, hashes: Words | None = None) -> Part:
        """Return the parts."""
        values = arrow_values.levels(table.column(self.column))
        codes = [WORDS.get(text.strip().lower()) for text in values.texts]
        strange = [text for text, code in zip(values.texts, codes, strict=True) if code is None]
        if strange or values.gaps or values.wrong.any():
            found = strange[0] if strange else None
            near = nearest(strange[0].lower(), WORDS) if strange else None
            raise DataError(
                f"data.split.column '{self.column}' is {shown(found)} in some rows, where each must say train, valid "
                f"or test.{f' Did you mean {near!r}?' if near else ''}"
            )
        parts: Part = np.array(codes, dtype=np.int8)[values.codes]
        return parts


@dataclass(frozen=True, slots=True)
class FileSplit:
    """By the file that the row came from; the source's rows are divided by hash where no file gives a part."""

    rest: HashSplit

    def parts(self, table: pa.Table, hashes: Words | None = None) -> Part:
        """Return the parts."""
        marks = table.column(FILE_PART).to_numpy().astype(np.int8)
        return np.where(marks == 0, self.rest.parts(table, hashes), marks).astype(np.int8)


def plan_split(
    split: SplitConfig, names: tuple[str, ...], look: Look, target: str = "", *, by_number: bool = False
) -> SplitPlan:
    """Return the plan of a configured split.

    Args:
        names: the columns of the table.
        look: asked for the borders of ``time`` (that column alone) and for the shares of ``stratified`` (all columns),
            once; ``hash``, ``column`` and ``files`` need no look.
        target: what ``stratified`` keeps in balance: its classes, or tenths of a number where ``by_number``.

    Raises:
        ConfigError: the key, the time column or the target does not exist, or the gap does not fit the column.
        DataError: ties in time, the gap, or too few rows, leave a part without rows.
    """
    named = split.key or split.column
    if named is not None and named not in names:
        key = "key" if split.key else "column"
        raise ConfigError(f"data.split.{key} names '{named}', which the data does not have. {suggestion(named, names)}")
    rest = HashSplit(
        (split.key,) if split.key else (), 1.0 - split.valid_share - split.test_share, 1.0 - split.test_share
    )
    if split.by == "hash":
        return rest
    if split.by == "files":
        return FileSplit(rest)
    if split.by == "column":
        assert split.column is not None
        return ColumnSplit(split.column)
    if split.by == "stratified":
        from rayline.features.splits.strata import plan_strata

        return plan_strata(target, by_number, (rest.train, rest.valid), look)
    return _plan_time(split, (rest.train, rest.valid), look)


def in_order(table: pa.Table) -> pa.Table:
    """Return the table with each row's number as a mark."""
    import pyarrow as pa

    return table.append_column(POSITION, pa.array(np.arange(table.num_rows)))


def without_marks(names: list[str]) -> tuple[str, ...]:
    """Return the columns that are the source's own."""
    return tuple(name for name in names if name not in MARKS)


def inputs_beside(split: SplitConfig, features: FeaturesConfig) -> FeaturesConfig:
    """Return the features without the column that says each row's part, unless it is declared as an input."""
    from msgspec.structs import replace

    named = split.column if split.by == "column" else None
    if named is None or named in features.drop or features.columns:
        return features
    return replace(features, drop=(*features.drop, named))


def places(table: pa.Table, columns: tuple[str, ...] = (), hashes: Words | None = None) -> NDArray[np.float64]:
    """Return a number from 0 to 1 (exclusive) for each row, by the hash of some columns or of the whole row."""
    if columns or hashes is None:
        hashes = row_hashes(table, columns or without_marks(table.column_names))
    return (mix(hashes ^ SALT) >> np.uint64(11)).astype(np.float64) / 2.0**53


def read_times(array: Any, name: str) -> tuple[NDArray[np.float64], float]:
    """Return a column as numbers that grow with time, and how many of them are a second (0 where it holds numbers).

    Raises:
        DataError: a row has no time.
    """
    import pyarrow as pa

    kind = array.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    values = arrow_values.numbers(array) if plain else arrow_values.instants(array)
    bad = values.missing | values.wrong
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"data.split.column '{name}': {int(bad.sum())} rows have no usable time, the first is row {row} with "
            f"{array[row].as_py()!r}. Fill them, or split by another column."
        )
    return values.data.astype(np.float64), 0.0 if plain else 1e6


@dataclass(frozen=True, slots=True)
class _Times:
    column: str

    def __call__(self, table: pa.Table) -> tuple[NDArray[np.float64], float]:
        return read_times(table.column(self.column), self.column)


def _plan_time(split: SplitConfig, shares: tuple[float, float], look: Look) -> TimeSplit:
    column = split.column or POSITION
    found = list(look((column,), _Times(column)))
    ordered = np.sort(np.concatenate([times for times, _ in found])) if found else np.zeros(0)
    gap = _gap(split, found[0][1] if found else 0.0)
    if len(ordered) < 3:
        raise DataError(f"the data has {len(ordered)} rows: too few for a train, a valid and a test part.")
    ends = [ordered[max(math.ceil(len(ordered) * share) - 1, 0)] for share in shares]
    if not ends[0] < ends[1] < ordered[-1]:
        raise DataError(
            f"data.split.column '{column}' has too few different times: rows of one time stay together, and that "
            "leaves a part without rows. Split by another column or by hash."
        )
    starts = [ordered[np.searchsorted(ordered, end, side="right")] for end in ends]
    kept = [_last_before(ordered, start, gap, split.column is None) for start in starts] if gap else ends
    if not (ordered[0] <= kept[0] and starts[0] <= kept[1]):
        part = "train" if kept[0] < ordered[0] else "valid"
        raise DataError(f"data.split.gap ({split.gap}) is as long as the whole {part} part. Give a shorter one.")
    return TimeSplit(column, (float(kept[0]), float(kept[1])), (float(starts[0]), float(starts[1])))


def _last_before(ordered: NDArray[np.float64], start: float, gap: float, rows: bool) -> float:
    """Return the last time that is at least the gap before a border; of rows, the gap itself is left out."""
    place = int(np.searchsorted(ordered, start - gap, side="left" if rows else "right")) - 1
    return float(ordered[place]) if place >= 0 else -math.inf


def _gap(split: SplitConfig, second: float) -> float:
    """Return the gap in the units of the times."""
    if split.column is None:
        if not isinstance(split.gap, float | int) or split.gap != int(split.gap):
            raise ConfigError(
                f"data.split.gap is {split.gap!r}, and without data.split.column it counts rows: give a whole number, "
                "or name the column that has the time."
            )
        return float(split.gap)
    if second:
        return split.gap_seconds * second
    if isinstance(split.gap, str):
        raise ConfigError(
            f"data.split.gap is '{split.gap}', and column '{split.column}' holds numbers: give the gap as a number in "
            "their units."
        )
    return split.gap
