"""Standardisation of numbers, the same for an array and for one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayline.features.sketches import Moments

FARTHEST = 1e6  # standard deviations; what lies beyond is cut, so that no network overflows


@dataclass(frozen=True, slots=True)
class Scale:
    """Standardisation ``(value - mean) / std``, cut to ``bound`` on both sides."""

    mean: float = 0.0
    std: float = 1.0
    bound: float = FARTHEST

    @classmethod
    def standard(cls, moments: Moments) -> Scale:
        """Return the scale that gives numbers mean 0 and deviation 1; numbers that do not vary become 0."""
        return cls(moments.mean, moments.std if moments.varies and moments.std > 0 else 1.0)

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale an array of doubles."""
        return np.clip((values - self.mean) / self.std, -self.bound, self.bound)

    def one(self, value: float) -> float:
        """Scale one number."""
        return min(max((value - self.mean) / self.std, -self.bound), self.bound)
