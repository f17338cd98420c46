"""Estimators of scikit-learn: which one a configuration names, and what it answers as a network would."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import ModelConfig, Task
from rayline.errors import ConfigError, suggestion
from rayline.model import imported

LEAST = 1e-15
"""The least probability that a logarithm is taken of, as scikit-learn's own log loss had it for long."""

MODULES = tuple(
    f"sklearn.{name}."
    for name in (
        *("calibration", "cross_decomposition", "discriminant_analysis", "dummy", "ensemble", "gaussian_process"),
        *("kernel_ridge", "linear_model", "multiclass", "naive_bayes", "neural_network", "svm", "tree"),
    )
)
"""Where the estimators lie that are kept: they answer by arrays under NumPy's own checks, or by checked trees."""

UNKEPT = frozenset({"SVC", "NuSVC", "OneClassSVM", "SVR", "NuSVR"})
"""Those of libsvm, whose compiled code trusts what a file says about their memory; so do the search trees of
neighbours, whose module is not among the above."""

OURS: Mapping[str, str] = {
    "random_state": "train.seed decides it",
    "class_weight": "train.class_weights decides it",
    "warm_start": "it is set where the estimator can learn in steps",
    "early_stopping": "train.patience ends a training early, by the validation part",
    "n_iter_no_change": "train.patience ends a training early, by the validation part",
    "validation_fraction": "data.split.valid decides the validation part",
}
MANY_ROWS = 4_096
FORESTS = frozenset(f"{name}{kind}" for name in ("RandomForest", "ExtraTrees") for kind in ("Classifier", "Regressor"))
FIXED: Mapping[str, Any] = {"early_stopping": False}


def estimator_for(model: ModelConfig, task: Task | None, *, seed: int) -> Any:
    """Return the estimator that ``model.builder`` names, not fitted, with its options and the seed.

    With a task of None its kind is not looked at.

    Raises:
        ConfigError: there is no such estimator, it is for another task, gives no probabilities, or refuses an option.
    """
    made = imported(model.builder)
    if not (isinstance(made, type) and hasattr(made, "fit") and hasattr(made, "get_params")):
        raise ConfigError(f"model.builder '{model.builder}' is no estimator of scikit-learn: no class with fit().")
    module, _, name = model.builder.partition(":")
    if not f"{module}.".startswith(MODULES) or name in UNKEPT:
        raise ConfigError(
            f"model.builder '{model.builder}' cannot be kept without pickle in a way that is safe to load. "
            "Choose an estimator of sklearn.ensemble, sklearn.linear_model, sklearn.neural_network or sklearn.tree."
        )
    _refuse_options(model, made)
    try:
        estimator = made(**model.options)
    except TypeError as error:
        raise ConfigError(f"model.options do not fit {model.builder}: {error}.") from error
    if task is not None:
        _refuse_kind(model, estimator, task)
    known = estimator.get_params(deep=False)
    ours = {"random_state": seed, **FIXED}
    estimator.set_params(**{name: value for name, value in ours.items() if name in known})
    _refuse_values(model, estimator)
    if task in ("binary", "multiclass") and not hasattr(estimator, "predict_proba"):
        raise ConfigError(
            f"model.builder '{model.builder}' gives no probabilities with these options, and a classification is "
            "served with them. Choose another loss (SGDClassifier: loss: log_loss), or another estimator, such as "
            "sklearn.linear_model:LogisticRegression."
        )
    return estimator


def outputs_of(estimator: Any, matrix: NDArray[np.float32], task: Task, outputs: int) -> NDArray[np.float64]:
    """Return what a network would give: float64 (n, outputs).

    The logarithms of the probabilities of a classification (of two classes their difference), where a class that the
    estimator has never seen has ``LEAST``; the standardised value of a regression.
    """
    import sklearn

    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True), threads_for(len(matrix)):
        found = _answers(estimator, matrix, task)
    if task == "regression":
        return np.asarray(found, dtype=np.float64).reshape(len(matrix), 1)
    shares = np.full((len(matrix), max(outputs, 2)), LEAST)
    shares[:, estimator.classes_.astype(np.int64)] = found
    logits: NDArray[np.float64] = np.log(np.maximum(shares, LEAST))
    return logits if outputs > 1 else logits[:, 1:] - logits[:, :1]


def threads_for(rows: int, most: int | None = None) -> AbstractContextManager[Any]:
    """Return a context in which scikit-learn's loops and products take one thread where there are few rows.

    To share out a single row over a busy machine's processors took 50 times as long as to answer it.
    """
    limit = 1 if rows < MANY_ROWS else most
    return nullcontext() if limit is None else _pools().limit(limits=limit)


@cache
def _pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _answers(estimator: Any, matrix: NDArray[np.float32], task: Task) -> Any:
    """Return the probabilities, (n, classes that it has seen), or the values, (n,)."""
    if type(estimator).__name__ in FORESTS:
        # What scikit-learn does too, but that it starts a task for each tree, which takes 20 times as long for a row.
        total = estimator.estimators_[0].tree_.predict(matrix)
        for tree in estimator.estimators_[1:]:
            total = total + tree.tree_.predict(matrix)
        return total / len(estimator.estimators_)
    doubles = matrix.astype(np.float64)
    return estimator.predict(doubles) if task == "regression" else estimator.predict_proba(doubles)


def _refuse_options(model: ModelConfig, made: Any) -> None:
    known = sorted(made._get_param_names())
    for name in model.options:
        if name in OURS:
            raise ConfigError(f"model.options.{name} of {model.builder} cannot be set: {OURS[name]}.")
        if name not in known:
            raise ConfigError(f"model.options: {model.builder} has no '{name}'. {suggestion(name, known)}")


def _refuse_kind(model: ModelConfig, estimator: Any, task: Task) -> None:
    from sklearn.base import is_classifier, is_regressor

    if is_regressor(estimator) if task == "regression" else is_classifier(estimator):
        return
    kind = "a classifier" if is_classifier(estimator) else "a regressor" if is_regressor(estimator) else "neither"
    needed = "regressor" if task == "regression" else "classifier"
    raise ConfigError(
        f"model.builder '{model.builder}' is {kind}, and a {task} task needs a {needed}. "
        f"Use {_counterpart(model.builder, needed)}."
    )


def _counterpart(builder: str, needed: str) -> str:
    """Return the estimator of the same method for the other kind of task where there is one, else a good one."""
    import importlib

    module, _, name = builder.partition(":")
    other = (
        name.replace("Classifier", "Regressor") if needed == "regressor" else name.replace("Regressor", "Classifier")
    )
    if other != name and hasattr(importlib.import_module(module), other):
        return f"{module}:{other}"
    return f"sklearn.ensemble:HistGradientBoosting{needed.title()}"


def _refuse_values(model: ModelConfig, estimator: Any) -> None:
    """Refuse values that scikit-learn would refuse in ``fit``, which begins much later."""
    try:
        if hasattr(estimator, "_validate_params"):
            estimator._validate_params()
    except ValueError as error:
        raise ConfigError(f"model.options of {model.builder}: {error}") from error
