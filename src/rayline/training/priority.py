"""Whom the operating system serves first on a node that trainings and replicas share."""

from __future__ import annotations

import os
from contextlib import suppress

STEPS = 10
"""Behind replicas by so many steps of niceness: beside one that is busy, a training has a tenth of its share.

Ray starts all its workers at 15 (``RAY_worker_niceness``), which leaves 4 steps up to 19 and a share of two fifths; a
local cluster of Rayline starts them at 5.
"""


def give_way() -> None:
    """Have this thread and all that it starts from now on computed after those of other workers.

    It cannot be undone without rights that a process most often lacks: call it once, in a process that ends with its
    work.
    """
    with suppress(OSError):
        os.nice(STEPS)
