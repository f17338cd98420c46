"""Optimizer and schedule of the ready loop. The schedule is a function of the step alone: it has no state to lose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rayline.config import TrainConfig
from rayline.errors import ConfigError

RISE = 0.3
START, END = 1 / 25, 1 / 25e4
"""Of ``one_cycle``, as in ``torch.optim.lr_scheduler.OneCycleLR``: the share of its rise, its first and last rate."""


def build_optimizer(module: nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """Return the configured optimizer over the weights that learn.

    Its fused kernel is taken where there is one: a step of a small network takes a third of the time.

    Raises:
        ConfigError: no weight of the module learns.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if not weights:
        raise ConfigError("the model has no weights that learn: none of its parameters has requires_grad.")
    rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    fused = {"fused": True} if _fusible(weights) else {}
    kinds: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adamw": lambda: torch.optim.AdamW(weights, **rates, **fused),
        "adam": lambda: torch.optim.Adam(weights, **rates, **fused),
        "sgd": lambda: torch.optim.SGD(weights, **rates, momentum=settings.momentum, **fused),
        "rmsprop": lambda: torch.optim.RMSprop(weights, **rates, foreach=True),
    }
    return kinds[settings.optimizer]()


def rate_at(step: int, total: int, settings: TrainConfig) -> float:
    """Return the learning rate of a step.

    After a linear rise over the first ``warmup`` of all steps: ``constant`` stays, ``linear`` falls towards 0, and
    ``cosine`` falls along half a wave (Loshchilov and Hutter 2017, without restarts). ``one_cycle`` (Smith and Topin
    2018) rises from a 25th to ``learning_rate`` along half a wave, over ``warmup`` or 0.3 of all steps, and falls
    along another to a 250,000th.

    Args:
        step: from 0, counted over all epochs.
        total: steps of all epochs.
        settings: ``schedule``, ``warmup`` and ``learning_rate``.
    """
    if settings.schedule == "one_cycle":
        return settings.learning_rate * _one_cycle(step, total, settings.warmup or RISE)
    warm = round(settings.warmup * total)
    if step < warm:
        return settings.learning_rate * ((step + 1) / warm)
    done = (step - warm) / max(1, total - warm)
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - done)
    if settings.schedule == "cosine":
        return settings.learning_rate * _wave(1.0, 0.0, done)
    return settings.learning_rate


def steady(settings: TrainConfig) -> bool:
    """Return whether every step has the same learning rate."""
    return settings.schedule == "constant" and not settings.warmup


class Stepper:
    """Takes the optimizer's steps: clears, sets the rate, clips.

    Args:
        optimizer: of ``build_optimizer``.
        settings: ``clip_norm`` and the schedule.
        steps: the optimizer's steps in one epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: TrainConfig, steps: int) -> None:
        self.optimizer = optimizer
        self._settings = settings
        self._steps = steps
        self._weights: list[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]

    def begin(self) -> None:
        """Take rate and decay from the configuration, whatever a checkpoint's optimizer had."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.learning_rate
            group["weight_decay"] = self._settings.weight_decay

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of an epoch's step; epochs count from 1, steps from 0."""
        return rate_at((epoch - 1) * self._steps + step, self._settings.epochs * self._steps, self._settings)

    def clear(self) -> None:
        """Forget the gradients."""
        for weight in self._weights:
            weight.grad = None

    def take(self, epoch: int, step: int) -> None:
        """Take one step with the gradients that are there."""
        if not steady(self._settings):
            rate = self.rate(epoch, step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        if self._settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._weights, self._settings.clip_norm)
        self.optimizer.step()


def _one_cycle(step: int, total: int, rise: float) -> float:
    top = rise * total - 1
    if step <= top:
        return _wave(START, 1.0, step / top if top > 0 else 1.0)
    return _wave(1.0, END, (step - top) / (total - 1 - top))


def _wave(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))


def _fusible(weights: Sequence[Tensor]) -> bool:
    return all(weight.is_floating_point() and weight.device.type in ("cpu", "cuda") for weight in weights)


def grouped(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """Give the items in lists of ``size``, the last of what is left."""
    some: list[Any] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
