"""Ctrl-C stays the driver's own: Ray Train and Ray Tune put handlers of their own in place and leave them there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Give the process its own handlers of interrupt and termination back at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
