"""A split that gives every class of the target, or every tenth of a number, the same share of each part.

The rows of a class are ordered by their hashes, and cut where the shares say. Only how many hashes of each class fall
into each of a fixed number of bins has to be known for it: counts, which add up to the same whatever the blocks and
their order. Rows of one bin stay together, and so do equal rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.errors import DataError
from rayline.features.hashing import Words
from rayline.features.reading import arrow_values
from rayline.features.splits.split import Look, Part, places

if TYPE_CHECKING:
    import pyarrow as pa

BINS = 4096  # of the hash: a class is cut to within 1/4096 of its rows, or to within one row where it has few
TENTHS = 10

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StratifiedSplit:
    """Where each class is cut.

    Attributes:
        target: the column.
        borders: of the strata, where the target is a number: a number belongs to the first border that is not below it.
        cuts: by stratum, the first bin that validates and the first that tests.
        other: the same, for rows whose class was not counted.
    """

    target: str
    borders: tuple[float, ...] | None
    cuts: Mapping[str, tuple[int, int]]
    other: tuple[int, int]

    def parts(self, table: pa.Table, hashes: Words | None = None) -> Part:
        """Return the parts."""
        codes, names = _strata(table.column(self.target), self.borders)
        cuts = np.array([*(self.cuts.get(name, self.other) for name in names), self.other])[codes]
        bins = _bins(places(table, (), hashes))
        return (bins >= cuts[:, 0]).astype(np.int8) + (bins >= cuts[:, 1]).astype(np.int8)


def plan_strata(target: str, by_number: bool, shares: tuple[float, float], look: Look) -> StratifiedSplit:
    """Return the split that looks once at all rows.

    Args:
        by_number: the target is a number.
        shares: of the rows, which train, and which train or validate.

    Raises:
        DataError: a target that is a number has no value in any row.
    """
    other = round(shares[0] * BINS), round(shares[1] * BINS)
    if not by_number:
        counts: dict[str, Counts] = {}
        for names, codes, bins, rows in look(None, _CountClasses(target)):
            for code, name in enumerate(names):
                here = codes == code
                np.add.at(counts.setdefault(name, np.zeros(BINS, dtype=np.int64)), bins[here], rows[here])
        cuts = {name: _cuts(name, each, shares) for name, each in counts.items() if each.any()}
        return StratifiedSplit(target, None, cuts, other)
    pairs = list(look(None, _Numbers(target)))
    numbers, bins = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    if not len(numbers):
        raise DataError(f"target '{target}' has no value in any row: there is nothing to balance the parts by.")
    ends = [math.ceil(len(numbers) * tenth / TENTHS) - 1 for tenth in range(1, TENTHS)]
    borders = tuple(np.unique(np.sort(numbers)[ends]).tolist())
    strata = np.searchsorted(borders, numbers)
    cuts = {
        str(place): _cuts(str(place), np.bincount(bins[strata == place], minlength=BINS), shares)
        for place in np.unique(strata).tolist()
    }
    return StratifiedSplit(target, borders, cuts, other)


def _cuts(name: str, counts: Counts, shares: tuple[float, float]) -> tuple[int, int]:
    """Return the first bins of valid and test: whole rows nearest to the shares.

    What is over after whole rows is rounded up in some classes and down in others, by the hash of the name: rounding
    all the same way would take the test part from a hundred classes of three rows. One row always trains.
    """
    chance = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big") / 2.0**56
    sums = np.concatenate([[0], np.cumsum(counts)])
    train, valid = (_nearest(sums, max(math.floor(sums[-1] * share + chance), 1)) for share in shares)
    return train, valid


def _nearest(sums: Counts, rows: int) -> int:
    """Return the bin before which the number of rows is nearest to the one that is wanted, and not none."""
    place = int(np.searchsorted(sums, rows))
    below = int(sums[place - 1])
    return place - 1 if below and rows - below < sums[place] - rows else place


@dataclass(frozen=True, slots=True)
class _CountClasses:
    """Gives the names of the classes and, by class and bin, how many rows there are: three arrays."""

    target: str

    def __call__(self, table: pa.Table) -> tuple[tuple[str, ...], Counts, Counts, Counts]:
        codes, names = _strata(table.column(self.target), None)
        known = codes >= 0
        pairs, rows = np.unique(codes[known].astype(np.int64) * BINS + _bins(places(table))[known], return_counts=True)
        return names, pairs // BINS, pairs % BINS, rows


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Gives the numbers of the rows that have one, and their bins."""

    target: str

    def __call__(self, table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        values = arrow_values.numbers(table.column(self.target))
        known = ~(values.missing | values.wrong)
        return values.data[known], _bins(places(table))[known]


def _strata(array: pa.ChunkedArray, borders: tuple[float, ...] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return each row's place among the strata, -1 where its target has no usable value, and their names."""
    if borders is None:
        values = arrow_values.levels(array)
        return np.maximum(values.codes, -1), values.texts
    values = arrow_values.numbers(array)
    codes = np.searchsorted(borders, values.data)
    codes[values.missing | values.wrong] = -1
    return codes, tuple(str(place) for place in range(len(borders) + 1))


def _bins(places: NDArray[np.float64]) -> NDArray[np.int16]:
    return (places * BINS).astype(np.int16)
