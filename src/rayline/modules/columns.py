"""Numbers and places of levels as one vector: what every ready-made module that knows its columns begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

UNKNOWN = 1
"""The place that ``encode: index`` gives to a level that the fit has not seen; 0 stands for a missing value."""


@dataclass(frozen=True, slots=True)
class Level:
    """A column that holds the place of a level.

    Attributes:
        at: which number of the input it is.
        levels: how many places there are, missing and unknown among them.
        width: of its embedding.
    """

    at: int
    levels: int
    width: int


class Columns(nn.Module):  # type: ignore[misc]  # torch is untyped here: mypy does not follow it
    """Maps float32 (n, inputs) to float32 (n, width): the numbers as they are, then an embedding for each level.

    A place outside 0..levels-1, or one that is no number, is that of an unknown level.
    """

    def __init__(self, numbers: Sequence[tuple[int, int]], levels: Sequence[Level]) -> None:
        """Take the first and the end of each stretch of numbers, and the columns that hold levels."""
        super().__init__()
        self.numbers = tuple(numbers)
        self.levels = tuple(levels)
        self.embeddings = nn.ModuleList(nn.Embedding(each.levels, each.width) for each in levels)
        self.width = sum(end - start for start, end in numbers) + sum(each.width for each in levels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors of a batch."""
        parts = [x[:, start:end] for start, end in self.numbers]
        for level, embedding in zip(self.levels, self.embeddings, strict=True):
            place = x[:, level.at]
            known = (place >= 0) & (place < level.levels)
            parts.append(embedding(torch.where(known, place, float(UNKNOWN)).long()))
        return torch.cat(parts, dim=1) if parts else x[:, :0]
