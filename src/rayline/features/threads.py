"""Large tables are worked on batch by batch in several threads; small ones in one, since nothing would be won.

NumPy lets go of Python's lock for some microseconds at a time, and two threads that both work so take longer than one.
Arrow and the compiled loops of ``kernels`` let go for a whole column: with them, threads pay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ROWS = 131_072  # of a batch: a column of it lies in the processor's cache
LARGE = 5_000_000  # values of a table from which loading the compiled loops, half a second, is won back


def is_large(rows: int, columns: int) -> bool:
    """Tell whether a table of so many rows and columns is worked on by compiled loops in several threads."""
    return rows * columns >= LARGE


def each(items: Sequence[Item], look: Callable[[Item], Result], *, large: bool) -> Iterator[Result]:
    """Yield ``look(item)`` for every item, in order. Raises what ``look`` raised for the first that failed."""
    threads = min(processors(), len(items)) if large else 1
    if threads < 2:
        yield from map(look, items)
        return
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="features") as pool:
        yield from pool.map(look, items)


def processors() -> int:
    """Return how many processors this process may use: in a Ray task, what the task was given."""
    given = os.environ.get("OMP_NUM_THREADS", "")  # Ray sets it to the task's num_cpus
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
