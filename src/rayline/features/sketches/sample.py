"""A sample of rows that does not depend on their order: those with the k smallest hashes of their content."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rayline.features.sketches.seam import readable

KEPT = 5_000

Words = NDArray[np.uint64]


@readable
@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Different rows and how often each occurs; among rows of one hash their numbers decide.

    Up to ``KEPT`` different rows the sample is the whole. Beyond it a row is kept or not whatever the number of its
    twins, and ``counts`` are exact: a mean over the sample is right on average, and far from it only where a few rows
    that are all alike make up much of a large table.

    Attributes:
        words: uint64 (m, 1 + width), at most ``KEPT`` rows in ascending order: the hash, then the bits of each number.
        counts: int64 (m,).
    """

    kind: ClassVar[str] = "sample"

    words: Words = field(default_factory=lambda: np.zeros((0, 1), dtype=np.uint64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], rows: NDArray[np.float64]) -> Sample:
        """Return the sample of some rows: uint64 (n,), the same for equal rows, and float64 (n, width), NaN allowed."""
        if len(hashes) > KEPT:
            chosen = hashes <= _largest_kept(hashes)
            hashes, rows = hashes[chosen], rows[chosen]
        rows = np.where(np.isnan(rows), np.nan, rows + 0.0)  # one NaN and one zero
        words = np.column_stack([hashes, rows.view(np.uint64)])
        return _kept(words, np.ones(len(words), dtype=np.int64))

    @property
    def rows(self) -> NDArray[np.float64]:
        """The different rows: float64 (m, width)."""
        return np.ascontiguousarray(self.words[:, 1:]).view(np.float64)

    def merged(self, other: Sample) -> Sample:
        """Return the sample of both sets of rows together."""
        if not len(self.words) or not len(other.words):
            return self if len(self.words) else other
        return _kept(np.concatenate([self.words, other.words]), np.concatenate([self.counts, other.counts]))

    def drawn(self, most: int = 20 * KEPT) -> NDArray[np.float64]:
        """Return the rows, each as often as it occurs: float64 (n, width), n about ``most`` where there are more."""
        total = int(self.counts.sum())
        times = self.counts if total <= most else np.maximum(self.counts * most // total, 1)
        return np.repeat(self.rows, times, axis=0)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        text = base64.b64encode(self.words.astype("<u8").tobytes()).decode("ascii")
        return {"kind": self.kind, "width": self.words.shape[1], "words": text, "counts": self.counts.tolist()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Sample:
        """Return the sample of ``to_json``'s values."""
        words = np.frombuffer(base64.b64decode(raw["words"]), dtype="<u8").astype(np.uint64)
        return cls(words.reshape(-1, raw["width"]), np.array(raw["counts"], dtype=np.int64))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sample)
            and np.array_equal(self.words, other.words)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]


def _largest_kept(hashes: Words) -> np.uint64:
    """Return the largest of the ``KEPT`` smallest different hashes, or of all where there are fewer."""
    few = np.unique(np.partition(hashes, 2 * KEPT)[: 2 * KEPT] if len(hashes) > 2 * KEPT else hashes)
    if len(few) < KEPT:
        few = np.unique(hashes)
    largest: np.uint64 = few[:KEPT][-1]
    return largest


def _kept(words: Words, counts: NDArray[np.int64]) -> Sample:
    if not len(words):
        return Sample(words, counts)
    different, place = np.unique(words, axis=0, return_inverse=True)
    total = np.zeros(len(different), dtype=np.int64)
    np.add.at(total, place, counts)
    return Sample(different[:KEPT], total[:KEPT])
