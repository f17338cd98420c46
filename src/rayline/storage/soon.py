"""Keeping in the background, in order: a training does not wait for the network.

One thread of this process does what it is given, one after the other. What is asked for again before it was begun is
done once. ``settle`` waits for it, and raises what went wrong.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rayline.errors import StorageError
from rayline.storage.keeping import forget, keep
from rayline.storage.places import place_of


class _Queue:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[tuple[str, Path], Callable[[Path], None]] = {}
        self._busy = False
        self._failed: dict[Path, StorageError] = {}
        self._thread: threading.Thread | None = None

    def add(self, what: str, path: Path, do: Callable[[Path], None]) -> None:
        with self._changed:
            if what == "forget":
                self._waiting.pop(("keep", path), None)
            self._waiting.setdefault((what, path), do)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="rayline-keep", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and not self._waiting)
            failed, self._failed = self._failed, {}
        for path, error in failed.items():
            if path.exists():
                keep(path)  # it may work by now; else it is raised
            del error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                key = next(iter(self._waiting))
                do = self._waiting.pop(key)
                self._busy = True
            try:
                do(key[1])
                self._failed.pop(key[1], None)
            except StorageError as error:
                self._failed[key[1]] = error
            except OSError:  # the file went away before its turn: somebody pruned it
                pass
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()


_queue = _Queue()


def keep_soon(path: Path) -> None:
    """Keep a finished file or folder in the background; it may be gone again by then."""
    if place_of(path) is not None:
        _queue.add("keep", path, keep)


def forget_soon(path: Path) -> None:
    """Delete a file or folder from the storage in the background, after what was given before."""
    if place_of(path) is not None:
        _queue.add("forget", path, forget)


def settle() -> None:
    """Wait until all that was given is done; what failed is tried once more. Raises ``StorageError``."""
    _queue.settle()
