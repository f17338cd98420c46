"""What versions take in memory, and whether one more fits: sizes in MiB.

Before a version is loaded, its bundle's files say what it needs at least: weights lie on disk as they lie in memory.
What it took is how much the process grew while it loaded, which counts the libraries that it brought as well; where
other versions loaded in the same moment nobody can tell whose growth it was, and the files' size stands for it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline.errors import ServiceError

MIB = 1024**2
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Room:
    """What a process holds and may hold.

    Attributes:
        held: resident memory of the process.
        limit: what it may hold; None where no limit is set.
        free: what the machine, or the container, has left; None where that is not known.
    """

    held: float
    limit: float | None = None
    free: float | None = None

    def refuse(self, number: int, needs: float) -> None:
        """Refuse a version that is not loaded yet and would not fit.

        Raises:
            ServiceError: it names what the version needs and what there is.
        """
        if self.limit is not None and self.held + needs > self.limit:
            raise ServiceError(
                f"version {number} needs {needs:.0f} MB, replica holds {self.held:.0f} of {self.limit:.0f} MB; unload "
                "a version, place this one remote or raise service.memory_limit_mb."
            )
        if self.free is not None and needs > self.free:
            raise ServiceError(
                f"version {number} needs {needs:.0f} MB, and the machine has {self.free:.0f} MB left; unload a version "
                "or give the node more memory."
            )

    def refuse_loaded(self, number: int, took: float) -> None:
        """Refuse a version whose loading filled the process beyond its limit. Raises ``ServiceError``."""
        if self.limit is not None and self.held > self.limit:
            raise ServiceError(
                f"version {number} took {took:.0f} MB, and replica holds {self.held:.0f} of {self.limit:.0f} MB with "
                "it; unload a version, place this one remote or raise service.memory_limit_mb."
            )


def room(limit: float | None) -> Room:
    """Return what this process holds at this moment, and may hold."""
    return Room(resident_mb(), limit, free_mb())


def bundle_mb(path: str | Path) -> float:
    """Return the size of a bundle's files; 0 where there is none, which loading tells better."""
    return sum(each.stat().st_size for each in Path(path).rglob("*") if each.is_file()) / MIB


def resident_mb() -> float:
    """Return what this process holds in memory: now where the system tells it, else the most so far."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MIB if sys.platform == "darwin" else most / 1024


def free_mb() -> float | None:
    """Return what the machine has left, or its container where that is less; None where neither says so."""
    known = [each for each in (_machine_mb(Path("/proc/meminfo")), _container_mb(_CGROUP)) if each is not None]
    return min(known, default=None)


def _machine_mb(meminfo: Path) -> float | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) / 1024
    except (OSError, ValueError, KeyError):
        return None


def _container_mb(folder: Path) -> float | None:
    """Return what a control group (version 2) leaves; file pages that it could give back count as left."""
    try:
        most, used = (folder / "memory.max").read_text().strip(), int((folder / "memory.current").read_text())
        inactive = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())["inactive_file"]
        return None if most == "max" else (int(most) - used + int(inactive)) / MIB
    except (OSError, ValueError, KeyError):
        return None


class Scales:
    """Weighs what is loaded into this process. Threads may use it at once."""

    def __init__(self, limit: float | None = None) -> None:
        """Refuse what would not fit into ``limit`` MiB, or into what the machine has left."""
        self._limit = limit
        self._lock = threading.Lock()
        self._loading = 0
        self._begun = 0
        self._weights: dict[int, float] = {}

    @contextmanager
    def weighing(self, number: int, needs: float) -> Iterator[None]:
        """Weigh what is loaded within, as a version.

        Args:
            number: the version's.
            needs: what it is known to need at least.

        Raises:
            ServiceError: it does not fit, as known before or as measured after.
        """
        room(self._limit).refuse(number, needs)
        with self._lock:
            self._loading += 1
            self._begun += 1
            alone, begun = self._loading == 1, self._begun
        before = resident_mb()
        try:
            yield
        finally:
            with self._lock:
                self._loading -= 1
                alone = alone and begun == self._begun
        grown = resident_mb() - before
        took = max(needs, grown) if alone else needs
        room(self._limit).refuse_loaded(number, took)
        self._weights[number] = took

    def report(self, numbers: Iterable[int]) -> dict[str, Any]:
        """Return what these versions took and what the process holds, in MiB, JSON-ready."""
        return {
            "versions": {str(number): round(self._weights.get(number, 0.0), 1) for number in numbers},
            "held": round(resident_mb(), 1),
            "limit": self._limit,
        }
