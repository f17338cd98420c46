"""Count, mean, deviation and bounds of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rayline.errors import SchemaError
from rayline.features.sketches.exact import exact_sums
from rayline.features.sketches.seam import readable


@readable
@dataclass(frozen=True, slots=True)
class Moments:
    """Count, exact sums and bounds of some finite numbers.

    The sums are of the distances from ``center``, a constant near the numbers that is chosen before any is seen: the
    squares then lose nothing to cancellation.

    Attributes:
        total: exact sum of ``value - center``, each rounded to a double.
        squares: exact sum of the squares of these, each rounded to a double.
    """

    kind: ClassVar[str] = "moments"

    center: float = 0.0
    count: int = 0
    total: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def of(cls, values: NDArray[Any], center: float = 0.0) -> Moments:
        """Return the moments of numbers, each up to 1e100 in size."""
        if not len(values):
            return cls(center)
        doubles = np.ascontiguousarray(values, dtype=np.float64)
        sums = exact_sums(doubles, center)
        # Zero has two signs, and which of them is the smallest would depend on the order.
        return cls(center, len(doubles), *sums, float(doubles.min()) + 0.0, float(doubles.max()) + 0.0)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of numbers together. Raises ``SchemaError`` for another centre."""
        if self.center != other.center:
            raise SchemaError(
                f"moments around {self.center!r} and around {other.center!r} cannot be merged: fit with one schema."
            )
        return Moments(
            self.center,
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float:
        """The mean; 0 where there are no numbers."""
        return float(Fraction(self.center) + self.total / self.count) if self.count else 0.0

    @property
    def std(self) -> float:
        """The population standard deviation; 0 where there are no numbers."""
        if not self.count:
            return 0.0
        variance = self.squares / self.count - (self.total / self.count) * (self.total / self.count)
        return math.sqrt(max(float(variance), 0.0))

    @property
    def varies(self) -> bool:
        """Whether there are two different numbers."""
        return self.minimum < self.maximum

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        bounds = [self.minimum, self.maximum] if self.count else None
        return {
            "kind": self.kind,
            "center": self.center,
            "count": self.count,
            "total": str(self.total),
            "squares": str(self.squares),
            "bounds": bounds,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Moments:
        """Return the moments of ``to_json``'s values."""
        minimum, maximum = raw["bounds"] or (math.inf, -math.inf)
        total, squares = Fraction(raw["total"]), Fraction(raw["squares"])
        return cls(raw["center"], raw["count"], total, squares, minimum, maximum)
