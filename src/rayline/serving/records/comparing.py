"""Two versions' answers to the same rows, compared row by row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

AGREED_SHARE = 0.01  # of the target's deviation


@dataclass(frozen=True, slots=True)
class Compared:
    """n rows compared.

    Attributes:
        agreed: bool (n,): the same label, or values at most a hundredth of the target's deviation apart.
        distance: float64 (n,): total variation between the probabilities, half the sum of their absolute differences,
            0 to 1; of a regression the absolute difference, in the target's units.
    """

    agreed: NDArray[np.bool_]
    distance: NDArray[np.float64]


def compared(answered: Predictions, mirrored: Predictions, deviation: float) -> Compared | None:
    """Compare what was answered with what another version says, both finite; None where one of them is a regression.

    Classes that only one of the versions knows have probability 0 with the other.

    Args:
        answered, mirrored: of the same n rows.
        deviation: of the target in training, in its units.
    """
    if answered.labels is None and mirrored.labels is None:
        distance = np.abs(answered.values - mirrored.values)
        return Compared(distance <= AGREED_SHARE * deviation, distance)
    if answered.probabilities is None or mirrored.probabilities is None or not answered.labels or not mirrored.labels:
        return None
    classes = tuple(dict.fromkeys((*answered.labels, *mirrored.labels)))
    one, other = _spread(answered, classes), _spread(mirrored, classes)
    place = {label: index for index, label in enumerate(classes)}
    theirs = np.array([place[label] for label in mirrored.labels])[mirrored.values]
    return Compared(answered.values == theirs, np.abs(one - other).sum(axis=1) / 2)


def _spread(predictions: Predictions, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return probabilities by ``classes``, which begin with the answered ones and hold all: float64 (n, classes)."""
    assert predictions.probabilities is not None
    assert predictions.labels is not None
    out = np.zeros((len(predictions), len(classes)))
    out[:, [classes.index(label) for label in predictions.labels]] = predictions.probabilities
    return out
