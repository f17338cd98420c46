"""A queue on disk: one file that only grows, and beside it how far it has been delivered.

``NAME.jsonl`` holds the records; one process appends (an advisory lock on the file), one thread anywhere delivers (a
lock on ``NAME.lock``). ``NAME.json`` holds the state, replaced whole after each delivered call: where to go on, and
which run of the store each of our keys is. It stays when the queue is empty and its file removed. Losing the state
costs time, never an entry: what is delivered again is found, or leaves the same result.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rayline import storage
from rayline.errors import CheckFailed
from rayline.registry.spool_records import Placed, amount, lines_in

CHUNK = 1 << 20  # bytes read at once
WAIT_SECONDS = 5.0  # for a sweep of what an earlier process left, which holds the file for a moment


class State(msgspec.Struct):
    """How far a queue has been delivered.

    Attributes:
        offset: bytes of the file that are delivered.
        runs: the store's id of each of our keys.
        refused: how many records the store would not take, and why the last of them.
    """

    offset: int = 0
    runs: dict[str, str] = msgspec.field(default_factory=dict)
    refused: int = 0
    reason: str = ""


@dataclass
class SpoolFile:
    """One queue on disk.

    Attributes:
        path: of the file of records.
    """

    path: Path
    _output: int | None = field(default=None, init=False)
    _size: int = field(default=0, init=False)
    _late: list[bytes] = field(default_factory=list, init=False)
    _kept: tuple[tuple[int, int] | None, ...] = field(default=(None, None), init=False)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.path.stem

    @property
    def files(self) -> Path:
        """The folder of the queue's own files."""
        return self.path.with_suffix(".files")

    @property
    def state_path(self) -> Path:
        """The file of how far it has been delivered."""
        return self.path.with_suffix(".json")

    def bring(self) -> None:
        """Bring what another machine has kept of it in the same storage, where that is newer."""
        for path in (self.path, self.state_path):
            storage.refresh(path)
        for path in storage.files_below(self.files) if storage.is_object_store(self.files) else ():
            storage.fetch(path)

    def keep_soon(self) -> None:
        """Have the storage keep what has changed, in the background: this machine may not come back."""
        marks = tuple(_mark(path) for path in (self.path, self.state_path))
        for path, mark, before in zip((self.path, self.state_path), marks, self._kept, strict=True):
            if mark is not None and mark != before:
                storage.keep_soon(path)
        self._kept = marks

    @property
    def blocked(self) -> bool:
        """Whether records wait in memory, because the disk has no room."""
        return bool(self._late)

    @property
    def empty(self) -> bool:
        """Whether nothing has been appended since the file was made."""
        return self._size == 0

    def open(self) -> None:
        """Open the file to append, without the unfinished line that a killed writer left.

        Raises:
            CheckFailed: another process appends to it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + WAIT_SECONDS
        while self._output is None:
            output = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            if _taken(output) and _same(output, self.path):
                self._output = output
                break
            os.close(output)
            if time.monotonic() > deadline:
                raise CheckFailed(f"another process writes '{self.path}'. Wait until it ends, or stop it.")
            time.sleep(0.02)
        self._size = self._whole()
        os.ftruncate(self._output, self._size)
        state = self.state()
        if state.offset > self._size:  # a machine that stopped lost the file's end, which had been delivered
            self.keep(msgspec.structs.replace(state, offset=self._size))

    def append(self, line: bytes) -> None:
        """Add a line: it outlives this process at once, and the machine after ``sync``.

        Where the disk has no room the line waits in memory, with all that follow; the next call tries again.
        """
        if self._late:
            self._late.append(line)
            self.retry()
            return
        try:
            self._write(line)
        except OSError:
            self._late.append(line)

    def retry(self) -> None:
        """Write what waits in memory, where the disk has room again."""
        with suppress(OSError):
            while self._late:
                self._write(self._late[0])
                self._late.pop(0)

    def _write(self, line: bytes) -> None:
        assert self._output is not None
        if os.write(self._output, line) != len(line):
            os.ftruncate(self._output, self._size)  # half a line at the end of a full disk
            raise OSError
        self._size += len(line)

    def sync(self) -> None:
        """Have the disk keep what was appended."""
        if self._output is not None:
            os.fsync(self._output)

    def close(self) -> None:
        """Append no more."""
        if self._output is not None:
            os.close(self._output)
            self._output = None

    def read(self, offset: int) -> tuple[Placed, ...]:
        """Return the next records from a byte on: about a mebibyte of them; empty where there is no whole line."""
        try:
            with self.path.open("rb") as content:
                content.seek(offset)
                piece = content.read(CHUNK)
                while piece and b"\n" not in piece and (more := content.read(CHUNK)):
                    piece += more
        except FileNotFoundError:
            return ()
        return tuple(lines_in(piece, offset))

    def records(self, offset: int = 0) -> Iterator[Placed]:
        """Yield all records from a byte on."""
        while found := self.read(offset):
            yield from found
            offset = found[-1].end

    def waiting(self) -> tuple[int, int]:
        """Return how many points, and how many records, are not delivered."""
        left = [amount(placed.record) for placed in self.records(self.state().offset)]
        return sum(left), len(left) + len(self._late)

    def state(self) -> State:
        """Return how far it has been delivered; from the beginning where that was lost."""
        try:
            return msgspec.json.decode(self.path.with_suffix(".json").read_bytes(), type=State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return State()

    def keep(self, state: State) -> None:
        """Replace the state."""
        draft = self.path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(state))
        os.replace(draft, self.path.with_suffix(".json"))

    @contextmanager
    def delivering(self) -> Iterator[bool]:
        """Hold the queue against a second deliverer; gives False where there is one."""
        place = self.path.with_suffix(".lock")
        lock = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield _taken(lock) and _same(lock, place)
        finally:
            os.close(lock)

    def remove_if_delivered(self) -> bool:
        """Remove the file of a delivered queue that nobody else appends to; tells whether it is gone."""
        try:
            output = self._output if self._output is not None else os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            state = self.state()
            if not _taken(output) or self.read(state.offset):
                return False
            self.keep(msgspec.structs.replace(state, offset=0))
            self.path.unlink(missing_ok=True)
            for gone in (self.path, self.files):
                storage.forget_soon(gone)
            storage.keep_soon(self.state_path)
            with suppress(OSError):
                self.files.rmdir()
            self.path.with_suffix(".lock").unlink(missing_ok=True)
            return True
        finally:
            if output != self._output:
                os.close(output)

    def _whole(self) -> int:
        """Return where the last finished line ends."""
        size = self.path.stat().st_size
        with self.path.open("rb") as content:
            end = size
            while end > 0:
                start = max(0, end - CHUNK)
                content.seek(start)
                newline = content.read(end - start).rfind(b"\n")
                if newline >= 0:
                    return start + newline + 1
                end = start
        return 0


def _mark(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _taken(file: int) -> bool:
    """Take the advisory lock of an open file, which the kernel drops when this process dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(file: int, path: Path) -> bool:
    """Tell whether an open file is still the one at its path: a sweep may have removed it before it was locked."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
