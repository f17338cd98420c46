"""Every score of a task under many weightings of its rows at once: what makes a bootstrap fast.

A resample is a count for each row. Most scores are functions of a few sums over the rows, so that a thousand resamples
are one matrix product; those that rank rows sort them once and make one pass in that order for each resample. Each
gives scikit-learn's value of the resampled rows (property tests compare them).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.evaluation import kernels
from rayline.evaluation.kernels import Counts
from rayline.evaluation.scores import LIKELY, Rows, check, summing_to_one

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

Doubles = NDArray[np.float64]
Scores = dict[str, Doubles]
SLOW: dict[Task, frozenset[str]] = {
    "binary": frozenset({"roc_auc", "average_precision"}),
    "multiclass": frozenset({"roc_auc_ovr", "f1_macro", "balanced_accuracy"}),
    "regression": frozenset({"median_absolute_error"}),
}
"""The scores that rank rows or count them by class: each resample costs a pass over all rows."""


class Weighted(Protocol):
    """Scores of n rows, prepared."""

    def of(self, counts: Counts) -> Scores:
        """Return each score under each weighting, float64 (b,), NaN where undefined.

        Args:
            counts: int32 (b, units), how often each row counts, or each group of rows.
        """
        ...


def weighted(
    names: Iterable[str],
    task: Task,
    truth: NDArray[Any],
    predictions: Predictions,
    rows: Rows | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Weighted:
    """Prepare scores for many weightings.

    Args:
        names: of the scores.
        task, truth, predictions, rows: as for ``scores.score``; there is at least one row.
        groups: int64 (n,), the group of each of the rows, from 0; a count is then that of a group. None: each row
            counts for itself.

    Raises:
        ConfigError: the task has no such score.
    """
    wanted = tuple(names)
    for name in wanted:
        check(name, task)
    chosen = slice(None) if rows is None else rows
    truth, values = truth[chosen], predictions.values[chosen]
    units = _Units(len(truth), groups)
    if task == "regression":
        return _Regression(wanted, truth.astype(np.float64), values.astype(np.float64), units)
    assert predictions.probabilities is not None
    chances = summing_to_one(predictions.probabilities[chosen])
    if task == "binary":
        return _Binary(wanted, truth, values, chances[:, 1], units)
    return _Multiclass(wanted, truth, values, chances, units)


@dataclass(frozen=True, slots=True)
class _Units:
    """What a count belongs to: a row, or a group of rows."""

    rows: int
    groups: NDArray[np.int64] | None

    def sums(self, *columns: NDArray[Any]) -> Doubles:
        """Return the sums of k columns (n,) over the rows of each unit, float64 (units, k)."""
        if self.groups is None:
            return np.stack(columns, axis=1).astype(np.float64)
        return np.stack([np.bincount(self.groups, column) for column in columns], axis=1)

    def places(self, order: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the unit of each row, int64 (n,), of rows in an order."""
        places = np.arange(self.rows) if self.groups is None else self.groups
        return places if order is None else places[order]


class _Ranking:
    """Rows in falling order of a chance."""

    def __init__(self, positive: NDArray[np.bool_], chance: Doubles, units: _Units) -> None:
        order = np.argsort(-chance, kind="stable")
        falling = chance[order]
        self._last = np.concatenate((falling[1:] != falling[:-1], [True]))
        self._positive = positive[order]
        self._places = units.places(order)

    def of(self, counts: Counts) -> Doubles:
        """Return the area under the ROC curve and the average precision, float64 (2, b)."""
        return kernels.rank(counts, self._places, self._positive, self._last)


class _Binary:
    def __init__(
        self, names: tuple[str, ...], truth: NDArray[Any], values: NDArray[Any], chance: Doubles, units: _Units
    ) -> None:
        true, said = truth == 1, values == 1
        loss = -np.log(np.clip(np.where(true, chance, 1 - chance), LIKELY, 1 - LIKELY))
        self._sums = units.sums(true & said, ~true & said, true & ~said, ~true & ~said, loss, (chance - true) ** 2)
        self._names = names
        self._ranking = _Ranking(true, chance, units) if SLOW["binary"].intersection(names) else None

    def of(self, counts: Counts) -> Scores:
        hit, false_alarm, missed, passed, loss, square = (counts @ self._sums).T
        total = hit + false_alarm + missed + passed
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, specificity = hit / (hit + missed), passed / (passed + false_alarm)
            both = np.stack((recall, specificity))
            found = {
                "accuracy": (hit + passed) / total,
                "balanced_accuracy": _mean(both, ~np.isnan(both)),
                "f1": 2 * hit / (2 * hit + false_alarm + missed),
                "precision": hit / (hit + false_alarm),
                "recall": recall,
                "log_loss": loss / total,
                "brier": square / total,
            }
        if self._ranking is not None:
            found["roc_auc"], found["average_precision"] = self._ranking.of(counts)
        return {name: found[name] for name in self._names}


