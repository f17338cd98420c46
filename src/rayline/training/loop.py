"""The ready PyTorch loop. The same code runs in this process, in a trial and in each worker of a group."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from rayline.config import Task
from rayline.errors import DataError, TrainingFailed
from rayline.model import build_module
from rayline.training.checkpoint import WEIGHTS
from rayline.training.context import Place, TrainContext
from rayline.training.feed import Feed, MemoryFeed, shared
from rayline.training.metrics import direction, measure
from rayline.training.parallel import Whole, parallel_of
from rayline.training.spec import Part, TrainData, TrainResult, TrainSpec

EVALUATION_ROWS = 65_536
WORK_WORTH_SHARING = 16_000_000  # rows times parameters of one step
CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


def fit_loop(context: TrainContext) -> TrainResult:
    """Train until the epochs are over or patience runs out, keeping the best epoch's weights.

    The same seed gives the same numbers on a CPU, whatever ran before in this process.

    Args:
        context: what to train, and where; it goes on from the last whole checkpoint.

    Raises:
        TrainingFailed: the loss, or an output, is not finite; the message names epoch, step and learning rate.
        ConfigError: the metric or the builder is unknown.
        DataError: the training part has fewer rows than there are workers, or the validation part has none.
    """
    spec, place = context.spec, context.place
    settings = spec.train
    direction(settings.metric, spec.task)
    feed = context.feed or MemoryFeed(context.data.train, spec.task, settings, place)
    _refuse_too_few(feed, context.data, place)
    torch.manual_seed(settings.seed)
    module = build_module(spec.model, spec.inputs, spec.outputs).to(place.device)
    torch.set_num_threads(_threads(module, settings.batch_size, place.threads))
    torch.manual_seed(settings.seed + place.rank)  # dropout must differ between workers, the first weights must not
    parallel = parallel_of(settings.parallel, place)
    trained = parallel.wrap(module)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def load(folder: Path) -> None:
        state = torch.load(folder / "optimizer.pt", weights_only=True)
        parallel.load(module, optimizer, Whole(load_file(folder / WEIGHTS), state["optimizer"]))
        torch.set_rng_state(state["random"])

    context.resume(load)
    while not context.done:
        epoch = context.epoch + 1
        loss = _epoch(trained, optimizer, feed, spec, place, epoch)
        _agree_on_buffers(module, place)
        valid = _measured(module, context.data.valid, spec, place.device, epoch)
        metrics = {"train_loss": loss, **{f"valid_{name}": value for name, value in valid.items()}}
        context.report(metrics, partial(_save, parallel.whole(module, optimizer)))
    return context.result()


def _save(whole: Whole, folder: Path) -> None:
    save_file(dict(whole.weights), folder / WEIGHTS)
    torch.save({"optimizer": dict(whole.optimizer), "random": torch.get_rng_state()}, folder / "optimizer.pt")


def _epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    spec: TrainSpec,
    place: Place,
    epoch: int,
) -> float:
    """Take one pass over this worker's share of the rows and return the mean loss."""
    module.train()
    total, rows = torch.zeros((), dtype=torch.float64, device=place.device), 0
    for step, (x, y) in enumerate(feed.batches(epoch)):
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(module(x), y, spec.task)
        value = loss.detach()
        if step % CHECK_EVERY == 0:
            _refuse_nan(float(value), spec, epoch, step)
        loss.backward()
        optimizer.step()
        total += value.double() * len(x)
        rows += len(x)
    mean = _over_workers(total, rows, place)
    _refuse_nan(mean, spec, epoch, step)
    return mean


def _over_workers(total: Tensor, rows: int, place: Place) -> float:
    """Return the mean over the rows of all workers, so that the curve is one whatever their number."""
    sums = torch.stack([total, torch.tensor(rows, dtype=total.dtype, device=place.device)])
    if place.world > 1 and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return float(sums[0] / sums[1])


def _threads(module: nn.Module, batch_size: int, most: int) -> int:
    """Return how many processor threads a step is worth: sharing out a small one costs more than it gains."""
    work = batch_size * sum(parameter.numel() for parameter in module.parameters())
    return most if work > WORK_WORTH_SHARING else 1


def _agree_on_buffers(module: nn.Module, place: Place) -> None:
    """Give every worker the first one's running statistics, so that all see one validation and stop together."""
    if place.world > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def _loss(outputs: Tensor, truth: Tensor, task: Task) -> Tensor:
    if task == "regression":
        return functional.mse_loss(outputs[:, 0], truth)
    if task == "binary":
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], truth)
    return functional.cross_entropy(outputs, truth)


def _measured(module: nn.Module, part: Part, spec: TrainSpec, device: str, epoch: int) -> dict[str, float]:
    module.eval()
    with torch.no_grad():  # weights that are divided among workers cannot be gathered in inference mode
        outputs = [module(shared(part[0][at : at + EVALUATION_ROWS]).to(device)) for at in _starts(part[0])]
        values = torch.cat(outputs).double().cpu().numpy()
    broken = values[~np.isfinite(values)]
    if broken.size:
        raise _not_finite(float(broken[0]), "an output for the validation part", spec, f"epoch {epoch}")
    return measure(spec.task, values, part[1], spec.target_std)


def _starts(x: np.ndarray) -> range:
    return range(0, len(x), EVALUATION_ROWS)


def _refuse_too_few(feed: Feed, data: TrainData, place: Place) -> None:
    rows = feed.rows
    if rows < place.world:
        raise DataError(
            f"the training part has {rows} rows, too few for {place.world} workers. "
            "Lower train.num_workers, or give more data."
        )
    if not len(data.valid[0]):
        raise DataError("the validation part has no rows to choose the best epoch by. Raise data.split.valid.")


def _refuse_nan(loss: float, spec: TrainSpec, epoch: int, step: int) -> None:
    if not math.isfinite(loss):
        raise _not_finite(loss, "the loss", spec, f"epoch {epoch}, step {step}")


def _not_finite(value: float, name: str, spec: TrainSpec, where: str) -> TrainingFailed:
    return TrainingFailed(
        f"{name} is {value} at {where}, with learning rate {spec.train.learning_rate:g}. "
        "Lower train.learning_rate, or look for extreme values in the data with `rayline validate`."
    )
