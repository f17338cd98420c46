"""Work in a thread of its own, which nobody has to wait for: an abort goes ahead while a load or a measure is slow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

ASK_S = 1.0
"""How often it is asked whether the work is still wanted, besides at each change: time may have run out."""

T = TypeVar("T")


class Overtaken(Exception):
    """What was being done is not wanted any more; its thread ends by itself, and nobody hears what came of it."""


class Apart(Generic[T]):
    """One piece of work under way in a daemon thread."""

    def __init__(self, work: Callable[[], T], changed: threading.Condition) -> None:
        """Begin. ``changed`` is notified at the end, and by whoever changes what is wanted."""
        self._work = work
        self._changed = changed
        self._value: T
        self._error: BaseException | None = None
        self._ended = False
        threading.Thread(target=self._run, name="rollout-work", daemon=True).start()

    def result(self, wanted: Callable[[], bool]) -> T:
        """Return what the work gave, or raise what it raised.

        Raises:
            Overtaken: ``wanted`` said no before it ended.
        """
        with self._changed:
            while not self._ended:
                if not wanted():
                    raise Overtaken
                self._changed.wait(ASK_S)
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
