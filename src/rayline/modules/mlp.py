"""The ready-made network: linear layers with ReLU and dropout between them. Loads torch; ``model`` imports it late."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):  # type: ignore[misc]  # torch is untyped here: mypy does not follow it
    """A multilayer perceptron; without hidden layers it is a linear model.

    The state's keys are ``layers.{i}.weight`` and ``layers.{i}.bias``, in order, so that it can be run from its weights
    alone. Maps float32 (n, inputs) to float32 (n, outputs).
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int] = (), dropout: float = 0.0) -> None:
        super().__init__()
        widths = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of a batch."""
        for layer in self.layers[:-1]:
            x = functional.dropout(functional.relu(layer(x)), self.dropout, self.training)
        result: Tensor = self.layers[-1](x)
        return result
