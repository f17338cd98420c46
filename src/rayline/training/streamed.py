"""A training part that stays on disk: streamed through Ray Data, in an order that seed and epoch decide.

Memory is bounded by one window of rows and the blocks that are under way, whatever the part's size. Rows are shuffled
within windows, as they lie in the files; a part whose rows are sorted by their answer needs a window that is large
enough to mix them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rayline.config import Task, TrainConfig
from rayline.errors import ConfigError
from rayline.features.blocks import quiet
from rayline.features.matrices import matrix_dataset, read_targets
from rayline.model import family_of
from rayline.training.context import Place
from rayline.training.feed import Batch, shared, size_of
from rayline.training.prefetch import ahead
from rayline.training.spec import Part, StreamedPart, TrainData

if TYPE_CHECKING:
    from rayline.features.prepared import Prepared

SHARE_OF_RAM = 0.25
"""``train.feed: auto`` holds a training part in memory up to this share of it: workers take a copy beside ours."""

WINDOW_BYTES = 64 << 20
"""Rows that are shuffled together."""


def training_data(prepared: Prepared, builder: str, train: TrainConfig) -> TrainData:
    """Return both parts of a features step; the training part stays on disk where ``train.feed`` says so.

    Raises:
        ConfigError: ``train.feed`` is ``ray_data``, and the family of ``builder`` needs the whole part at once.
    """
    rows, width = prepared.facts.rows["train"], prepared.features.width
    if not streams(rows * (width + 1) * 4, builder, train):
        return TrainData(prepared.train(), prepared.valid())
    nothing = np.empty((0, width), np.float32), np.empty(0, np.float32)
    return TrainData(nothing, prepared.valid(), StreamedPart(prepared.path, rows, width))


def streams(part_bytes: int, builder: str, train: TrainConfig, ram: int | None = None) -> bool:
    """Tell whether a training part of so many bytes is streamed; ``ram`` in bytes, None for what this machine has.

    Raises:
        ConfigError: as ``training_data``.
    """
    whole = family_of(builder) != "torch"
    if train.feed == "ray_data" and whole:
        raise ConfigError(
            f"train.feed is ray_data, and model.builder '{builder}' learns from the whole training part at once. "
            "Set train.feed to memory, or take a PyTorch module."
        )
    if train.feed != "auto" or whole:
        return train.feed == "ray_data"
    return part_bytes > SHARE_OF_RAM * (memory_here() if ram is None else ram)


def memory_here() -> int:
    """Return the bytes of memory that this process may have: the machine's, or its container's where that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            return min(machine, int(Path(limit).read_text()))
    return machine


def dataset_of(part: StreamedPart) -> Any:
    """Return the ``ray.data.Dataset`` of a part, columns ``x`` and ``y``.

    Its reads take no CPUs: the workers that wait for them hold those.
    """
    with quiet():
        return matrix_dataset(part.folder, "train", cpus=0)


class RayDataFeed:
    """Batches of a part on disk.

    Args:
        part: where it is.
        source: a ``ray.data.Dataset``, or the ``ray.data.DataIterator`` of this worker's share, with ``x`` and ``y``.
        window: rows that are shuffled together, whole batches; None takes ``WINDOW_BYTES``.
    """

    in_memory = False

    def __init__(
        self,
        part: StreamedPart,
        source: Any,
        task: Task,
        settings: TrainConfig,
        place: Place,
        window: int | None = None,
    ) -> None:
        self._part = part
        self._source = source
        self._task = task
        self._settings = settings
        self._place = place
        self._size = size_of(settings.batch_size, place)
        self._window = window or max(self._size, WINDOW_BYTES // (4 * part.width) // self._size * self._size)
        self._share = part.rows // place.world
        if self._share % self._size == 1 < self._size < self._share:
            self._share -= 1  # a network that normalises over the batch cannot learn from a single row
        self.rows = part.rows
        self.steps = -(-self._share // self._size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give this worker's batches, each on its device; every worker gives equally many."""
        return ahead(self._batches(epoch), self._place.device)

    def label_counts(self, classes: int) -> NDArray[np.int64]:
        """Return how many training rows have each class index; int64 (classes,). Reads the targets only."""
        counts = np.zeros(classes, np.int64)
        for targets in read_targets(self._part.folder, "train"):
            counts += np.bincount(targets, minlength=classes)
        return counts

    def _batches(self, epoch: int) -> Iterator[Batch]:
        seed = (self._settings.seed * 1_000_003 + epoch) * 65_537 + self._place.rank
        chance = torch.Generator().manual_seed(seed)
        left = self._share
        for x, y in self._windows():
            order = torch.randperm(len(x), generator=chance)[:left]
            left -= len(order)
            if len(order):  # the last window may hold nothing but the row that is left out
                yield from ((x[picked], y[picked]) for picked in order.split(self._size))

    def _windows(self) -> Iterator[Batch]:
        """Give the rows in windows of whole batches; the last takes what is left."""
        waiting: list[Part] = []
        rows = 0
        for table in self._source.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            x = table.column("x").combine_chunks().flatten().to_numpy().reshape(-1, self._part.width)
            waiting.append((x, table.column("y").to_numpy()))
            rows += len(x)
            while rows >= self._window:
                x, y = _joined(waiting)
                rows -= self._window
                waiting = [(x[self._window :], y[self._window :])]
                yield self._tensors(x[: self._window], y[: self._window])
        if rows:
            yield self._tensors(*_joined(waiting))

    def _tensors(self, x: NDArray[np.float32], y: NDArray[Any]) -> Batch:
        truth = shared(y)
        return shared(x), truth.long() if self._task == "multiclass" else truth.float()


def _joined(parts: list[Part]) -> Part:
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
