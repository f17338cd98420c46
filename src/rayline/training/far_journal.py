"""The journal of a group whose folder lies in an object store: one object for each process that writes to it.

An object is replaced whole, and there is no adding to one that others write too. A reader lists them now and then,
takes what is new of each, and puts the lines one after the other in the order in which it learned of them.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from rayline import storage

FOLDER = "group"
LOOK_SECONDS = 1.0
"""Between two looks of a reader: each is a request, and one more for each writer."""


@dataclass
class _Seen:
    """What a reader knows: the lines in order, and how much of each writer's it has taken."""

    text: bytes = b""
    taken: dict[str, int] = field(default_factory=dict)
    looked: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


_seen: dict[Path, _Seen] = {}


def append(out: Path, line: bytes) -> None:
    """Add a line to this process's file; the object store has it when this returns. Raises ``StorageError``."""
    file = storage.folder_of(out) / FOLDER / f"{socket.gethostname()}-{os.getpid()}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as output:
        output.write(line)
    storage.keep(file)


def read(out: Path) -> bytes:
    """Return all lines that are known; others are looked for where the last look was ``LOOK_SECONDS`` ago."""
    seen = _seen.setdefault(out, _Seen())
    with seen.lock:
        if not seen.looked or time.monotonic() - seen.looked >= LOOK_SECONDS:
            _look(out, seen)
            seen.looked = time.monotonic()
        return seen.text


def look_again(out: Path) -> None:
    """Have the next ``read`` look."""
    if out in _seen:
        _seen[out].looked = 0.0


def clear(out: Path) -> None:
    """Forget every line, and delete the files. In a plain folder there are none."""
    _seen.pop(out, None)
    if storage.is_object_store(out):
        shutil.rmtree(storage.folder_of(out) / FOLDER, ignore_errors=True)
        storage.forget(out / FOLDER)


def _look(out: Path, seen: _Seen) -> None:
    for path in storage.files_below(out / FOLDER):
        content = storage.refresh(path).read_bytes()
        start = seen.taken.get(path.name, 0)
        end = content.rfind(b"\n") + 1
        if end > start:
            seen.text += content[start:end]
            seen.taken[path.name] = end
