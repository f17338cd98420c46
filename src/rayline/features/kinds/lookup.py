"""Numbers for each level, by a table that was made elsewhere: what a fitted encoder of another library becomes.

It is no kind that a configuration declares: ``features/bridges`` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError, RowError
from rayline.features.kinds.seam import Feature, Filler, FittedColumn, Kind, Observed, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.batch import Batch

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LookupColumn:
    """The numbers of a level.

    Attributes:
        suffixes: one text per output, which follows the feature's name.
        table: the outputs by canonical level.
        unknown: the outputs of any other level; None refuses the row.
        missing: the outputs of a missing value; None refuses the row.
    """

    name: str
    source: str
    suffixes: tuple[str, ...]
    table: Mapping[str, Numbers] = field(repr=False)
    unknown: Numbers | None
    missing: Numbers | None
    kind: str = "lookup"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The feature's name and each suffix."""
        return tuple(f"{self.name}{suffix}" for suffix in self.suffixes)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        values = batch.values(self.source, "categorical")
        numbers = [self.table.get(text, self.unknown) for text in values.texts]
        known = np.array([*(each is not None for each in numbers), self.missing is not None])
        if not known[values.codes].all():
            row = int(np.argmin(known[values.codes]))
            raise self._refused(row, batch.table.column(self.source)[row].as_py())
        blank = (0.0,) * len(self.suffixes)
        lookup = np.array([each or blank for each in (*numbers, self.missing)], dtype=np.float64)
        out[:] = lookup[values.codes]

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        source, find, unknown, missing = self.source, self.table.get, self.unknown, self.missing
        end, refused = offset + len(self.suffixes), self._refused

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            text = read(canonical.level_text, row[source], source, RULES["categorical"])
            numbers = missing if text is None else find(text, unknown)
            if numbers is None:
                raise refused(0, row[source])
            out[offset:end] = numbers

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "source": self.source,
            "suffixes": list(self.suffixes),
            "levels": list(self.table),
            "numbers": [list(each) for each in self.table.values()],
            "unknown": None if self.unknown is None else list(self.unknown),
            "missing": None if self.missing is None else list(self.missing),
        }

    def _refused(self, row: int, value: object) -> RowError:
        return RowError(row, self.source, value, "is not one of the levels that the encoder was fitted on")


def _finish(feature: Feature, observed: Observed) -> FittedColumn:
    raise ConfigError(f"features.columns.{feature.name}: a lookup is made from a fitted encoder, not declared.")


def _restore(raw: Mapping[str, Any]) -> LookupColumn:
    table = {level: tuple(numbers) for level, numbers in zip(raw["levels"], raw["numbers"], strict=True)}
    unknown, missing = (None if raw[key] is None else tuple(raw[key]) for key in ("unknown", "missing"))
    return LookupColumn(raw["name"], raw["source"], tuple(raw["suffixes"]), table, unknown, missing)


KIND = Kind("lookup", _finish, _restore)
