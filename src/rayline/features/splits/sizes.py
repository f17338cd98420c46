"""How many rows each part of a split has, and which share of them each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.features.reading import arrow_values
from rayline.features.splits.split import LEFT_OUT, PARTS, Part

if TYPE_CHECKING:
    import pyarrow as pa

Three = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """Counts of some rows. Merging is exact and takes any order.

    Attributes:
        rows: rows of train, valid and test.
        left_out: rows in a gap before a border.
        classes: for a classification, rows of each class in train, valid and test.
    """

    rows: Three = (0, 0, 0)
    left_out: int = 0
    classes: Mapping[str, Three] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Part, target: pa.ChunkedArray | None = None) -> SplitSizes:
        """Count the parts, and the classes of a target where one is given."""
        left_out = int(np.count_nonzero(parts == LEFT_OUT))
        return cls(_three(parts), left_out, {} if target is None else _classes(parts, target))

    def merged(self, other: SplitSizes) -> SplitSizes:
        """Return the counts of both sets of rows together."""
        classes = dict(self.classes)
        for name, counts in other.classes.items():
            classes[name] = _sum(classes.get(name, (0, 0, 0)), counts)
        return SplitSizes(_sum(self.rows, other.rows), self.left_out + other.left_out, classes)

    @property
    def total(self) -> int:
        """All rows, those left out too."""
        return sum(self.rows) + self.left_out

    def by_part(self) -> dict[str, int]:
        """Return the rows of each part by its name."""
        return dict(zip(PARTS, self.rows, strict=True))

    def shares(self) -> dict[str, dict[str, float]]:
        """Return, by part, the share of its rows that each class has (0 to 1); empty for a regression."""
        if not self.classes:
            return {}
        return {
            part: {name: counts[place] / max(self.rows[place], 1) for name, counts in sorted(self.classes.items())}
            for place, part in enumerate(PARTS)
        }

    def line(self) -> str:
        """Return the sizes as people read them: ``700 train, 150 valid, 150 test; 12 left out by the gap``."""
        parts = ", ".join(f"{rows:,} {part}" for part, rows in self.by_part().items())
        return parts + (f"; {self.left_out:,} left out by the gap" if self.left_out else "")

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        classes = {name: list(counts) for name, counts in sorted(self.classes.items())}
        return {"rows": list(self.rows), "left_out": self.left_out, "classes": classes}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SplitSizes:
        """Return the counts of ``to_json``'s values."""
        train, valid, test = raw["rows"]
        classes: dict[str, Three] = {name: (each[0], each[1], each[2]) for name, each in raw["classes"].items()}
        return cls((train, valid, test), raw["left_out"], classes)


def _three(parts: Part) -> Three:
    train, valid, test = (int(np.count_nonzero(parts == place)) for place in range(len(PARTS)))
    return train, valid, test


def _sum(ours: Three, theirs: Three) -> Three:
    return ours[0] + theirs[0], ours[1] + theirs[1], ours[2] + theirs[2]


def _classes(parts: Part, target: pa.ChunkedArray) -> dict[str, Three]:
    values = arrow_values.levels(target)
    known = (values.codes >= 0) & (parts >= 0)
    places = values.codes[known].astype(np.int64) * len(PARTS) + parts[known]
    counts = np.bincount(places, minlength=len(values.texts) * len(PARTS)).reshape(-1, len(PARTS)).tolist()
    return {name: (each[0], each[1], each[2]) for name, each in zip(values.texts, counts, strict=True) if any(each)}
