"""Which data it was: rows and a content digest of the whole and of each part, from sums that merge in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayline.features.hashing import mix
from rayline.features.splits.split import PARTS

SECOND = np.uint64(0xD1B54A32D192ED03)  # gives a digest its second, independent sum
REST = len(PARTS)  # the place of rows that are in no part: in a gap between two, or set aside
NONE = (0,) * (REST + 1)


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What one part of the data is: its rows, and 32 hex digits over their content, whatever their order."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class RowSums:
    """Rows of each part and of the rest, and two sums of their hashes modulo 2**64.

    Merging is exact and takes any order.
    """

    rows: tuple[int, ...] = NONE
    first: tuple[int, ...] = NONE
    second: tuple[int, ...] = NONE

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], parts: NDArray[np.integer]) -> RowSums:
        """Return the sums of some rows.

        Args:
            hashes: uint64 (n,), of ``row_hashes`` over all columns of the source.
            parts: (n,) places in ``PARTS``; any other number means no part.
        """
        chosen = [parts == number for number in range(REST)]
        chosen.append(~np.logical_or.reduce(chosen))
        whole, again = mix(hashes), mix(hashes ^ SECOND)
        return cls(
            tuple(int(np.count_nonzero(each)) for each in chosen),
            tuple(int(whole[each].sum(dtype=np.uint64)) for each in chosen),
            tuple(int(again[each].sum(dtype=np.uint64)) for each in chosen),
        )

    def merged(self, other: RowSums) -> RowSums:
        """Return the sums of both sets of rows together."""
        return RowSums(
            tuple(ours + theirs for ours, theirs in zip(self.rows, other.rows, strict=True)),
            tuple((ours + theirs) % 2**64 for ours, theirs in zip(self.first, other.first, strict=True)),
            tuple((ours + theirs) % 2**64 for ours, theirs in zip(self.second, other.second, strict=True)),
        )

    def digest(self, names: Iterable[str]) -> str:
        """Return 32 hex digits over all rows' content and the columns' names; how they are divided changes nothing.

        Rows that are in no part count too: this is the content of the source.
        """
        return _digest(sum(self.rows), sum(self.first) % 2**64, sum(self.second) % 2**64, names)

    def parts(self, names: Iterable[str]) -> dict[str, PartFacts]:
        """Return what each part is, by its name: equal rows under equal names give equal digests."""
        named = tuple(names)
        sums = zip(PARTS, self.rows[:REST], self.first[:REST], self.second[:REST], strict=True)
        return {part: PartFacts(rows, _digest(rows, first, second, named)) for part, rows, first, second in sums}


def _digest(rows: int, first: int, second: int, names: Iterable[str]) -> str:
    text = f"{rows} {first:016x} {second:016x} {sorted(names)!r}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
