"""What has been finished, addressed by content: the same command again skips it.

A step's key is the digest of everything that decides its result: the keys of the steps before it, its own
configuration and its input. A finished step is one JSON file, written aside and renamed, so a killed driver leaves
either the whole record or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline.errors import CheckFailed


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
    """The finished steps of one project, in ``folder``."""

    folder: Path

    def find(self, step: str, key: str) -> Record | None:
        """Return the finished step, or None where it has not been finished with this key."""
        try:
            record = Record(**json.loads(self._file(step, key).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # an unreadable record counts as none: the step runs again
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
        """Keep a finished step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(record.step, record.key)
        draft = file.with_suffix(f".{os.getpid()}.draft")
        fields = {"step": record.step, "key": record.key, "seconds": record.seconds, "result": record.result}
        with draft.open("w", encoding="utf-8") as output:
            json.dump(fields, output, indent=2)
            output.flush()
            os.fsync(output.fileno())
        draft.replace(file)

    @contextmanager
    def held(self, project: str) -> Iterator[None]:
        """Hold the project against a second driver.

        Raises:
            CheckFailed: another driver is at work on it; the message names its process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "driver.lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise CheckFailed(
                    f"project '{project}' is being run by process {lock.read().strip() or 'unknown'}. "
                    "Wait until it ends, or stop it and run the same command again: it resumes."
                ) from None
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _file(self, step: str, key: str) -> Path:
        return self.folder / f"{step}-{key}.json"
