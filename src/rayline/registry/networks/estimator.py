"""An estimator of scikit-learn as a bundle's network: read under a list of our own, its trees checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.libraries.scikit import outputs_of
from rayline.libraries.scikit_kept import checked


@dataclass(frozen=True, slots=True)
class EstimatorNetwork:
    """Gives the logarithms of an estimator's probabilities, or the standardised value. See ``Network``."""

    estimator: Any
    task: Task
    outputs: int

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float64]:
        return outputs_of(self.estimator, matrix, self.task, self.outputs)

    @classmethod
    def from_skops(cls, content: bytes, inputs: int, outputs: int, task: Task, place: str) -> EstimatorNetwork:
        """Return the network of a skops file; ``place`` names it in messages.

        Raises:
            BundleError: the file is damaged, holds what may not load, or does not fit the features or the task.
        """
        return cls(checked(content, inputs, task, outputs, place), task, outputs)
