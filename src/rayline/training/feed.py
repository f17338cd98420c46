"""Where a loop's batches come from. ``MemoryFeed`` holds the training part; ``Feed`` is what any other must be like."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayline.config import Task, TrainConfig
from rayline.training.context import Place
from rayline.training.spec import Part

Batch = tuple[Tensor, Tensor]
"""Features, float32 (n, inputs), and the target, int64 class indices (multiclass) or float32, (n,)."""

GATHERED_BYTES = 4 << 20
"""How much is brought into an epoch's order at once: few calls, and it stays in the processor's cache."""


class Feed(Protocol):
    """One worker's batches, on its device.

    Attributes:
        rows: of the whole training part.
        steps: batches that each epoch gives, the same on every worker, as gradients are averaged.
        in_memory: whether a batch waits for nothing outside this process, so that it cannot stall.
    """

    rows: int
    steps: int
    in_memory: bool

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give an epoch's batches. Every epoch, from 1, has an order of its own, which seed and epoch alone decide."""
        ...

    def label_counts(self, classes: int) -> NDArray[np.int64]:
        """Return how many training rows have each class index; int64 (classes,)."""
        ...


class MemoryFeed:
    """Batches of arrays in this process, which are the whole training part."""

    in_memory = True

    def __init__(self, part: Part, task: Task, settings: TrainConfig, place: Place) -> None:
        self._labels = part[1]
        self._settings = settings
        self._place = place
        self._x, self._y = tensors(part, task, place.device)
        self.rows = len(self._x)
        self._size = size_of(settings.batch_size, place)
        self.steps = -(-len(share_of(torch.empty(self.rows, dtype=torch.uint8), self._size, place)) // self._size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give this worker's batches: the epoch's order is the same on all workers, and each takes every n-th row."""
        seed = self._settings.seed * 1_000_003 + epoch
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(seed))
        row_bytes = self._x.element_size() * max(1, self._x[:1].numel())
        gathered = max(1, GATHERED_BYTES // (row_bytes * self._size)) * self._size  # whole batches
        for some in share_of(order, self._size, self._place).split(gathered):
            picked = some.to(self._place.device)
            yield from zip(self._x[picked].split(self._size), self._y[picked].split(self._size), strict=True)

    def label_counts(self, classes: int) -> NDArray[np.int64]:
        """Return how many training rows have each class index; int64 (classes,)."""
        return np.bincount(self._labels, minlength=classes).astype(np.int64)


def size_of(batch_size: int, place: Place) -> int:
    """Return the rows of one worker's batch: ``batch_size`` is that of the whole group."""
    return max(1, batch_size // place.world)


def share_of(order: Tensor, size: int, place: Place) -> Tensor:
    """Return one worker's rows of an epoch's order; in batches of ``size`` every worker takes equally many steps."""
    rows = len(order)
    share = order[: rows - rows % place.world][place.rank :: place.world]
    if place.world == 1 < size < len(share) and len(share) % size == 1:
        share = share[:-1]  # a network that normalises over the batch cannot learn from a single row
    return share


def tensors(part: Part, task: Task, device: str) -> Batch:
    """Return a part as tensors on a device; on the CPU they share the arrays' memory where the types allow it."""
    truth = shared(part[1])
    truth = truth.long() if task == "multiclass" else truth.float()
    return shared(part[0]).to(device), truth.to(device)


def shared(array: NDArray[np.generic]) -> Tensor:
    """Give an array to torch without a copy. One from the object store is read-only, and nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
