"""What both depths of a PyTorch training stand on: the module and its wrapping, its batches, its validation."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rayline.errors import DataError, EnvironmentFailed, RaylineError
from rayline.model import build_module
from rayline.training.checks import check
from rayline.training.context import Place, TrainContext
from rayline.training.feed import Batch, Feed, MemoryFeed, shared
from rayline.training.health import Position, check_finite, explained, watched
from rayline.training.losses import TaskLoss, class_weights
from rayline.training.metrics import measure
from rayline.training.parallel import shared_among_workers
from rayline.training.snapshot import Snapshot, load_part, load_weights, sharded

EVALUATION_ROWS = 65_536
WORK_WORTH_SHARING = 16_000_000  # rows times parameters of one step

Parallel = Callable[[nn.Module], nn.Module]
"""Wraps the module for a group of workers."""


@dataclass
class Session:
    """One PyTorch training in this process.

    Attributes:
        context: what to train, and where.
        module: the bare module, on its device; its weights are what is kept.
        network: the same, wrapped for the group and compiled; calling it is what trains.
        feed: gives the batches.
        loss: of a batch.
        parts: what is kept with the weights, by name: whatever has ``state_dict`` and ``load_state_dict``.
        at: the epoch and step that are under way, for what errors say.
    """

    context: TrainContext
    module: nn.Module
    network: nn.Module
    feed: Feed
    loss: TaskLoss
    parts: dict[str, Any] = field(default_factory=dict)
    at: Position = field(default_factory=Position)
    resumed: Path | None = None

    def batches(self) -> Iterator[Batch]:
        """Give the batches of the epoch that is next, in training mode.

        The random state of each epoch follows from seed, worker and epoch, so that a resumed training goes on with the
        numbers that it would have had, and nothing of it need be kept.
        """
        settings, place = self.context.spec.train, self.context.place
        epoch = self.context.epoch + 1
        seed_everything(settings.seed, place.rank, epoch)
        self.network.train()
        self.at.epoch, self.at.step = epoch, 0
        batches = self.feed.batches(epoch)
        for batch in batches if self.feed.in_memory else watched(batches, settings.stall_seconds, epoch):
            yield batch
            self.at.step += 1

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which ``train.precision`` computes."""
        if self.context.spec.train.precision == "fp32":
            return nullcontext()
        cast: AbstractContextManager[Any] = torch.autocast(torch.device(self.context.place.device).type, torch.bfloat16)
        return cast

    def validate(self) -> dict[str, float]:
        """Return the metrics of the validation part, named ``valid_loss`` and so on, computed in float32 as served.

        Raises:
            TrainingFailed: an output is not finite.
        """
        spec, place = self.context.spec, self.context.place
        self._agree_on_buffers()
        x, truth = self.context.data.valid
        divided = sharded(self.module)
        network = self.network if divided else self.module
        network.eval()
        with torch.no_grad() if divided else torch.inference_mode():
            outputs = [
                network(shared(x[at : at + EVALUATION_ROWS]).to(place.device))
                for at in range(0, len(x), EVALUATION_ROWS)
            ]
            values = (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).float().cpu().numpy()
        if not np.isfinite(values).all():
            broken = values[~np.isfinite(values)]
            where = f"epoch {self.context.epoch + 1}"
            check_finite(float(broken[0]), "an output for the validation part", where, spec.train.learning_rate)
        found = measure(spec.task, values.astype(np.float64), truth, spec.target_std)
        return {f"valid_{name}": value for name, value in found.items()}

    def resume(self) -> int:
        """Go on from the last whole checkpoint: its weights, and its parts as far as they are known by now."""

        def load(folder: Path) -> None:
            self.resumed = folder
            load_weights(folder, self.module)
            for name, part in self.parts.items():
                load_part(folder, name, part)

        return self.context.resume(load)

    def report(self, metrics: dict[str, float], last: bool = False) -> None:
        """End the epoch: keep and tell it."""
        if sharded(self.module):  # the workers gather the weights together
            snapshot = self._snapshot()
            self.context.report(metrics, freeze=lambda: snapshot, last=last)
        else:
            self.context.report(metrics, freeze=self._snapshot, last=last)

    def _snapshot(self) -> Snapshot:
        return Snapshot.of(self.module, self.parts)

    def _agree_on_buffers(self) -> None:
        """Give every worker the first one's running statistics, so that all see one validation and stop together."""
        if self.context.place.world > 1:
            for buffer in self.module.buffers():
                torch.distributed.broadcast(buffer, 0)


