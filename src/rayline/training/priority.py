"""Whom the operating system serves first on a node that trainings and replicas share."""

from __future__ import annotations

import os
from contextlib import suppress

NICENESS = 10


def give_way() -> None:
    """Have this process and all threads that it starts from now on computed after those of others.

    It cannot be undone without rights that a process most often lacks: call it in a process that ends with its work.
    """
    with suppress(OSError):
        os.nice(max(0, NICENESS - os.nice(0)))
