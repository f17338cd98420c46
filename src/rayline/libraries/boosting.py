"""XGBoost: the one place that imports it, what its options may be, and what its booster answers as a network would."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import ModelConfig, Task
from rayline.errors import ConfigError, EnvironmentFailed, suggestion

OBJECTIVES: dict[Task, tuple[str, ...]] = {
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
    "regression": ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"),
}
"""The objectives whose margin is a logit, or the value itself; the first of a task is its default."""

# https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html: those of the tree booster, and their other names.
PARAMETERS = frozenset(
    {
        *("num_boost_round", "objective", "eta", "learning_rate", "gamma", "min_split_loss", "max_depth"),
        *("min_child_weight", "max_delta_step", "subsample", "sampling_method", "colsample_bytree"),
        *("colsample_bylevel", "colsample_bynode", "lambda", "reg_lambda", "alpha", "reg_alpha", "tree_method"),
        *("scale_pos_weight", "refresh_leaf", "grow_policy", "max_leaves", "max_bin", "num_parallel_tree"),
        *("monotone_constraints", "interaction_constraints", "base_score", "huber_slope", "verbosity"),
        *("max_cached_hist_node", "extmem_single_page"),
    }
)
OURS = {
    "seed": "train.seed decides it",
    "random_state": "train.seed decides it",
    "nthread": "it is what the machine gives",
    "n_jobs": "it is what the machine gives",
    "device": "train.use_gpu decides it",
    "num_class": "the schema's classes decide it",
    "n_estimators": "its name here is num_boost_round",
    "eval_metric": "train.metric decides it",
    "early_stopping_rounds": "train.patience ends a training early, in epochs",
    "booster": "only gbtree can be served, and it is the default",
}
ROUNDS = 100  # the default of XGBoost's own estimators
DRAWN = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")


def xgboost() -> Any:
    """Return the module. Raises ``EnvironmentFailed`` where it is not installed."""
    try:
        import xgboost as module
    except ImportError as error:
        raise EnvironmentFailed(
            f"a model of XGBoost needs its package, which cannot be imported ({error}): pip install 'rayline[xgboost]'."
        ) from error
    return module


def parameters_for(model: ModelConfig, task: Task | None, classes: int) -> dict[str, Any]:
    """Return XGBoost's parameters of a configuration, ``num_boost_round`` left out.

    Raises:
        ConfigError: there is no such parameter, or it does not fit the task; the message names the nearest.
    """
    for name in model.options:
        if name in OURS:
            raise ConfigError(f"model.options.{name} of xgboost cannot be set: {OURS[name]}.")
        if name not in PARAMETERS:
            raise ConfigError(f"model.options: xgboost has no '{name}'. {suggestion(name, PARAMETERS)}")
    fitting = OBJECTIVES[task] if task else tuple(each for known in OBJECTIVES.values() for each in known)
    objective = model.options.get("objective", fitting[0])
    if objective not in fitting:
        raise ConfigError(
            f"model.options.objective '{objective}' does not fit {f'a {task}' if task else 'any'} task. "
            f"Take {' or '.join(fitting)}."
        )
    rounds = model.options.get("num_boost_round", ROUNDS)
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise ConfigError(f"model.options.num_boost_round must be a whole number of at least 1, not {rounds!r}.")
    chosen = {name: value for name, value in model.options.items() if name != "num_boost_round"}
    many = {"num_class": classes} if task == "multiclass" else {}
    return {"verbosity": 0, "booster": "gbtree", **chosen, "objective": objective, **many}


def draws(parameters: dict[str, Any]) -> bool:
    """Whether chance has a part in a training: rows or columns are sampled."""
    return any(float(parameters.get(name, 1)) < 1 for name in DRAWN)


def outputs_of(booster: Any, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the margins of float32 (n, inputs) without a threshold or a link: float64 (n, outputs)."""
    found: NDArray[np.float64] = np.asarray(booster.inplace_predict(matrix, predict_type="margin"), dtype=np.float64)
    return found.reshape(len(matrix), -1)
