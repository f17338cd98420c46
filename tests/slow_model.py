"""A network that takes its time, or kills its process: for tests that kill what trains it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from torch import Tensor, nn

STEP_S = 0.004
HELD_STEP_S = 0.1


class Slow(nn.Module):
    """One linear layer, and a pause: a long one as long as there is a file ``held_by``."""

    def __init__(self, inputs: int, outputs: int, held_by: str | None) -> None:
        super().__init__()
        self.held_by = held_by
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        if self.training:
            time.sleep(HELD_STEP_S if self.held_by and Path(self.held_by).exists() else STEP_S)
        answer: Tensor = self.layer(rows)
        return answer


def build(inputs: int, outputs: int, die: bool = False, held_by: str | None = None, **options: Any) -> nn.Module:
    """Return the network; with ``die`` the process ends as one that ran out of memory does."""
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return Slow(inputs, outputs, held_by)
