"""A network that takes its time, or kills its process: for tests that kill what trains it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from torch import Tensor, nn

STEP_S = 0.004


class Slow(nn.Module):
    """One linear layer, and a pause."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        if self.training:
            time.sleep(STEP_S)
        answer: Tensor = self.layer(rows)
        return answer


def build(inputs: int, outputs: int, die: bool = False, **options: Any) -> nn.Module:
    """Return the network; with ``die`` the process ends as one that ran out of memory does."""
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return Slow(inputs, outputs)
