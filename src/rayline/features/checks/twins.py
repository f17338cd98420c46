"""Values that occur more than once, from the hashes of all: exact for 2 million of them, beyond it an estimate.

Every hash below a bound is kept, and the bound halves while more than ``MOST`` are. Copies have one hash, so they are
kept or left out together; the bound that a whole needs is never higher than that of its parts, so merging is free of
order. Two different values share a hash of 64 bits once in millions of tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 21  # hashes kept: 32 MiB with their row numbers. Relative standard error beyond: under 0.1 % of the rows

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Again:
    """A value that was there before: its row, and the row that had it first."""

    row: int
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class Twins:
    """Hashes (uint64) with the rows (int64, from 0) they were found in, in pieces that follow one another.

    Attributes:
        halvings: the bound is 2 ** (64 - halvings).
    """

    halvings: int = 0
    pieces: tuple[tuple[Words, Rows], ...] = ()

    @classmethod
    def of(cls, hashes: Words, rows: Rows | None = None) -> Twins:
        """Return the hashes of some rows; the rows count from 0 where their numbers are not given."""
        numbers = np.arange(len(hashes), dtype=np.int64) if rows is None else rows
        return _bounded(0, ((hashes, numbers),))

    def merged(self, other: Twins, offset: int) -> Twins:
        """Return these followed by others, whose rows count from ``offset`` on."""
        shifted = tuple((hashes, rows + offset) for hashes, rows in other.pieces)
        return _bounded(max(self.halvings, other.halvings), (*self.pieces, *shifted))

    @property
    def exact(self) -> bool:
        """Whether ``copies`` is no estimate."""
        return self.halvings == 0

    def copies(self, examples: int = 0) -> tuple[int, tuple[Again, ...]]:
        """Return how many rows hold what an earlier row held, and the first such rows."""
        if not self.pieces:
            return 0, ()
        hashes = np.concatenate([each for each, _ in self.pieces])
        ordered = np.sort(hashes)
        count = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
        if not count or not examples:
            return count << self.halvings, ()
        rows = np.concatenate([each for _, each in self.pieces])
        order = np.argsort(hashes, kind="stable")  # rows ascend already
        hashes, rows = hashes[order], rows[order]
        again = np.zeros(len(hashes), dtype=np.bool_)
        again[1:] = hashes[1:] == hashes[:-1]
        starts = np.maximum.accumulate(np.where(again, 0, np.arange(len(hashes))))
        found = np.flatnonzero(again)
        found = found[np.argsort(rows[found], kind="stable")[:examples]]
        told = tuple(Again(int(rows[each]), int(rows[starts[each]])) for each in found)
        return count << self.halvings, told


def _bounded(halvings: int, pieces: tuple[tuple[Words, Rows], ...]) -> Twins:
    if halvings:
        pieces = _below(halvings, pieces)
    while sum(len(hashes) for hashes, _ in pieces) > MOST:
        halvings += 1
        pieces = _below(halvings, pieces)
    return Twins(halvings, pieces)


def _below(halvings: int, pieces: tuple[tuple[Words, Rows], ...]) -> tuple[tuple[Words, Rows], ...]:
    bound = np.uint64((1 << (64 - halvings)) - 1)
    kept = [(hashes, rows, hashes <= bound) for hashes, rows in pieces]
    return tuple((hashes[mask], rows[mask]) for hashes, rows, mask in kept)
