"""A level of several, one output for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.seam import MISSING, UNKNOWN, Feature, Filler, Kind, Observed, Writer, mark, read
from rayline.features.kinds.vocabulary import is_int, kept_levels, slots_of
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.batch import Batch
from rayline.features.reading.canonical import level_order


@dataclass(frozen=True, slots=True)
class OneHotColumn:
    """One output per level, one for levels that the fit has not kept, one for missing values."""

    name: str
    source: str
    levels: tuple[str, ...]
    kind: str = "categorical"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name=level`` for each level, then ``name=<unknown>`` and ``name=<missing>``."""
        return tuple(f"{self.name}={level}" for level in (*self.levels, UNKNOWN, MISSING))

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        self.writer(batch)(slice(None), out)

    def writer(self, batch: Batch) -> Writer:
        """Return what writes some rows of a batch."""
        places = slots_of(batch.values(self.source, "categorical"), self.levels)
        if batch.compiled:
            from rayline.features.kernels import write_marks

            return lambda rows, out: write_marks(places[rows], out)
        return lambda rows, out: mark(out, places[rows])

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        # The commonest encoding reads its level in place: a call for each would cost a third more.
        source, unknown = self.source, offset + len(self.levels)
        slots = {level: offset + slot for slot, level in enumerate(self.levels)}
        by_text, by_int = slots.get, {int(text): slot for text, slot in slots.items() if is_int(text)}.get

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[source]
            slot = by_text(value) if value.__class__ is str else by_int(value) if value.__class__ is int else None
            if slot is None:
                text = read(canonical.level_text, value, source, RULES["categorical"])
                slot = unknown + 1 if text is None else by_text(text, unknown)
            out[slot] = 1.0

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "encode": "one_hot",
            "name": self.name,
            "source": self.source,
            "levels": list(self.levels),
        }


def _finish(feature: Feature, observed: Observed) -> OneHotColumn:
    levels = sorted(kept_levels(feature, observed), key=level_order)
    return OneHotColumn(feature.name, feature.input.name, tuple(levels))


def _restore(raw: Mapping[str, Any]) -> OneHotColumn:
    return OneHotColumn(raw["name"], raw["source"], tuple(raw["levels"]))


ENCODING = Kind("one_hot", _finish, _restore)
