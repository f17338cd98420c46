"""The ready PyTorch loop. The same code runs in this process, in a trial and in each worker of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rayline.training.context import TrainContext
from rayline.training.health import check_finite
from rayline.training.optimization import Stepper, build_optimizer, grouped
from rayline.training.parallel import wrapper_of
from rayline.training.session import Parallel, Session, opened
from rayline.training.spec import TrainResult

CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


def fit_loop(context: TrainContext, parallel: Parallel | None = None) -> TrainResult:
    """Train until the epochs are over or patience runs out, keeping the best epoch's weights.

    By the ready loop, or by ``train.loop`` where one is named. The same seed gives the same numbers on a CPU, whatever
    ran before in this process, and wherever the training was interrupted.

    Args:
        context: what to train, and where; it goes on from the last whole checkpoint.
        parallel: wraps the module for a group of workers; None does what ``train.parallel`` says.

    Raises:
        TrainingFailed: the loss, or an output, is not finite (the message names epoch, step and learning rate), memory
            ran out, or ``train.loop`` does not keep its rules.
        EnvironmentFailed: the loader has stalled, there is no room for a checkpoint, or no compiler.
        ConfigError: the metric, the builder, the loop or a class label is unknown.
        DataError: the training part has fewer rows than there are workers, or the validation part has none.
    """
    parallel = parallel or wrapper_of(context.spec.train.parallel, context.place)
    with opened(context, parallel) as session:
        if context.spec.train.loop is not None:
            from rayline.training.own_loop import run_own

            run_own(session)
        else:
            _run_ready(session)
        return context.result()


def _run_ready(session: Session) -> None:
    context, settings = session.context, session.context.spec.train
    optimizer = build_optimizer(session.module, settings)
    session.parts["optimizer"] = optimizer
    stepper = Stepper(optimizer, settings, -(-session.feed.steps // settings.accumulate))
    session.resume()
    stepper.begin()
    while not context.done:
        loss = _epoch(session, stepper)
        session.report({"train_loss": loss, **session.validate()})


def _epoch(session: Session, stepper: Stepper) -> float:
    """Take one pass over this worker's share of the rows and return the mean loss, over all workers."""
    settings = session.context.spec.train
    epoch, network, loss_of = session.context.epoch + 1, session.network, session.loss
    seen = _Losses(epoch, stepper)
    casting = settings.precision != "fp32"
    for step, batches in enumerate(grouped(session.batches(), settings.accumulate)):
        stepper.clear()
        rows = sum(len(y) for _, y in batches)
        for place, (x, y) in enumerate(batches, start=1):
            with nullcontext() if place == len(batches) else _apart(network):
                if casting:
                    with session.autocast():
                        outputs = network(x).float()
                else:
                    outputs = network(x)
                loss = loss_of(outputs, y)
                (loss if len(batches) == 1 else loss * (len(y) / rows)).backward()
            seen.add(loss.detach(), len(y), step)
        stepper.take(epoch, step)
    return seen.mean(session.context.place.world)


class _Losses:
    """Sums up losses, and looks at them from time to time: each look waits for the device."""

    def __init__(self, epoch: int, stepper: Stepper) -> None:
        self._epoch = epoch
        self._stepper = stepper
        self._seen: list[tuple[Tensor, int, int]] = []
        self._total = 0.0
        self._rows = 0
        self._device = torch.device("cpu")

    def add(self, loss: Tensor, rows: int, step: int) -> None:
        self._seen.append((loss, rows, step))
        if len(self._seen) == CHECK_EVERY:
            self._look()

    def mean(self, world: int) -> float:
        """Return the mean over all rows; a group's workers have equally many."""
        self._look()
        mean = self._total / self._rows
        if world > 1 and torch.distributed.is_initialized():
            shared = torch.tensor(mean, dtype=torch.float64, device=self._device)
            torch.distributed.all_reduce(shared)
            return float(shared) / world
        return mean

    def _look(self) -> None:
        if not self._seen:
            return
        self._device = self._seen[0][0].device
        values = torch.stack([loss for loss, _, _ in self._seen]).double().tolist()
        for value, (_, rows, step) in zip(values, self._seen, strict=True):
            where = f"epoch {self._epoch}, step {step}"
            check_finite(value, "the loss", where, self._stepper.rate(self._epoch, step))
            self._total += value * rows
            self._rows += rows
        self._seen.clear()


@contextmanager
def _apart(network: nn.Module) -> Iterator[None]:
    """Let the workers' gradients add up apart: they meet with the last batch of a step."""
    wait: Callable[[bool], Any] | None = getattr(network, "set_requires_gradient_sync", None)  # FSDP2
    if wait is not None:
        wait(False)
        try:
            yield
        finally:
            wait(True)
    elif hasattr(network, "no_sync"):  # DistributedDataParallel
        with network.no_sync():
            yield
    else:
        yield
