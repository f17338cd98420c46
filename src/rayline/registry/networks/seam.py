"""What every network of a bundle is to those who ask it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Network(Protocol):
    """Maps the network's input, float32 (n, inputs), to its output, float64 (n, outputs)."""

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float64]: ...
