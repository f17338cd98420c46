"""Estimators of scikit-learn. Where one can learn in steps, an epoch is a step; else one fit is the one epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError, TrainingFailed
from rayline.libraries import scikit_kept
from rayline.libraries.scikit import estimator_for, outputs_of, threads_for
from rayline.training.context import TrainContext
from rayline.training.families.measuring import class_weights, epoch_metrics, refuse_unusable
from rayline.training.metrics import measure
from rayline.training.spec import TrainResult, TrainSpec

ESTIMATOR = "model.skops"
ENSEMBLES = "sklearn.ensemble."
TREES = ("n_estimators", "max_iter")  # how the ensembles call the number of their trees, or stages


@dataclass(frozen=True, slots=True)
class Course:
    """How an estimator learns.

    Attributes:
        kind: ``trees``, a chunk of them an epoch; ``passes``, one over all rows an epoch; ``once``.
        epochs: how many it has.
        parameter: of ``trees``, what it calls their number.
        trees: how many there are in the end.
    """

    kind: Literal["trees", "passes", "once"]
    epochs: int
    parameter: str = ""
    trees: int = 0

    @classmethod
    def of(cls, estimator: Any, spec: TrainSpec) -> Course:
        """Return the course of an estimator that is not fitted.

        Trees are shared out evenly over ``train.epochs``. Their number is the option's; without one the estimator's own
        default, or an epoch's worth of one where there are more epochs.
        """
        known, epochs = estimator.get_params(deep=False), spec.train.epochs
        parameter = next((name for name in TREES if name in known), "")
        if "warm_start" in known and parameter and type(estimator).__module__.startswith(ENSEMBLES):
            trees = known[parameter]
            if parameter not in spec.model.options:
                trees = max(trees, epochs)
            return cls("trees", min(epochs, trees), parameter, trees)
        if hasattr(estimator, "partial_fit") and "max_iter" in known:
            return cls("passes", epochs)
        return cls("once", 1)


def fit_estimator(context: TrainContext) -> TrainResult:
    """Train an estimator, keeping the best epoch's. See ``families.fit`` for what is raised."""
    spec, place = context.spec, context.place
    refuse_unusable(context)
    estimator = estimator_for(spec.model, spec.task, seed=spec.train.seed)
    course = Course.of(estimator, spec)
    x, y = context.data.train[0].astype(np.float64), _target(context)
    extra = _weighed(estimator, spec, y)

    def save(folder: Path) -> None:
        (folder / ESTIMATOR).write_bytes(scikit_kept.packed(estimator, spec.model.builder))

    def load(folder: Path) -> None:
        nonlocal estimator
        estimator = scikit_kept.unpacked((folder / ESTIMATOR).read_bytes(), f"checkpoint '{folder}'")

    context.resume(load)
    while not context.done and context.epoch < course.epochs:
        with _told(spec), _jobs(estimator, place.threads), threads_for(len(x), place.threads):
            _learn(estimator, course, context.epoch + 1, spec, (x, y, extra))
        outputs, valid = (_outputs(estimator, part[0], spec) for part in (context.data.train, context.data.valid))
        loss = measure(spec.task, outputs, context.data.train[1], spec.target_std)["loss"]
        context.report(epoch_metrics(context, loss, valid), save)
    return context.result()


def _learn(estimator: Any, course: Course, epoch: int, spec: TrainSpec, rows: tuple[Any, Any, dict[str, Any]]) -> None:
    x, y, extra = rows
    if course.kind == "trees":
        estimator.set_params(**{course.parameter: course.trees * epoch // course.epochs, "warm_start": True})
    if course.kind != "passes":
        estimator.fit(x, y, **extra)
        return
    # Each pass draws anew and by its number alone, so that a training that was resumed draws the same.
    estimator.set_params(random_state=(spec.train.seed * 1_000_003 + epoch) % 2**32)
    classes = {} if spec.task == "regression" else {"classes": np.unique(y)}
    estimator.partial_fit(x, y, **classes, **extra)


def _outputs(estimator: Any, matrix: NDArray[np.float32], spec: TrainSpec) -> NDArray[np.float64]:
    return outputs_of(estimator, matrix, spec.task, spec.outputs)


def _target(context: TrainContext) -> NDArray[Any]:
    truth = context.data.train[1]
    return truth.astype(np.float64) if context.spec.task == "regression" else truth


def _weighed(estimator: Any, spec: TrainSpec, truth: NDArray[Any]) -> dict[str, Any]:
    """Give the estimator its class weights where it takes them; else return the weight of each row, for ``fit``."""
    from sklearn.utils.validation import has_fit_parameter

    weights = class_weights(spec, truth)
    if weights is None:
        return {}
    if "class_weight" in estimator.get_params(deep=False):
        estimator.set_params(class_weight=weights)
        return {}
    if not has_fit_parameter(estimator, "sample_weight"):
        raise ConfigError(f"model.builder '{spec.model.builder}' knows no weights: leave train.class_weights out.")
    return {"sample_weight": np.array([weights[each] for each in range(len(spec.classes))])[truth]}


@contextmanager
def _jobs(estimator: Any, threads: int) -> Iterator[None]:
    """Let the fit have this many processors, and keep an estimator that takes one: see ``scikit_kept``."""
    known = estimator.get_params(deep=False)
    if "n_jobs" not in known or not type(estimator).__module__.startswith(ENSEMBLES):
        yield
        return
    estimator.set_params(n_jobs=known["n_jobs"] or threads)
    yield
    estimator.set_params(n_jobs=None)


@contextmanager
def _told(spec: TrainSpec) -> Iterator[None]:
    """Say in our own words why a fit failed, and leave out what scikit-learn says of one that we have cut up."""
    from sklearn.exceptions import ConvergenceWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield
    except (ValueError, TypeError, np.linalg.LinAlgError) as error:
        raise TrainingFailed(f"model.builder '{spec.model.builder}' cannot be fitted: {error}") from error
