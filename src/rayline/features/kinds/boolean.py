"""A boolean as 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.seam import Feature, Filler, Kind, Observed, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.batch import Batch


@dataclass(frozen=True, slots=True)
class BooleanColumn:
    """0 or 1; a missing value becomes the share of true rows in the training part."""

    name: str
    source: str
    fill: float
    kind: str = "boolean"

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
        values = batch.values(self.source, "boolean")
        out[:, 0] = np.where(values.missing, self.fill, values.data)

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        source, missing = self.source, self.fill

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[source]
            if value is True or value is False:
                out[offset] = float(value)
            else:
                found = read(canonical.truth, value, source, RULES["boolean"])
                out[offset] = missing if found is None else float(found)

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {"kind": self.kind, "name": self.name, "source": self.source, "fill": self.fill}


def _finish(feature: Feature, observed: Observed) -> BooleanColumn:
    column = feature.input.name
    return BooleanColumn(feature.name, column, observed.columns[column].moments.mean)


def _restore(raw: Mapping[str, Any]) -> BooleanColumn:
    return BooleanColumn(raw["name"], raw["source"], raw["fill"])


KIND = Kind("boolean", _finish, _restore)
