"""Arrays scaled element by element, with the same arithmetic for a column of them and for one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.seam import LARGEST, Filler, read
from rayline.features.reading.arrow_values import rule
from rayline.features.reading.batch import Batch
from rayline.features.reading.tensor_values import one_array
from rayline.features.scales import FARTHEST

NUMBERS = 1 << 17  # scaled at a time: the double-precision intermediates stay in the processor's cache


@dataclass(frozen=True, slots=True)
class ArrayColumn:
    """The elements of an array, each as ``(value - mean) / std``; a missing array is zeros.

    Attributes:
        kind: ``vector`` or ``image``, as which the raw column is read.
        shape: of each row's array.
        means, stds: one for each place along the last axes of the array: for all elements, for the channels or one.
        bound: the numbers are cut to it on both sides.
    """

    kind: str
    name: str
    source: str
    shape: tuple[int, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    bound: float

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name[place]`` from 0; ``name[row,column,channel]`` where there are several axes."""
        places = product(*(range(length) for length in self.shape))
        return tuple(f"{self.name}[{','.join(map(str, place))}]" for place in places)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        values = batch.values(self.source, self.kind)  # type: ignore[arg-type]
        means, stds = self._scales()
        rows = max(NUMBERS // max(len(means), 1), 1)
        for start in range(0, len(out), rows):
            part = values.data[start : start + rows].astype(np.float64)
            out[start : start + rows] = self._scaled(part, means, stds)
        if values.gaps:
            out[values.missing] = 0.0

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        source, shape, end, rule_of_it = self.source, self.shape, offset + math.prod(self.shape), self.rule
        means, stds = self._scales()

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            numbers = read(lambda value: one_array(value, shape), row[source], source, rule_of_it)
            if numbers is not None:
                out[offset:end] = self._scaled(numbers, means, stds).tolist()

        return fill

    @property
    def rule(self) -> str:
        """What a value must be."""
        return rule(self.kind, self.shape)

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "source": self.source,
            "shape": list(self.shape),
            "means": list(self.means),
            "stds": list(self.stds),
            "bound": self.bound,
        }

    @classmethod
    def restored(cls, raw: Mapping[str, Any]) -> ArrayColumn:
        """Return the column of ``to_json``'s values."""
        shape, means, stds = (tuple(raw[name]) for name in ("shape", "means", "stds"))
        return cls(raw["kind"], raw["name"], raw["source"], shape, means, stds, raw["bound"])

    def _scales(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and deviation of every element: float64 (size,)."""
        times = math.prod(self.shape) // max(len(self.means), 1)
        return np.tile(np.array(self.means), times), np.tile(np.array(self.stds), times)

    def _scaled(
        self, numbers: NDArray[np.float64], means: NDArray[np.float64], stds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = np.clip((numbers - means) / stds, -self.bound, self.bound)
        return scaled


def standardised(means: tuple[float, ...], deviations: tuple[float, ...]) -> dict[str, Any]:
    """Return the settings of a column whose elements get mean 0 and deviation 1, and 0 where nothing varies."""
    return {"means": means, "stds": tuple(each if each > 0 else 1.0 for each in deviations), "bound": FARTHEST}


def divided(by: float) -> dict[str, Any]:
    """Return the settings of a column whose elements are divided by a number."""
    return {"means": (0.0,), "stds": (by,), "bound": LARGEST}
