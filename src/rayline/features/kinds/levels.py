"""A level as one number: its place in the natural order, its index for an embedding, or how often it occurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.seam import Feature, Filler, Kind, Observed
from rayline.features.kinds.vocabulary import kept_levels, levels_of, setting_of, slot_reader, slots_of
from rayline.features.reading.batch import Batch
from rayline.features.reading.canonical import level_order


@dataclass(frozen=True, slots=True)
class LevelColumn:
    """One number for each kept level, one for all others and one for a missing value."""

    name: str
    source: str
    encode: str
    levels: tuple[str, ...]
    numbers: tuple[float, ...]
    unknown: float
    missing: float
    kind: str = "categorical"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The feature's own name."""
        return (self.name,)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        table = np.array([*self.numbers, self.unknown, self.missing])
        out[:, 0] = table[slots_of(batch.values(self.source, "categorical"), self.levels)]

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        slot_of, table = slot_reader(self.source, self.levels), (*self.numbers, self.unknown, self.missing)

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            out[offset] = table[slot_of(row)]

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "encode": self.encode,
            "name": self.name,
            "source": self.source,
            "levels": list(self.levels),
            "numbers": list(self.numbers),
            "unknown": self.unknown,
            "missing": self.missing,
        }


def _ordinal(feature: Feature, observed: Observed) -> LevelColumn:
    levels = sorted(kept_levels(feature, observed), key=level_order)
    return _column(feature, levels, range(len(levels)), unknown=-1, missing=-2)


def _index(feature: Feature, observed: Observed) -> LevelColumn:
    levels = kept_levels(feature, observed)
    return _column(feature, levels, range(2, len(levels) + 2), unknown=1, missing=0)


def _frequency(feature: Feature, observed: Observed) -> LevelColumn:
    """Give a level its share of all training rows, and a missing value the share of rows without a value."""
    state, counts = observed.columns[feature.input.name], levels_of(feature, observed).counts
    levels, rows = kept_levels(feature, observed), max(state.rows, 1)
    shares = [counts[level] / rows for level in levels]
    return _column(feature, levels, shares, unknown=0, missing=state.missing / rows)


def _column(
    feature: Feature, levels: Sequence[str], numbers: Sequence[float], *, unknown: float, missing: float
) -> LevelColumn:
    encode, floats = setting_of(feature).encode, tuple(float(number) for number in numbers)
    return LevelColumn(feature.name, feature.input.name, encode, tuple(levels), floats, float(unknown), float(missing))


def _restore(raw: Mapping[str, Any]) -> LevelColumn:
    numbers = tuple(raw["numbers"])
    head = raw["name"], raw["source"], raw["encode"]
    return LevelColumn(*head, tuple(raw["levels"]), numbers, raw["unknown"], raw["missing"])


ORDINAL = Kind("ordinal", _ordinal, _restore)
INDEX = Kind("index", _index, _restore)
FREQUENCY = Kind("frequency", _frequency, _restore)
