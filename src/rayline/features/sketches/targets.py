"""Sums of the target by level and fold, exact: what a cross-fitted target encoding is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rayline.errors import SchemaError
from rayline.features.sketches import limbs
from rayline.features.sketches.levels import CAPACITY
from rayline.features.sketches.limbs import CHUNK, LIMB, pieces
from rayline.features.sketches.seam import readable

ABSENT, OTHERS = 0, 1  # the first two places: rows without a level, and levels that were let go
FEWEST = 1_000

Whole = NDArray[np.int64]


@readable
@dataclass(frozen=True, slots=True, eq=False)
class TargetSums:
    """Rows and sums of the target, for each level and fold.

    Beyond ``CAPACITY`` levels (fewer where the target has several columns) the rarest go into one place for all, so
    that the totals stay exact; which ones may then depend on the order of merging.

    Attributes:
        names: of the target's columns: ``("",)``, or the classes.
        texts: the levels, in any order; they stand from place 2 on.
        counts: int64 (places, folds).
        low: the sums are in units of 2 ** (32 * low).
        sums: int64 (places, folds, columns, limbs), the limbs from the least on.
    """

    kind: ClassVar[str] = "target_sums"

    names: tuple[str, ...]
    texts: tuple[str, ...]
    counts: Whole
    low: int
    sums: Whole

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        codes: NDArray[Any],
        folds: NDArray[Any],
        target: NDArray[np.float64],
        names: tuple[str, ...],
        number: int,
    ) -> TargetSums:
        """Return the sums of some rows.

        Args:
            texts: the levels.
            codes: places in ``texts``, -1 where a row has none.
            folds: of each row, from 0 to below ``number``.
            target: float64 (n, columns), finite, up to 1e100 in size.
        """
        places = len(texts) + 2
        shape = places, number
        cells = np.where(codes < 0, ABSENT, codes.astype(np.int64) + 2) * number + folds.astype(np.int64)
        counts = np.bincount(cells, minlength=places * number).astype(np.int64).reshape(shape)
        found: dict[int, Whole] = {}
        for column in range(len(names)):
            for start in range(0, len(cells), CHUNK):
                part = slice(start, start + CHUNK)
                for limb, piece in pieces(target[part, column]):
                    sums = found.setdefault(limb, np.zeros((places * number, len(names)), dtype=np.int64))
                    sums[:, column] += np.bincount(cells[part], piece, places * number).astype(np.int64)
        low, sums = _stacked(found, (*shape, len(names)))
        return cls(names, tuple(texts), counts, low, sums)._bounded()

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return int(self.counts.shape[1])

    def merged(self, other: TargetSums) -> TargetSums:
        """Return the sums of both sets of rows together. Raises ``SchemaError`` for another target or other folds."""
        if self.names != other.names or self.folds != other.folds:
            raise SchemaError("sums of two targets, or of other folds, cannot be merged: fit with one configuration.")
        places = {text: place for place, text in enumerate(self.texts, 2)}
        for text in other.texts:
            places.setdefault(text, len(places) + 2)
        moved = np.array([ABSENT, OTHERS, *(places[text] for text in other.texts)])
        low = min(self.low, other.low)
        high = max(each.low + each.sums.shape[3] for each in (self, other))
        counts = np.zeros((len(places) + 2, self.folds), dtype=np.int64)
        sums = np.zeros((*counts.shape, len(self.names), high - low), dtype=np.int64)
        for each, rows in ((self, np.arange(len(self.counts))), (other, moved)):
            counts[rows] += each.counts
            sums[rows, :, :, each.low - low : each.low - low + each.sums.shape[3]] += each.sums
        return TargetSums(self.names, tuple(places), counts, low, sums)._bounded()

    def exact(self, places: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the sums as whole numbers of any size, in units of ``unit``: object (places, folds, columns)."""
        return _whole(self.sums if places is None else self.sums[places])

    def totals(self) -> NDArray[Any]:
        """Return the sums over all places, as ``exact`` does: object (folds, columns)."""
        return _whole(self.sums.sum(axis=0))

    @property
    def unit(self) -> Fraction:
        """What the whole numbers of ``exact`` count."""
        return limbs.unit(self.low)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact, the levels in the order of their texts."""
        order = sorted(range(len(self.texts)), key=self.texts.__getitem__)
        rows = [ABSENT, OTHERS, *(place + 2 for place in order)]
        return {
            "kind": self.kind,
            "names": list(self.names),
            "texts": [self.texts[place] for place in order],
            "counts": self.counts[rows].tolist(),
            "low": self.low,
            "sums": self.sums[rows].tolist(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TargetSums:
        """Return the sums of ``to_json``'s values."""
        counts, names = np.array(raw["counts"], dtype=np.int64), tuple(raw["names"])
        sums = np.array(raw["sums"], dtype=np.int64).reshape(*counts.shape, len(names), -1)
        return cls(names, tuple(raw["texts"]), counts, raw["low"], sums)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TargetSums) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def _bounded(self) -> TargetSums:
        most = max(CAPACITY // len(self.names), FEWEST)
        if len(self.texts) <= most:
            return self
        rows = self.counts[2:].sum(axis=1).tolist()
        order = sorted(range(len(self.texts)), key=lambda place: (-rows[place], self.texts[place]))
        kept, rest = ([place + 2 for place in part] for part in (order[:most], order[most:]))
        counts, sums = self.counts[[ABSENT, OTHERS, *kept]], self.sums[[ABSENT, OTHERS, *kept]]
        counts[OTHERS] += self.counts[rest].sum(axis=0)
        sums[OTHERS] += self.sums[rest].sum(axis=0)
        return TargetSums(self.names, tuple(self.texts[place] for place in order[:most]), counts, self.low, sums)


def _whole(sums: Whole) -> NDArray[Any]:
    powers = np.array([1 << (LIMB * limb) for limb in range(sums.shape[-1])], dtype=object)
    whole: NDArray[Any] = (sums.astype(object) * powers).sum(axis=-1)
    return whole


def _stacked(found: Mapping[int, Whole], shape: tuple[int, ...]) -> tuple[int, Whole]:
    """Return the least limb and all of them from it on, side by side; limb 0 is always there."""
    low, high = min([0, *found]), max([0, *found])
    sums = np.zeros((*shape, high - low + 1), dtype=np.int64)
    for limb, each in found.items():
        sums[..., limb - low] = each.reshape(shape)
    return low, sums
