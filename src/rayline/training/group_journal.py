"""What the workers of a group tell the driver: lines of a file in the training's folder, which every node reaches.

A file needs no process of its own, and what was written before a worker was killed is still there. In an object store,
where nothing can be added to, each process has a file of its own: see ``far_journal``. Each attempt of the
group writes the epochs of the one before again; the reader passes an epoch on once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rayline import errors
from rayline.errors import RaylineError, TrainingFailed
from rayline.storage import is_object_store
from rayline.training import far_journal
from rayline.training.context import Listener
from rayline.training.spec import EpochReport

FILE = "group.jsonl"
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One worker process: its rank among how many, and where it runs."""

    rank: int
    world: int
    pid: int
    node: str


def tell_member(out: Path, member: GroupMember) -> None:
    """Write that a worker has started."""
    _append(out, {"member": asdict(member)})


def tell_epoch(out: Path, report: EpochReport, world: int) -> None:
    """Write that an epoch has ended, in a group of ``world`` workers."""
    _append(out, {"epoch": report.epoch, "metrics": dict(report.metrics), "at": report.at, "world": world})


def tell_notice(out: Path, text: str) -> None:
    """Write what the user should know, and that stops nothing."""
    _append(out, {"notice": text})


def tell_failure(out: Path, error: RaylineError) -> None:
    """Write what must end the training: another attempt would fail the same way."""
    _append(out, {"failure": type(error).__name__, "text": str(error)})


def failure(out: Path) -> RaylineError | None:
    """Return what a worker of this training failed with, or None."""
    far_journal.look_again(out)
    for line in _lines(out):
        if "failure" in line:
            return _error(line["failure"], line["text"])
    return None


def members(out: Path) -> list[GroupMember]:
    """Return every worker process that a training has started, in order; those of ended attempts too."""
    far_journal.look_again(out)
    return [GroupMember(**line["member"]) for line in _lines(out) if "member" in line]


def last_start(out: Path) -> list[GroupMember]:
    """Return the workers of the group's last start; while it is starting, some of the one before."""
    found = members(out)
    return found[-found[-1].world :] if found else []


def worlds(out: Path) -> dict[int, int]:
    """Return, for each finished epoch, how many workers trained it (the first time, where it was told again)."""
    found: dict[int, int] = {}
    for line in _lines(out):
        if "epoch" in line:
            found.setdefault(line["epoch"], line["world"])
    return found


def clear(out: Path) -> None:
    """Begin a new journal: what an ended driver's workers wrote is told again from the checkpoints."""
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).unlink(missing_ok=True)
    far_journal.clear(out)


class JournalReader:
    """Passes on what the workers tell, in a thread of its own: each epoch once, in order."""

    def __init__(self, out: Path, on_epoch: Listener, on_notice: Callable[[str], None]) -> None:
        self._out = out
        self._on_epoch = on_epoch
        self._on_notice = on_notice
        self._last = 0
        self._read = 0
        self._failure: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="rayline-group-journal", daemon=True)

    def __enter__(self) -> JournalReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        far_journal.look_again(self._out)
        self._pass_on()

    @property
    def last_epoch(self) -> int:
        """The last epoch that was passed on; 0 before the first."""
        return self._last

    def raise_failure(self) -> None:
        """Raise what a listener raised; it was asked no more after that."""
        if self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._pass_on()

    def _pass_on(self) -> None:
        lines = list(_lines(self._out, self._read))
        self._read += len(lines)
        for line in lines:
            if self._failure is not None:
                return
            try:
                self._tell(line)
            except Exception as error:  # noqa: BLE001 - kept for the caller's thread
                self._failure = error

    def _tell(self, line: dict[str, Any]) -> None:
        if "notice" in line:
            self._on_notice(line["notice"])
        if line.get("epoch") == self._last + 1:
            self._last += 1
            self._on_epoch(EpochReport(line["epoch"], line["metrics"], line["at"]))


def _append(out: Path, line: dict[str, Any]) -> None:
    """Write a line in one call, so that those of several workers do not mix."""
    content = (json.dumps(line) + "\n").encode()
    if is_object_store(out):
        far_journal.append(out, content)
        return
    handle = os.open(out / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, content)
    finally:
        os.close(handle)


def _lines(out: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """Give the whole lines from the ``start``-th on; one that is still being written waits for the next look."""
    try:
        text = far_journal.read(out) if is_object_store(out) else (out / FILE).read_bytes()
    except FileNotFoundError:
        return
    for line in text.split(b"\n")[start:-1]:
        try:
            yield json.loads(line)
        except ValueError:  # half a line of a killed writer
            yield {}


def _error(name: str, text: str) -> RaylineError:
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, RaylineError)):
        return TrainingFailed(text)
    try:
        return kind(text)
    except TypeError:  # one whose parts are more than its text
        return TrainingFailed(text)
