"""The ready PyTorch loop. The same code runs in this process, in a trial and in each worker of a group."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
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
from rayline.training.metrics import direction, measure
from rayline.training.spec import Part, TrainData, TrainResult, TrainSpec

EVALUATION_ROWS = 65_536
WORK_WORTH_SHARING = 16_000_000  # rows times parameters of one step
CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


def fit_loop(context: TrainContext, parallel: Callable[[nn.Module], nn.Module] = lambda module: module) -> TrainResult:
    """Train until the epochs are over or patience runs out, keeping the best epoch's weights.

    The same seed gives the same numbers on a CPU, whatever ran before in this process.

    Args:
        context: what to train, and where; it goes on from the last whole checkpoint.
        parallel: wraps the module for a group of workers.

    Raises:
        TrainingFailed: the loss, or an output, is not finite; the message names epoch, step and learning rate.
        ConfigError: the metric or the builder is unknown.
        DataError: the training part has fewer rows than there are workers, or the validation part has none.
    """
    spec, place = context.spec, context.place
    settings = spec.train
    direction(settings.metric, spec.task)
    _refuse_too_few(context.data, place)
    torch.manual_seed(settings.seed)
    module = build_module(spec.model, spec.layout, spec.outputs).to(place.device)
    torch.set_num_threads(_threads(module, settings.batch_size, place.threads))
    torch.manual_seed(settings.seed + place.rank)  # dropout must differ between workers, the first weights must not
    trained = parallel(module)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    x, y = _tensors(context.data.train, spec.task, place.device)

    def save(folder: Path) -> None:
        # Copies: safetensors refuses tensors that share memory, as tied weights do.
        weights = {name: each.detach().cpu().contiguous().clone() for name, each in module.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        torch.save({"optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}, folder / "optimizer.pt")

    def load(folder: Path) -> None:
        module.load_state_dict(load_file(folder / WEIGHTS))
        state = torch.load(folder / "optimizer.pt", weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    context.resume(load)
    while not context.done:
        epoch = context.epoch + 1
        loss = _epoch(trained, optimizer, x, y, spec, place, epoch)
        _agree_on_buffers(module, place)
        valid = _measured(module, context.data.valid, spec, place.device, epoch)
        context.report({"train_loss": loss, **{f"valid_{name}": value for name, value in valid.items()}}, save)
    return context.result()


def _epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    spec: TrainSpec,
    place: Place,
    epoch: int,
) -> float:
    """Take one pass over this worker's share of the rows and return the mean loss."""
    module.train()
    total, rows = torch.zeros((), dtype=torch.float64, device=place.device), 0
    for step, chosen in enumerate(_batches(len(x), spec, place, epoch)):
        picked = chosen.to(place.device)
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(module(x[picked]), y[picked], spec.task)
        value = loss.detach()
        if step % CHECK_EVERY == 0:
            _refuse_nan(float(value), spec, epoch, step)
        loss.backward()
        optimizer.step()
        total += value.double() * len(chosen)
        rows += len(chosen)
    mean = float(total) / rows
    _refuse_nan(mean, spec, epoch, step)
    return mean


def _batches(rows: int, spec: TrainSpec, place: Place, epoch: int) -> Iterator[Tensor]:
    """Give this worker's batches: the epoch's order is the same on all of them, and each takes every n-th row.

    The batch size is that of the whole group, and every worker takes equally many steps, as gradients are averaged.
    """
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(spec.train.seed * 1_000_003 + epoch))
    share = order[: rows - rows % place.world][place.rank :: place.world]
    size = max(1, spec.train.batch_size // place.world)
    if place.world == 1 < size < len(share) and len(share) % size == 1:
        share = share[:-1]  # a network that normalises over the batch cannot learn from a single row
    yield from share.split(size)


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
    with torch.inference_mode():
        outputs = [module(_shared(part[0][at : at + EVALUATION_ROWS]).to(device)) for at in _starts(part[0])]
        values = torch.cat(outputs).double().cpu().numpy()
    broken = values[~np.isfinite(values)]
    if broken.size:
        raise _not_finite(float(broken[0]), "an output for the validation part", spec, f"epoch {epoch}")
    return measure(spec.task, values, part[1], spec.target_std)


def _starts(x: np.ndarray) -> range:
    return range(0, len(x), EVALUATION_ROWS)


def _tensors(part: Part, task: Task, device: str) -> tuple[Tensor, Tensor]:
    truth = _shared(part[1])
    truth = truth.long() if task == "multiclass" else truth.float()
    return _shared(part[0]).to(device), truth.to(device)


def _shared(array: np.ndarray) -> Tensor:
    """Give an array to torch without a copy. One from the object store is read-only, and nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)


def _refuse_too_few(data: TrainData, place: Place) -> None:
    rows = len(data.train[0])
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
