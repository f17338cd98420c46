"""``residual_mlp``: blocks with a skip connection over numbers and embeddings of categories.

The block is that of the ResNet of Gorishniy and others, "Revisiting Deep Learning Models for Tabular Data" (2021), with
LayerNorm in the place of its BatchNorm: a row's answer does not depend on the rows beside it, in training either.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from rayline.modules.columns import Columns, Level


class Block(nn.Module):  # type: ignore[misc]
    """Adds to its input what two layers make of it, normalised."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return the new state of a batch, (n, width)."""
        state = functional.relu(self.into(self.norm(x)))
        state = self.out(functional.dropout(state, self.dropout, self.training))
        result: Tensor = x + functional.dropout(state, self.dropout, self.training)
        return result


class ResidualMlp(nn.Module):  # type: ignore[misc]
    """Maps float32 (n, inputs) to float32 (n, outputs); without ``levels`` it is a residual network over numbers."""

    def __init__(
        self,
        numbers: Sequence[tuple[int, int]],
        levels: Sequence[Level],
        outputs: int,
        *,
        width: int = 64,
        blocks: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.columns = Columns(numbers, levels)
        self.first = nn.Linear(self.columns.width, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of a batch."""
        state = self.first(self.columns(x))
        for block in self.blocks:
            state = block(state)
        result: Tensor = self.last(functional.relu(self.norm(state)))
        return result
