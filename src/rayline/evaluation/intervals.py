"""Bootstrap confidence intervals of scores, and of the difference of two models on the same rows.

Rows are drawn with replacement, as many as there are, and the bounds are the bias-corrected and accelerated ones (BCa:
B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987). Percentile bounds err on one side for a skewed score
such as a log loss or an area near 1; BCa bounds are right to the second order on each side by itself, which a one-sided
test needs. The acceleration comes from a jackknife that leaves out each row, or each of ``LEFT_OUT`` groups of rows.

Two things keep large parts fast. Beyond ``UNITS`` rows, rows are dealt at random to so many groups, and groups are
drawn: the mean of m rows spreads as ``1 / sqrt(m)`` of one, so the interval keeps its width. And a score that ranks
rows, or counts them by class, costs a pass over all of them for each resample: beyond ``PASSES`` rows in all, ``FEW``
resamples give a standard error, for which they are enough (B. Efron and R. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 6), and the bounds are the normal ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.errors import UsageError
from rayline.evaluation import kernels
from rayline.evaluation.kernels import Counts
from rayline.evaluation.scores import SCORES, Rows
from rayline.evaluation.weighted import SLOW, Scores, weighted

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

Doubles = NDArray[np.float64]
UNITS = 20_000
PASSES = 200_000_000
FEW = 200
LEFT_OUT = 200
CELLS = 1_000_000  # counts at a time: bounds the intermediates to about 20 MB
_NORMAL = NormalDist()
LEAST_DEFINED = 0.5  # a score that more resamples leave undefined has no interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with two-sided bounds, in the score's own unit; NaN bounds where there are none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, slots=True)
class Difference:
    """The score of a first model minus that of a second, on the same rows.

    Attributes:
        value: of all rows; NaN where either is undefined.
        low, high: one-sided bounds, each by itself at the confidence: the difference is above ``low`` with this
            confidence, and below ``high`` with this confidence. NaN where there are none.
        rows: on how many rows.
    """

    value: float
    low: float
    high: float
    rows: int


def bootstrap(
    names: Iterable[str],
    task: Task,
    truth: NDArray[Any],
    predictions: Predictions,
    rows: Rows | None = None,
    *,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return scores with their two-sided intervals; one that these rows leave undefined is absent.

    Args:
        names: of the scores.
        task, truth, predictions, rows: as for ``scores.score``.
        resamples: how many, at least 100.
        confidence: of each interval, between 0 and 1.
        seed: of the resamples; the same seed gives the same bounds.

    Raises:
        ConfigError: the task has no such score.
        UsageError: ``resamples`` or ``confidence`` is out of range.
    """
    _check(resamples, confidence)
    tail = (1 - confidence) / 2
    found: dict[str, Interval] = {}
    for share, draws in _turns(names, task, _passes(truth, predictions, rows), resamples):
        groups = _groups(_count(truth, rows), seed)
        prepared = weighted(share, task, truth, predictions, rows, groups)
        for name, spread in _spreads(share, prepared.of, _width(_count(truth, rows)), draws, resamples, seed).items():
            if math.isnan(spread.value):
                continue
            low, high = spread.bounds(tail, resamples)
            if low == high:
                low, high = _unseen(name, spread.value, task, truth, rows, tail)
            found[name] = Interval(spread.value, low, high)
    return {name: found[name] for name in SCORES if name in found}


