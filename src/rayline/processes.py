"""The processes of this machine: which live, which stand below one, and how to end them by their id alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rayline.errors import ClusterError

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its id, its parent's, its state as ``ps`` tells it, and its command line."""

    pid: int
    parent: int
    state: str
    command: str


def living(pid: int | None = None) -> list[Process]:
    """Return this machine's living processes, or the one of that id where there is one. Raises ``ClusterError``."""
    return [each for each in listed(pid) if each.state[0] not in "ZX"]


def descendants(root: int) -> dict[int, str]:
    """Return the processes below one, with their command lines. Raises ``ClusterError``."""
    children: dict[int, list[Process]] = {}
    for each in listed():
        children.setdefault(each.parent, []).append(each)
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        for each in children.get(waiting.pop(), ()):
            found[each.pid] = each.command
            waiting.append(each.pid)
    return found


def kill(root: int, started: Mapping[int, str]) -> None:
    """Kill a process and what is left of those below it: Ray does not end what its workers started themselves.

    Args:
        root: its id.
        started: what ``descendants`` gave; an id that another program has by now is left alone.
    """
    for each in listed():
        if each.pid == root or started.get(each.pid) == each.command:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)


def listed(pid: int | None = None) -> list[Process]:
    """Return this machine's processes, ended ones that nobody has reaped too, or the one of that id where there is one.

    Raises:
        ClusterError: there is neither ``/proc`` nor the program ``ps``.
    """
    return _read(pid) if (PROC / "self" / "stat").exists() else _told_by_ps(pid)


def _read(pid: int | None) -> list[Process]:
    folders = [PROC / str(pid)] if pid is not None else [each for each in PROC.iterdir() if each.name.isdecimal()]
    found = []
    for folder in folders:
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is hidden from us
            continue
        # The program's name stands in parentheses and may hold some itself.
        state, parent = stat.rpartition(")")[2].split()[:2]
        found.append(Process(int(folder.name), int(parent), state, words.replace("\0", " ").strip()))
    return found


def _told_by_ps(pid: int | None) -> list[Process]:
    chosen = ["-e"] if pid is None else ["-p", str(pid)]
    try:
        done = subprocess.run(
            ["ps", "-ww", *chosen, "-o", "pid=", "-o", "ppid=", "-o", "stat=", "-o", "args="],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ClusterError("processes cannot be listed: there is neither /proc nor the program 'ps'.") from error
    lines = [line.split(None, 3) for line in done.stdout.splitlines() if line.strip()]
    return [Process(int(each[0]), int(each[1]), each[2], each[3] if len(each) > 3 else "") for each in lines]