class _Multiclass:
    def __init__(
        self, names: tuple[str, ...], truth: NDArray[Any], values: NDArray[Any], chances: Doubles, units: _Units
    ) -> None:
        self._names = names
        right = np.take_along_axis(chances, truth[:, np.newaxis], axis=1)[:, 0]
        loss = -np.log(np.clip(right, LIKELY, 1 - LIKELY))
        self._sums = units.sums(np.ones(len(truth)), truth == values, loss, _among_three(truth, chances))
        self._classes = chances.shape[1]
        self._rows = (units.places(), truth.astype(np.int64), values.astype(np.int64))
        self._rankings = []
        if "roc_auc_ovr" in names:
            mixed = (each for each in range(self._classes) if 0 < np.count_nonzero(truth == each) < len(truth))
            self._rankings = [_Ranking(truth == each, chances[:, each], units) for each in mixed]

    def of(self, counts: Counts) -> Scores:
        total, right, loss, among = (counts @ self._sums).T
        found = {
            "accuracy": right / total,
            "log_loss": loss / total,
            "top_3_accuracy": among / total if self._classes > 3 else np.full(len(total), np.nan),
        }
        if {"f1_macro", "balanced_accuracy"}.intersection(self._names):
            true, said, hit = kernels.classes(counts, *self._rows, self._classes)
            with np.errstate(invalid="ignore", divide="ignore"):
                found["balanced_accuracy"] = _mean(hit / true, true > 0)
                found["f1_macro"] = _mean(2 * hit / (true + said), true + said > 0)
        if "roc_auc_ovr" in self._names:
            areas = [ranking.of(counts)[0] for ranking in self._rankings]
            table = np.stack(areas) if areas else np.full((1, len(total)), np.nan)
            found["roc_auc_ovr"] = _mean(table, ~np.isnan(table))
        return {name: found[name] for name in self._names}


class _Regression:
    def __init__(self, names: tuple[str, ...], truth: Doubles, values: Doubles, units: _Units) -> None:
        self._names = names
        error = values - truth
        size = np.abs(error)
        centred = truth - truth.mean()  # so that no digits are lost in a difference of large sums
        square = centred**2 if np.ptp(truth) > 0 else np.full(len(truth), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = size / np.abs(truth) if truth.all() else np.full(len(truth), np.nan)
        self._sums = units.sums(np.ones(len(truth)), error, size, error**2, relative, centred, square)
        order = np.argsort(size, kind="stable")
        self._places, self._rising = units.places(order), size[order]

    def of(self, counts: Counts) -> Scores:
        total, error, size, square, relative, first, second = (counts @ self._sums).T
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = second - first**2 / total
            spread = np.where(spread > 1e-12 * second, spread, np.nan)
            found = {
                "rmse": np.sqrt(square / total),
                "mae": size / total,
                "mape": relative / total,
                "r2": 1 - square / spread,
                "bias": error / total,
            }
        if "median_absolute_error" in self._names:
            found["median_absolute_error"] = kernels.median(counts, self._places, self._rising)
        return {name: found[name] for name in self._names}


def _among_three(truth: NDArray[Any], chances: Doubles) -> NDArray[np.bool_]:
    """Tell whether the true class is among the three likeliest, bool (n,); of equal chances the later class leads."""
    if chances.shape[1] <= 3:
        return np.zeros(len(truth), dtype=bool)
    likeliest = np.argsort(chances, axis=1, kind="stable")[:, -3:]
    return np.asarray((likeliest == truth[:, np.newaxis]).any(axis=1))


def _mean(table: Doubles, counted: NDArray[np.bool_]) -> Doubles:
    """Return the mean over the classes (k, b) that count, float64 (b,); NaN where none does."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counted, table, 0.0).sum(axis=0) / counted.sum(axis=0))