def paired(
    name: str,
    task: Task,
    truth: NDArray[Any],
    first: Predictions,
    second: Predictions,
    rows: Rows | None = None,
    *,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return the score of ``first`` minus that of ``second``, both on the same rows and the same resamples.

    Two models err on much the same rows, so that the difference is known far better than either score.

    Args:
        name: of the score.
        task, truth, rows: as for ``scores.score``.
        first, second: the answers of two models to the same n rows.
        resamples, seed: as for ``bootstrap``.
        confidence: of each of the two one-sided bounds.

    Raises:
        ConfigError, UsageError: as ``bootstrap``; or the models did not answer equally many rows.
    """
    _check(resamples, confidence)
    if len(first) != len(second):
        raise UsageError(f"two models are compared on the same rows; they answered {len(first)} and {len(second)}.")
    count = _count(truth, rows)
    if not count:
        return Difference(math.nan, math.nan, math.nan, 0)
    groups = _groups(count, seed)
    one, two = (weighted([name], task, truth, answers, rows, groups) for answers in (first, second))

    def difference(counts: Counts) -> Scores:
        return {name: one.of(counts)[name] - two.of(counts)[name]}

    [(_, draws)] = _turns([name], task, 2 * _passes(truth, first, rows), resamples)
    spread = _spreads([name], difference, _width(count), draws, resamples, seed)[name]
    low, high = spread.bounds(1 - confidence, resamples)
    return Difference(spread.value, low, high, count)


@dataclass(frozen=True, slots=True)
class _Spread:
    """What resamples and the jackknife gave for one score."""

    value: float
    resampled: Doubles
    left_out: Doubles

    def bounds(self, tail: float, asked: int) -> tuple[float, float]:
        """Return the bounds that leave ``tail`` below and above; normal ones where fewer were drawn than asked."""
        drawn = self.resampled[np.isfinite(self.resampled)]
        if math.isnan(self.value) or len(drawn) < max(2, LEAST_DEFINED * len(self.resampled)):
            return math.nan, math.nan
        if np.ptp(drawn) == 0 and drawn[0] == self.value:
            return self.value, self.value
        if len(self.resampled) < asked:
            reach = -_NORMAL.inv_cdf(tail) * float(drawn.std(ddof=1))
            return self.value - reach, self.value + reach
        places = [self._place(drawn, each) for each in (tail, 1 - tail)]
        low, high = np.quantile(drawn, places)
        return float(low), float(high)

    def _place(self, drawn: Doubles, share: float) -> float:
        """Return which quantile of the resamples is the bound at ``share``: Efron's equation for BCa."""
        below = (np.count_nonzero(drawn < self.value) + np.count_nonzero(drawn <= self.value)) / (2 * len(drawn))
        if not 0 < below < 1:
            return share
        shift, acceleration = _NORMAL.inv_cdf(below), self._acceleration()
        moved = shift + _NORMAL.inv_cdf(share)
        rest = 1 - acceleration * moved
        return _NORMAL.cdf(shift + moved / rest) if rest > 0 else share

    def _acceleration(self) -> float:
        left = self.left_out[np.isfinite(self.left_out)]
        apart = left.mean() - left if len(left) else left
        square = float((apart**2).sum())
        return float((apart**3).sum()) / (6 * square**1.5) if square > 0 else 0.0


def _spreads(
    names: Iterable[str], score: Callable[[Counts], Scores], width: int, draws: int, asked: int, seed: int
) -> dict[str, _Spread]:
    whole = score(np.ones((1, width), dtype=np.int32))
    resampled = _collected(score, _resamples(width, draws, seed))
    accelerated = draws == asked  # normal bounds need no acceleration
    left_out = _collected(score, _leaving_out(width)) if accelerated else dict.fromkeys(names, np.empty(0))
    return {name: _Spread(float(whole[name][0]), resampled[name], left_out[name]) for name in names}


def _collected(score: Callable[[Counts], Scores], batches: Iterable[Counts]) -> Scores:
    parts = [score(counts) for counts in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _resamples(width: int, draws: int, seed: int) -> Iterator[Counts]:
    """Give counts of units drawn with replacement, in batches of int32 (b, width)."""
    random = np.random.default_rng(seed)
    batch = max(1, CELLS // width)
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        yield kernels.count(random.integers(0, width, size=(size, width), dtype=np.uint32), width)


def _leaving_out(width: int) -> Iterator[Counts]:
    """Give counts that leave out each unit, or each of ``LEFT_OUT`` groups of units, in batches."""
    owner = np.random.default_rng(0).permutation(width) % min(width, LEFT_OUT)
    batch = max(1, CELLS // width)
    for start in range(0, min(width, LEFT_OUT), batch):
        each = np.arange(start, min(start + batch, width, LEFT_OUT))
        yield (owner != each[:, np.newaxis]).astype(np.int32)


def _turns(names: Iterable[str], task: Task, passes: int, resamples: int) -> list[tuple[list[str], int]]:
    """Return which scores are resampled how often: the slow ones less often where a pass is long."""
    wanted = list(names)
    if not passes:
        return []
    slow = [name for name in wanted if name in SLOW[task]]
    if passes * resamples <= PASSES or not slow or resamples <= FEW:
        return [(wanted, resamples)]
    rest = [name for name in wanted if name not in SLOW[task]]
    return [(rest, resamples), (slow, FEW)] if rest else [(slow, FEW)]


def _groups(rows: int, seed: int) -> NDArray[np.int64] | None:
    if rows <= UNITS:
        return None
    return np.random.default_rng(seed).permutation(rows) % UNITS


def _width(rows: int) -> int:
    return min(rows, UNITS)


def _count(truth: NDArray[Any], rows: Rows | None) -> int:
    return len(truth) if rows is None else len(rows)


def _passes(truth: NDArray[Any], predictions: Predictions, rows: Rows | None) -> int:
    """Return how many rows one resample of a slow score passes: of three or more classes, all for each."""
    classes = len(predictions.labels or ())
    return _count(truth, rows) * (classes if classes > 2 else 1)


def _unseen(
    name: str, value: float, task: Task, truth: NDArray[Any], rows: Rows | None, tail: float
) -> tuple[float, float]:
    """Return the bounds where all resamples agree: a share without a single error says nothing of rare errors.

    The chance to see none in m rows is ``tail`` where one in ``1 - tail ** (1 / m)`` is wrong: the bound of Clopper and
    Pearson (Biometrika 26, 1934) for no errors; m is the rows of the rarest class, to be on the safe side.
    """
    score = SCORES[name]
    if task == "regression" or score.unit != "share" or value not in (0.0, 1.0):
        return value, value
    counts = np.bincount(truth if rows is None else truth[rows])
    reach = 1 - tail ** (1 / int(counts[counts > 0].min()))
    return (1 - reach, 1.0) if value == 1 else (0.0, reach)


def _check(resamples: int, confidence: float) -> None:
    if resamples < 100:
        raise UsageError(f"{resamples} resamples are too few for an interval; take at least 100.")
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence of {confidence:g} must lie between 0 and 1, for instance 0.95.")
