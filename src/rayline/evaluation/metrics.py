"""The held-out evaluation: what a bundle answers, against the truth, on all rows and by slice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import EvaluateConfig, Task
from rayline.errors import DataError
from rayline.evaluation.calibration import Calibration, calibration_of
from rayline.evaluation.infrastructure import Infrastructure
from rayline.evaluation.intervals import Interval, bootstrap
from rayline.evaluation.scores import row_losses, score, scores_of
from rayline.evaluation.slices import Slice, named_slices
from rayline.evaluation.threshold import Threshold, threshold_of
from rayline.evaluation.worst import Worst, worst_slices

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.predictor import Predictions, Predictor


@dataclass(frozen=True, slots=True)
class SliceScores:
    """A slice and how good the answers are there.

    Attributes:
        slice: its name and rows.
        scores: by name, with intervals; one that these rows leave undefined is absent.
        worst: how much worse it is than the other rows, of a slice that was found; None of one that was named.
    """

    slice: Slice
    scores: Mapping[str, Interval]
    worst: Worst | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Answers and truth for n rows, and what they amount to.

    Attributes:
        task: what was answered.
        classes: in the order of their indices; none for a regression.
        metrics: by name; one that these rows leave undefined (the AUC of one class only) is absent.
        rows: n.
        predictions: what the bundle answered.
        truth: int64 (n,) class indices, or float64 (n,) in the target's own units.
        intervals: of the metrics, two-sided at ``confidence``.
        confidence: of all intervals here.
        slices: the named ones, then the worst ones that were found.
        calibration: whether the answers can be taken at their word.
        threshold: a suggestion for a binary task; None of others, or where none was asked for.
        infrastructure: what the bundle does in a process of its own; None where that was not tried.
    """

    task: Task
    classes: tuple[str, ...]
    metrics: dict[str, float]
    rows: int
    predictions: Predictions
    truth: NDArray[Any]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    confidence: float = 0.95
    slices: tuple[SliceScores, ...] = ()
    calibration: Calibration | None = None
    threshold: Threshold | None = None
    infrastructure: Infrastructure | None = None

    @property
    def worst(self) -> tuple[SliceScores, ...]:
        """The slices that were found to be worse than the other rows, the worst first."""
        return tuple(each for each in self.slices if each.worst is not None)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A part as the features step left it: float32 (n, width), and the target as the training sees it."""

    features: NDArray[np.float32]
    target: NDArray[Any]


def evaluate(
    predictor: Predictor,
    table: pa.Table,
    config: EvaluateConfig | None = None,
    valid: Matrix | None = None,
    dropped: Iterable[str] = (),
) -> Evaluation:
    """Measure a bundle as it will be served.

    Args:
        predictor: of the bundle.
        table: raw rows with the input columns and the target.
        config: slices, bootstrap, threshold; None takes the defaults.
        valid: the validation part, on which the threshold of a binary task is chosen; without it there is none.
        dropped: columns that are no inputs. Of these no numbers are searched for worst slices: they are identifiers, or
            give the target away.

    Returns:
        Every score of ``scores.scores_of(task)`` that these rows define, on all rows and by slice, with intervals.

    Raises:
        DataError: the table has no rows, or the bundle's answer to some row is not finite.
        SchemaError: the table lacks an input column or the target.
        RowError: a value has the wrong type, or a target is missing or no known class.
        ConfigError: a slice is of a column that the table does not have, or that cannot be divided.
    """
    asked = config or EvaluateConfig()
    features = predictor.features
    truth = truth_of(features, table)
    predictions = answers(predictor, table)
    task = features.task
    values = {name: score(name, task, truth, predictions) for name in scores_of(task)}
    return Evaluation(
        task,
        features.classes,
        {name: value for name, value in values.items() if not np.isnan(value)},
        table.num_rows,
        predictions,
        truth,
        _intervals(task, truth, predictions, asked),
        asked.confidence,
        _slices(task, table, truth, predictions, asked, {features.schema.target, *_numbers(table, dropped)}),
        calibration_of(task, truth, predictions, asked.confidence),
        _threshold(predictor, truth, predictions, asked, valid),
    )


def truth_of(features: FittedFeatureSet, table: pa.Table) -> NDArray[Any]:
    """Return the truth of raw rows: int64 (n,) class indices, or float64 (n,) in the target's own units.

    Raises:
        DataError: the table has no rows.
        SchemaError: the table lacks the target.
        RowError: a target is missing or no known class.
    """
    if table.num_rows == 0:
        raise DataError("the test part has no rows. Raise data.split.test, or give more data.")
    truth: NDArray[Any] = features.encode_target(table)
    return _own_units(table, features.schema.target) if features.task == "regression" else truth


def answers(predictor: Predictor, table: pa.Table) -> Predictions:
    """Return what a bundle answers to raw rows.

    Raises:
        DataError: an answer is not finite.
        SchemaError: the table lacks an input column.
        RowError: a value has the wrong type.
    """
    predictions = predictor.predict_table(table)
    unusable = int(np.count_nonzero(~predictions.finite))
    if unusable:
        raise DataError(
            f"the model's answer is not a finite number for {unusable} of {table.num_rows} test rows."
            " Train again with a lower train.learning_rate."
        )
    return predictions


def _own_units(table: pa.Table, target: str) -> NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(table.column(target).cast(pa.float64()).to_numpy(), dtype=np.float64)


def _intervals(
    task: Task,
    truth: NDArray[Any],
    predictions: Predictions,
    config: EvaluateConfig,
    rows: NDArray[np.int64] | None = None,
) -> dict[str, Interval]:
    return bootstrap(
        scores_of(task),
        task,
        truth,
        predictions,
        rows,
        resamples=config.bootstrap,
        confidence=config.confidence,
    )


def _numbers(table: pa.Table, names: Iterable[str]) -> list[str]:
    import pyarrow as pa

    held = {field.name: field.type for field in table.schema}
    return [
        name for name in names if name in held and (pa.types.is_integer(held[name]) or pa.types.is_floating(held[name]))
    ]


def _slices(
    task: Task,
    table: pa.Table,
    truth: NDArray[Any],
    predictions: Predictions,
    config: EvaluateConfig,
    leave_out: set[str],
) -> tuple[SliceScores, ...]:
    named = named_slices(table, config)
    worst = worst_slices(table, row_losses(task, truth, predictions), config, leave_out)
    pairs: list[tuple[Slice, Worst | None]] = [(each, None) for each in named]
    pairs += [(each.slice, each) for each in worst]
    return tuple(
        SliceScores(each, _intervals(task, truth, predictions, config, each.rows), found) for each, found in pairs
    )


def _threshold(
    predictor: Predictor,
    truth: NDArray[Any],
    predictions: Predictions,
    config: EvaluateConfig,
    valid: Matrix | None,
) -> Threshold | None:
    if predictor.features.task != "binary" or valid is None or config.threshold == "none":
        return None
    return threshold_of((valid.target, predictor.predict_matrix(valid.features)), (truth, predictions), config)
