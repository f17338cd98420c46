"""Whether what a model says can be taken at its word: its chances against what happened, its numbers against the truth.

Rows are put in order of what the model said and divided into bins of equally many rows; equal answers stay together. In
each bin the mean of what was said is compared with the mean of what was so. The expected calibration error is the mean
distance over the rows (M. Naeini, G. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
Binning", AAAI 2015; with bins of equally many rows less biased than with bins of equal width, as in V. Nguyen and
J. O'Connor, "Posterior calibration and exploratory analysis", EMNLP 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.evaluation.scores import summing_to_one

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

Doubles = NDArray[np.float64]
BINS = 10
What = Literal["chance of the second class", "chance of the answer", "answer"]
WHAT: dict[Task, What] = {
    "binary": "chance of the second class",
    "multiclass": "chance of the answer",
    "regression": "answer",
}


@dataclass(frozen=True, slots=True)
class Bin:
    """Some rows of which the model said much the same.

    Attributes:
        least, most: of what was said.
        said: its mean: a chance, or a number in the target's unit.
        so: the share of rows that were of the class, or the mean truth.
        low, high: two-sided bounds of ``so``: Wilson's for a share, normal ones for a mean.
        rows: how many.
    """

    least: float
    most: float
    said: float
    so: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was said against what was so.

    Attributes:
        what: what was said: of two classes the chance of the second, of more that of the answered class, or a number.
        bins: from the least that was said to the most.
        error: the mean distance between said and so over the rows: the expected calibration error (ECE), or in the
            target's unit.
        largest: the largest distance of a bin.
    """

    what: What
    bins: tuple[Bin, ...]
    error: float
    largest: float


def calibration_of(
    task: Task, truth: NDArray[Any], predictions: Predictions, confidence: float = 0.95, bins: int = BINS
) -> Calibration:
    """Compare what a model said with what was so.

    Args:
        task: what was answered.
        truth: int64 (n,) class indices, or float64 (n,) in the target's own unit; n is at least 1.
        predictions: the n answers.
        confidence: of the bounds of each bin.
        bins: how many at most; equal answers stay in one.
    """
    said, so = _said(task, truth, predictions)
    order = np.argsort(said, kind="stable")
    said, so = said[order], so[order]
    starts = _starts(said, bins)
    z = -NormalDist().inv_cdf((1 - confidence) / 2)
    share = task != "regression"
    parts = zip(np.split(said, starts[1:]), np.split(so, starts[1:]), strict=True)
    made = tuple(_bin(one, two, z, share) for one, two in parts)
    apart = [abs(each.said - each.so) for each in made]
    error = sum(each.rows * distance for each, distance in zip(made, apart, strict=True)) / len(said)
    return Calibration(WHAT[task], made, error, max(apart))


def _said(task: Task, truth: NDArray[Any], predictions: Predictions) -> tuple[Doubles, Doubles]:
    if task == "regression":
        return predictions.values.astype(np.float64), truth.astype(np.float64)
    assert predictions.probabilities is not None
    chances = summing_to_one(predictions.probabilities)
    if task == "binary":
        return chances[:, 1], (truth == 1).astype(np.float64)
    answered = np.take_along_axis(chances, predictions.values[:, np.newaxis], axis=1)[:, 0]
    return answered, (truth == predictions.values).astype(np.float64)


def _starts(said: Doubles, bins: int) -> list[int]:
    """Return the first row of each bin of rising answers; a bin begins where an answer first occurs."""
    wanted = np.arange(bins) * len(said) // bins
    return [int(each) for each in np.unique(np.searchsorted(said, said[wanted], side="left"))]


def _bin(said: Doubles, so: Doubles, z: float, share: bool) -> Bin:
    rows, mean = len(said), float(so.mean())
    if share:
        low, high = wilson(mean, rows, z)
    else:
        reach = z * float(so.std(ddof=1)) / math.sqrt(rows) if rows > 1 else math.nan
        low, high = mean - reach, mean + reach
    return Bin(float(said[0]), float(said[-1]), float(said.mean()), mean, low, high, rows)


def wilson(share: float, rows: int, z: float) -> tuple[float, float]:
    """Return the score interval of a share (E. Wilson, JASA 22, 1927): bounds at z standard errors, within 0 and 1."""
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return max(0.0, middle - reach), min(1.0, middle + reach)
