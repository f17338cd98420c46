"""``cnn``: a small convolutional network over the image in a row, which the other columns join after it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rayline.modules.columns import Columns, Level

MOST_CELLS = 8  # a side of what the last convolution gives is averaged down to this many


class Cnn(nn.Module):  # type: ignore[misc]
    """3 by 3 convolutions, each with ReLU and 2 by 2 pooling, then one hidden layer.

    Maps float32 (n, inputs) to float32 (n, outputs). A side is halved only while it has two cells.
    """

    def __init__(
        self,
        image: tuple[int, int],
        shape: tuple[int, int, int],
        numbers: Sequence[tuple[int, int]],
        levels: Sequence[Level],
        outputs: int,
        *,
        channels: Sequence[int] = (16, 32),
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        """Take the first and the end of the image's numbers, its height, width and channels, and the other columns."""
        super().__init__()
        self.image = image
        self.shape = shape
        self.columns = Columns(numbers, levels)
        height, width, before = shape
        self.convolutions = nn.ModuleList()
        pools = []
        for after in channels:
            self.convolutions.append(nn.Conv2d(before, after, kernel_size=3, padding=1))
            pools.append((2 if height > 1 else 1, 2 if width > 1 else 1))
            height, width, before = height // pools[-1][0], width // pools[-1][1], after
        self.pools = tuple(pools)
        self.cells = (min(height, MOST_CELLS), min(width, MOST_CELLS))
        self.averaged = self.cells != (height, width)
        self.hidden = nn.Linear(before * self.cells[0] * self.cells[1] + self.columns.width, hidden)
        self.dropout = dropout
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of a batch."""
        start, end = self.image
        state = x[:, start:end].reshape(-1, *self.shape).permute(0, 3, 1, 2)
        for convolution, pool in zip(self.convolutions, self.pools, strict=True):
            state = functional.max_pool2d(functional.relu(convolution(state)), pool)
        if self.averaged:
            state = functional.adaptive_avg_pool2d(state, self.cells)
        state = torch.cat([state.flatten(1), self.columns(x)], dim=1)
        state = functional.dropout(functional.relu(self.hidden(state)), self.dropout, self.training)
        result: Tensor = self.last(state)
        return result
