"""Two lanes for the columns of a table: numbers are NumPy's, and the rest is mostly Arrow's.

NumPy lets go of Python's lock for some microseconds at a time, and two threads that both work so stand in each other's
way: on two cores they took longer than one. Arrow lets go for a whole column. So numbers are worked on by one thread
and everything else by another, in the order of the batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

ROWS = 65_536  # of a batch: its columns lie in the processor's cache, and the double-precision intermediates are small
NUMBERS = ("numeric", "datetime", "boolean")
"""How the raw columns of the first lane are read."""


def in_lanes(*lanes: Callable[[], Result]) -> list[Result]:
    """Return what each lane gives, run side by side where there are processors. Raises what a lane raised."""
    if processors() < 2:
        return [lane() for lane in lanes]
    with ThreadPoolExecutor(max_workers=len(lanes), thread_name_prefix="features") as pool:
        return [found.result() for found in [pool.submit(lane) for lane in lanes]]


def processors() -> int:
    """Return how many processors this process may use: in a Ray task, what the task was given."""
    given = os.environ.get("OMP_NUM_THREADS", "")  # Ray sets it to the task's num_cpus
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
