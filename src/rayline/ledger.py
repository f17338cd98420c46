"""What has been finished, addressed by content: the same command again skips it.

A step's key is the digest of everything that decides its result: the keys of the steps before it, its own
configuration and its input. A finished step is one JSON file, written aside and renamed, so a killed driver leaves
either the whole record or none. Places in the storage are written relative to it, so that another machine, or a moved
project folder, finds them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayline import storage
from rayline.storage import Hold

IN_STORAGE = "storage:"
"""What a place in the storage begins with in a record."""


def key_of(*parts: Any) -> str:
    """Return the SHA-256 digest (16 hex digits) of JSON-ready values, independent of the order of mapping keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Record:
    """One finished step: its name, its key, how long it took in seconds and its result as JSON-ready values."""

    step: str
    key: str
    seconds: float
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The finished steps of one project.

    Attributes:
        folder: where they are written.
        root: the storage that places in their results are relative to; None leaves these as they are.
    """

    folder: Path
    root: Path | None = None
    _holds: list[Hold] = field(default_factory=list, compare=False, repr=False)

    def find(self, step: str, key: str) -> Record | None:
        """Return the finished step, or None where it has not been finished with this key."""
        try:
            file = storage.refresh(self._file(step, key))
            raw = json.loads(file.read_text(encoding="utf-8"))
            record = Record(**{**raw, "result": self._placed(raw["result"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):  # an unreadable record counts as none: the step runs again
            return None
        return record if (record.step, record.key) == (step, key) else None

    def latest(self) -> dict[str, tuple[Record, float]]:
        """Return of each step the record that was written last, with the Unix time of that."""
        found: dict[str, tuple[Record, float]] = {}
        for file in self.folder.glob("*-*.json") if self.folder.is_dir() else ():
            try:
                record, at = Record(**json.loads(file.read_text(encoding="utf-8"))), file.stat().st_mtime
            except (OSError, ValueError, TypeError):
                continue
            if record.step not in found or found[record.step][1] < at:
                found[record.step] = record, at
        return found

    def write(self, record: Record) -> None:
        """Keep a finished step.

        Raises:
            CheckFailed: another driver has taken the project over.
            StorageError: the object store that it belongs to cannot be asked.
        """
        for hold in self._holds:
            hold.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(record.step, record.key)
        draft = file.with_suffix(f".{os.getpid()}.draft")
        fields = {
            "step": record.step,
            "key": record.key,
            "seconds": record.seconds,
            "result": self._relative(record.result),
        }
        with draft.open("w", encoding="utf-8") as output:
            json.dump(fields, output, indent=2)
            output.flush()
            os.fsync(output.fileno())
        draft.replace(file)
        storage.keep(file)

    @contextmanager
    def held(self, project: str) -> Iterator[None]:
        """Hold the project against a second driver, on this machine or on any that has the same storage.

        Raises:
            CheckFailed: another driver is at work on it; the message names its machine, process, job and since when.
                Or another has taken over meanwhile, because this one could not reach the storage.
            StorageError: the object store cannot be asked.
        """
        with storage.held(self.folder / "driver.lock", f"project '{project}'") as hold:
            self._holds.append(hold)
            try:
                yield
            finally:
                self._holds.remove(hold)

    def _relative(self, value: Any) -> Any:
        """Return a result with the places in the storage relative to it."""
        if isinstance(value, dict):
            return {key: self._relative(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._relative(each) for each in value]
        start = f"{self.root}{os.sep}"
        inside = self.root is not None and isinstance(value, str) and value.startswith(start)
        return f"{IN_STORAGE}{value.removeprefix(start)}" if inside else value

    def _placed(self, value: Any) -> Any:
        """Return a result with the places where they are for this process."""
        if isinstance(value, dict):
            return {key: self._placed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._placed(each) for each in value]
        inside = self.root is not None and isinstance(value, str) and value.startswith(IN_STORAGE)
        return str(Path(self.root or "") / value.removeprefix(IN_STORAGE)) if inside else value

    def _file(self, step: str, key: str) -> Path:
        return self.folder / f"{step}-{key}.json"
