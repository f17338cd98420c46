"""Who ends trials early, and after which epochs it may: a worker waits for an answer there and nowhere else.

A decision is made at the same epoch whatever the timing, so that the sampler learns the same from the same trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.config import Config, Space, TuneConfig


def most_epochs(config: Config, space: Mapping[str, Space]) -> int:
    """Return the epochs of the longest trial that the space allows."""
    epochs = space.get("train.epochs")
    if epochs is None:
        return config.train.epochs
    if epochs.when:
        return max(config.train.epochs, _most(epochs))
    return _most(epochs)


def decisions(tune: TuneConfig, longest: int) -> frozenset[int]:
    """Return the epochs after which the scheduler may end a trial.

    ``asha`` (Li et al. 2020) and ``hyperband`` (Li et al. 2018) decide at rungs, ``grace_epochs`` times a power of
    ``reduction_factor``; ``median`` (Golovin et al. 2017) after every epoch from ``grace_epochs`` on.
    """
    first = grace(tune, longest)
    if tune.scheduler == "median":
        return frozenset(range(first, longest))
    rungs = set()
    if tune.scheduler in ("asha", "hyperband"):
        while first < longest:
            rungs.add(first)
            first *= tune.reduction_factor
    return frozenset(rungs)


def grace(tune: TuneConfig, longest: int) -> int:
    """Return the epochs that every trial is given."""
    return min(tune.grace_epochs, longest)


def pruner(tune: TuneConfig, longest: int) -> Any:
    """Return Optuna's pruner for the configured scheduler."""
    import optuna.pruners

    first = grace(tune, longest)
    if tune.scheduler == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=tune.reduction_factor)
    if tune.scheduler == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=longest, reduction_factor=tune.reduction_factor
        )
    if tune.scheduler == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=first)
    return optuna.pruners.NopPruner()


STARTUP_TRIALS = 4
"""Ended trials before the median says something."""


def _most(epochs: Space) -> int:
    return int(max(epochs.choose)) if epochs.choose is not None else int(epochs.high or 1)
