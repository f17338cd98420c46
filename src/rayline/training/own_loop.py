"""``train.loop``: a training loop of your own, which keeps everything around it.

A function that gets a ``LoopContext``, in a file beside the configuration or in an installed package::

    # my_loop.py                                 # project.yaml: train: {loop: "my_loop:train_loop"}
    import torch

    def train_loop(context):
        optimizer = torch.optim.SGD(context.model.parameters(), lr=context.settings.learning_rate)
        context.checkpoint(optimizer=optimizer)  # kept with each epoch, and filled again after an interruption
        for epoch in context.epochs():           # those that are left, until patience runs out
            for x, y in context.batches():
                loss = context.loss(context.model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            context.report({"train_loss": loss, **context.validate()})

MLflow, checkpoints, early stopping, worker groups, the trials of a Study and the Bundle stay as with the ready loop.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from rayline.config import Task, TrainConfig
from rayline.errors import ConfigError, TrainingFailed, suggestion
from rayline.training.feed import Batch, shared
from rayline.training.health import check_finite
from rayline.training.session import Session
from rayline.training.snapshot import load_part

NAME = re.compile(r"[\w./ -]+")
"""What MLflow lets a metric be called."""


class LoopContext:
    """What a ``train_loop`` works with. In a group each worker runs the loop, with its own share of the batches.

    Attributes:
        model: the module of ``model.builder``, on the device, wrapped for the group and compiled as configured. After
            an interruption it has the last checkpoint's weights.
        device: where it computes; batches come there.
        rank, world: which worker this is, of how many.
        settings: the section ``train``.
        task: ``binary``, ``multiclass`` or ``regression``.
        classes: the labels, by index; empty for a regression.
    """

    def __init__(self, session: Session) -> None:
        context = session.context
        self._session = session
        self.model: nn.Module = session.network
        self.device = torch.device(context.place.device)
        self.rank = context.place.rank
        self.world = context.place.world
        self.settings: TrainConfig = context.spec.train
        self.task: Task = context.spec.task
        self.classes = context.spec.classes

    @property
    def epoch(self) -> int:
        """The last epoch that was reported: 0 at first, and after an interruption that of the checkpoint."""
        return self._session.context.epoch

    def checkpoint(self, **parts: Any) -> None:
        """Keep more than the model's weights with each epoch: optimizer, schedule, whatever must not begin anew.

        Call it once, before the first epoch. After an interruption the parts are filled from the last checkpoint.

        Args:
            parts: by name; each has ``state_dict()``, of tensors and plain values, and ``load_state_dict(state)``.

        Raises:
            ConfigError: a part has no such methods, or the last checkpoint holds no part of that name.
        """
        for name, part in parts.items():
            if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
                raise ConfigError(
                    f"context.checkpoint({name}=...) needs state_dict and load_state_dict, which a "
                    f"{type(part).__name__} does not have."
                )
            if self._session.resumed is not None:
                load_part(self._session.resumed, name, part)
            self._session.parts[name] = part

    def epochs(self) -> Iterator[int]:
        """Give the number, from 1, of each epoch that is left: until ``train.epochs``, or until patience runs out.

        Raises:
            TrainingFailed: an epoch ended without a report.
        """
        while not self._session.context.done:
            number = self.epoch + 1
            yield number
            if self.epoch < number:
                raise TrainingFailed(
                    f"train.loop '{self.settings.loop}': epoch {number} ended without context.report(...). Call it "
                    "once at the end of each epoch."
                )

    def batches(self) -> Iterator[Batch]:
        """Give this worker's batches of the epoch: features, float32 (n, inputs), and the target, (n,).

        The target is int64 class indices for several classes, float32 0 and 1 for two, and the float32 standardised
        value for a regression. The model is put in training mode, and the random state is the epoch's own.

        Raises:
            EnvironmentFailed: the loader has stalled.
        """
        return self._session.batches()

    def valid_batches(self) -> Iterator[Batch]:
        """Give the validation part in its own order, in batches of ``train.batch_size``, for metrics of your own."""
        x, y = self._session.context.data.valid
        truth = shared(y).long() if self.task == "multiclass" else shared(y).float()
        for at in range(0, len(x), self.settings.batch_size):
            rows = slice(at, at + self.settings.batch_size)
            yield shared(x[rows]).to(self.device), truth[rows].to(self.device)

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the task's loss with ``train.class_weights``: a float32 scalar."""
        return self._session.loss(outputs, truth)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which ``train.precision`` computes; it does nothing for ``fp32``."""
        return self._session.autocast()

    def validate(self) -> dict[str, float]:
        """Return the task's metrics on the validation part: ``valid_loss`` and so on. Every worker must call it.

        Raises:
            TrainingFailed: an output is not finite.
        """
        return self._session.validate()

    def report(self, metrics: Mapping[str, float | Tensor], *, last: bool = False) -> None:
        """End an epoch: its checkpoint is kept, and its metrics are told. Every worker must call it.

        Args:
            metrics: numbers or tensors of one number; ``valid_{train.metric}`` must be among them, and be the same on
                every worker.
            last: end here, before ``train.epochs``.

        Raises:
            TrainingFailed: the watched metric is missing or not finite, or no epoch is left.
        """
        if self._session.context.done:
            raise TrainingFailed(
                f"train.loop '{self.settings.loop}' reports epoch {self.epoch + 1}, and the training was over after "
                f"{self.epoch}. Iterate over context.epochs(), and report once in each."
            )
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        watched = f"valid_{self.settings.metric}"
        if watched not in numbers:
            known = ", ".join(f"'{name}'" for name in numbers) or "nothing"
            raise TrainingFailed(
                f"train.loop '{self.settings.loop}': the report of epoch {self.epoch + 1} has {known} and no "
                f"'{watched}', which train.metric watches. Add **context.validate(), or report it yourself."
            )
        rate = self.settings.learning_rate
        for name in {watched, "train_loss"} & numbers.keys():
            check_finite(numbers[name], name, f"epoch {self.epoch + 1}", rate)
        self._session.report(numbers, last)


def run_own(session: Session) -> None:
    """Run the configured loop.

    Raises:
        ConfigError: it cannot be found.
        TrainingFailed: it never reported, or returned before the end.
    """
    settings = session.context.spec.train
    assert settings.loop is not None
    function = _imported(settings.loop)
    if session.resume() and session.context.done:
        return
    function(LoopContext(session))
    epoch = session.context.epoch
    if not epoch:
        raise TrainingFailed(
            f"train.loop '{settings.loop}' returned without a report. Iterate over context.epochs(), and call "
            "context.report(...) in each."
        )
    if not session.context.done:
        raise TrainingFailed(
            f"train.loop '{settings.loop}' returned after epoch {epoch} of {settings.epochs}. Iterate over "
            "context.epochs() to its end, or end earlier by context.report(..., last=True)."
        )


def _imported(path: str) -> Callable[[LoopContext], object]:
    name, colon, attribute = path.partition(":")
    if not (name and colon and attribute) or name.startswith("."):
        raise ConfigError(f"train.loop '{path}' must read my_package.my_module:train_loop.")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"train.loop '{path}': module '{name}' cannot be imported ({error}). It must lie beside the configuration "
            "file or be installed."
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        wrong = "has no" if found is None else "has no function"
        raise ConfigError(f"train.loop '{path}': module '{name}' {wrong} '{attribute}'. {suggestion(attribute, known)}")
    loop: Callable[[LoopContext], object] = found
    return loop


def _number(name: str, value: Any) -> float:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TrainingFailed(f"a metric cannot be called {name!r}: letters, digits and _ . / - or spaces are allowed.")
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingFailed(f"the metric '{name}' must be one number, not {type(value).__name__}: {error}.") from error
