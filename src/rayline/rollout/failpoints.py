"""Named points at which a test may kill the controller's process. For tests alone; nothing is armed otherwise.

``RAYLINE_FAILPOINT=NAME:COUNT`` in the environment of whoever starts the controller makes its first process kill
itself (SIGKILL) when it passes the point for the ``COUNT``-th time; the process that Ray starts in its place is not
armed. ``arm`` does the same to a process that runs. Names are ``WHAT.before`` and ``WHAT.after``; ``passed`` tells
which there are and how often each was passed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "RAYLINE_FAILPOINT"

passed: Counter[str] = Counter()
_armed: list[tuple[str, int]] = []
_counting = False


def reach(name: str) -> None:
    """Pass a point. Returns at once unless a test has armed this process."""
    if not _counting:
        return
    passed[name] += 1
    if (name, passed[name]) in _armed:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(name: str, count: int = 1) -> None:
    """Die at the ``count``-th passing of a point, counted from now."""
    watch()
    _armed.append((name, count))


def watch() -> None:
    """Count from now how often each point is passed; nothing is armed."""
    global _counting
    passed.clear()
    _armed.clear()
    _counting = True


def arm_from_environment() -> None:
    """Arm what the environment names. Raises ``ValueError`` for anything but ``NAME:COUNT``."""
    wish = os.environ.get(VARIABLE)
    if wish:
        name, _, count = wish.partition(":")
        arm(name, int(count or 1))
