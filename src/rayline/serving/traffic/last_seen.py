"""When a service was last seen alive: one small file in its folder, which outlives the cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rayline import storage
from rayline.serving.names import service_folder

FILE = "seen.json"
EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A service as it was seen.

    Attributes:
        at: Unix time in seconds.
        replicas: how many followed it.
        generation: of its traffic plan.
    """

    at: float
    replicas: int
    generation: int


class LastSeen:
    """Writes the file now and then, for as long as replicas are heard."""

    def __init__(
        self, folder: Path, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Write into a service's folder."""
        self._path = folder / FILE
        self._wall = wall
        self._steady = steady
        self._due = 0.0

    def tell(self, replicas: int, generation: int) -> None:
        """Note that so many replicas are alive. A disk that refuses must not keep the service from its traffic."""
        if self._steady() < self._due:
            return
        self._due = self._steady() + EVERY_S
        draft = self._path.with_suffix(".draft")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(asdict(Seen(self._wall(), replicas, generation))), encoding="utf-8")
            draft.replace(self._path)
            storage.keep_soon(self._path)


def last_seen(folder: str | Path, service: str) -> Seen | None:
    """Return when a service was last seen alive, to about ``EVERY_S`` seconds; None where that is not known.

    Args:
        folder: the project's storage.
        service: its name.

    Raises:
        StorageError: the object store cannot be asked.
    """
    try:
        file = storage.refresh(service_folder(folder, service) / FILE)
        return Seen(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