@contextmanager
def opened(context: TrainContext, parallel: Parallel | None = None) -> Iterator[Session]:
    """Build what a training needs, and leave the process as it was found.

    Raises:
        ConfigError: a setting does not fit the task or the model.
        DataError: the training part has fewer rows than there are workers, or the validation part has none.
        TrainingFailed: memory ran out.
        EnvironmentFailed: there is no compiler for ``train.compile``, or no room for a checkpoint.
    """
    spec, place = context.spec, context.place
    settings = spec.train
    check(spec)
    at = Position()
    threads = torch.get_num_threads()
    try:
        with explained(at, settings.batch_size):
            feed = context.feed or MemoryFeed(context.data.train, spec.task, settings, place)
            _refuse_too_few(feed, len(context.data.valid[0]), place)
            seed_everything(settings.seed)
            module = build_module(spec.model, spec.layout, spec.outputs).to(place.device)
            torch.set_num_threads(_threads(module, settings.batch_size, place.threads))
            network = parallel(module) if parallel else shared_among_workers(module, settings.parallel, place)
            if settings.compile:
                network = _compiled(network, place.device)
            yield Session(context, module, network, feed, _loss(context, feed), at=at)
    except BaseException:
        _secure(context)
        raise
    finally:
        torch.set_num_threads(threads)


def seed_everything(seed: int, *more: int) -> None:
    """Seed torch, NumPy and Python: with the seed itself, or with what follows from it and further numbers."""
    # Of the seed alone torch's state is that of manual_seed(seed), so that first weights are what they always were.
    mixed = seed if not more else int(np.random.SeedSequence([seed, *more]).generate_state(1, np.uint64)[0] >> 1)
    if torch.accelerator.is_available():
        torch.manual_seed(mixed)
    else:  # the call above takes 2 ms to note down where it was called from, for a GPU that is not there
        torch.default_generator.manual_seed(mixed)
    np.random.seed(mixed % 2**32)
    random.seed(mixed)


def _loss(context: TrainContext, feed: Feed) -> TaskLoss:
    spec = context.spec
    if spec.train.class_weights is None:
        return TaskLoss(spec.task)
    weights = class_weights(spec.train, spec.classes, feed.label_counts(len(spec.classes)))
    return TaskLoss(spec.task, weights.to(context.place.device))


def _secure(context: TrainContext) -> None:
    """Keep the last finished epoch of a training that ends by an error, which is the one to tell."""
    try:
        context.secure()
    except (RaylineError, OSError) as error:
        context.notice(f"the last epochs could not be kept: {error}")


def _compiled(network: nn.Module, device: str) -> nn.Module:
    compilers = [os.environ.get("CXX", "g++"), "g++", "clang++"]
    if device == "cpu" and not any(shutil.which(name) for name in compilers):
        raise EnvironmentFailed(
            "train.compile needs a C++ compiler on this machine, and there is neither g++ nor clang++. Install one, "
            "or set train.compile: false, which trains the same model, only slower."
        )
    compiled: nn.Module = torch.compile(network)
    return compiled


def _threads(module: nn.Module, batch_size: int, most: int) -> int:
    """Return how many processor threads a step is worth: sharing out a small one costs more than it gains."""
    work = batch_size * sum(parameter.numel() for parameter in module.parameters())
    return most if work > WORK_WORTH_SHARING else 1


def _refuse_too_few(feed: Feed, valid_rows: int, place: Place) -> None:
    if feed.rows < place.world:
        raise DataError(
            f"the training part has {feed.rows} rows, too few for {place.world} workers. "
            "Lower train.num_workers, or give more data."
        )
    if not valid_rows:
        raise DataError("the validation part has no rows to choose the best epoch by. Raise data.split.valid.")
