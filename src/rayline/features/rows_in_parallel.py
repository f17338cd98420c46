"""Run one function over batches of rows on this process's processors: NumPy and Arrow let go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ROWS = 65_536  # of a batch: its columns lie in the processor's cache, and the double-precision intermediates are small


def each_batch(items: Iterable[Item], look: Callable[[Item], Result]) -> Iterator[Result]:
    """Yield ``look(item)`` for every item, in order. Raises what ``look`` raised for the first that failed."""
    found = list(items)
    threads = min(processors(), len(found))
    if threads < 2:
        yield from map(look, found)
        return
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="features") as pool:
        yield from pool.map(look, found)


def processors() -> int:
    """Return how many processors this process may use: in a Ray task, what the task was given."""
    given = os.environ.get("OMP_NUM_THREADS", "")  # Ray sets it to the task's num_cpus
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
