"""Has this machine room: disk, shared memory, memory, open files, and paths short enough for sockets?"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rayline import cluster
from rayline.capacity.here import memory_here
from rayline.doctor.seam import Finding, Subject

GIB = 2**30
MIB = 2**20
RAYS_FULL = 0.95
"""The share of a disk, and of memory, in use beyond which Ray fails tasks (``RAY_local_fs_capacity_threshold``,
``RAY_memory_usage_threshold``)."""

NEARLY = 0.9
LEAST_DISK = GIB
LEAST_MEMORY = GIB
STORE_SHARE = 0.3
"""The share of memory that Ray's object store takes, where ``/dev/shm`` has it."""

SHARED_MEMORY = Path("/dev/shm")
FEW_FILES = 1_024
MANY_FILES = 8_192
LONGEST_SOCKET = 107
"""Characters of a Unix socket's path."""

BELOW_SESSION = "/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""The longest of what Ray puts below its folder."""


class DiskCheck:
    """Looks at the disks of the storage and of Ray's own files."""

    name = "disk"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen, for each disk once."""
        folders = {"Ray's files": Path(tempfile.gettempdir())}
        if subject.config is not None and "://" not in subject.config.storage:
            folders = {"storage": Path(subject.config.storage), **folders}
        devices: dict[int, Finding] = {}
        for what, folder in folders.items():
            there = existing(folder)
            devices.setdefault(there.stat().st_dev, _disk(what, there))
        return list(devices.values())


def _disk(what: str, folder: Path) -> Finding:
    used = shutil.disk_usage(folder)
    share = 1 - used.free / used.total
    seen = f"{what}: {_size(used.free)} of {_size(used.total)} free at '{folder}' ({share:.0%} used)"
    way_out = "Make room there, or move it: 'storage' in the configuration, TMPDIR for Ray's files."
    if share >= RAYS_FULL or used.free < LEAST_DISK / 4:
        return Finding("failed", f"{seen}: Ray stops taking work at {RAYS_FULL:.0%}", way_out)
    if share >= NEARLY or used.free < LEAST_DISK:
        return Finding("notice", seen, way_out)
    return Finding("ok", seen)


class SharedMemoryCheck:
    """Looks whether ``/dev/shm`` holds Ray's object store: where it does not, that lies on disk and is slow."""

    name = "shared memory"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        if not SHARED_MEMORY.is_dir():
            return [Finding("skipped", "there is no /dev/shm here")]
        size, wanted = shutil.disk_usage(SHARED_MEMORY), STORE_SHARE * memory_here()
        seen = f"/dev/shm has {_size(size.free)} of {_size(size.total)} free; Ray's object store takes {_size(wanted)}"
        if size.free < wanted:
            way_out = "Give the container more (docker run --shm-size, or a memory volume at /dev/shm)."
            return [Finding("notice", f"{seen}, so that it would lie on disk, or be smaller", way_out)]
        return [Finding("ok", seen)]


class MemoryCheck:
    """Looks at the memory that is left, of the container where there is one."""

    name = "memory"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        total, free = memory_here(), _memory_left()
        if free is None:
            return [Finding("ok", f"{_size(total)} in all")]
        seen = f"{_size(free)} of {_size(total)} left"
        way_out = "End what takes it: Ray kills workers once less than 5 % is left."
        if free < (1 - RAYS_FULL) * total:
            return [Finding("failed", seen, way_out)]
        return [Finding("notice", seen, way_out) if free < LEAST_MEMORY else Finding("ok", seen)]


class FilesCheck:
    """Looks how many files a process may have open: each worker and each connection takes some."""

    name = "open files"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        seen = f"a process may have {'any number of' if soft == resource.RLIM_INFINITY else f'{soft:,}'} files open"
        way_out = f"Raise it before Ray starts: ulimit -n {min(65_536, hard) if hard > 0 else 65_536}."
        if soft == resource.RLIM_INFINITY or soft >= MANY_FILES:
            return [Finding("ok", seen)]
        return [Finding("failed" if soft < FEW_FILES else "notice", seen, way_out)]


class PathCheck:
    """Looks whether Ray's sockets have a path that is short enough."""

    name = "socket paths"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        storage = Path(subject.config.storage) if subject.config is not None else Path(".rayline")
        folder = cluster.session_folder(storage)
        length = len(folder + BELOW_SESSION)
        seen = f"Ray's sockets below '{folder}' have {length} characters of at most {LONGEST_SOCKET}"
        if length > LONGEST_SOCKET:
            return [Finding("failed", seen, "Set TMPDIR to a folder with a shorter path.")]
        return [Finding("ok", seen)]


def existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _memory_left() -> int | None:
    with suppress(OSError, ValueError):
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return min(int(Path("/sys/fs/cgroup/memory.max").read_text()) - used, _machine_memory_left() or 0)
    return _machine_memory_left()


def _machine_memory_left() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
