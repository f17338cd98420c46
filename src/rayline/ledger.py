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
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rayline import storage
from rayline.errors import StorageError
from rayline.storage import Hold
from rayline.storage.places import relative

IN_STORAGE = "storage:"
"""What a place in the storage begins with in a record."""


def key_of(*parts: Any) -> str:
    """Return the SHA-256 digest (16 hex digits) of JSON-ready values, independent of the order of mapping keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Record:
    """One finished step: its name, its key, how long it took in seconds and its result as JSON-ready values.

    ``at`` is the Unix time of writing.
    """

    step: str
    key: str
    seconds: float
    result: dict[str, Any]
    at: float = field(default=0.0, compare=False)


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
        record = self._read(self._file(step, key))
        return record if record is not None and (record.step, record.key) == (step, key) else None

    def newest(self) -> list[Record]:
        """Return every finished step, what was written last first; here or in the object store it belongs to."""
        found = [self._read(self.folder / name) for name in storage.names(self.folder) if fnmatch(name, "*-*.json")]
        return sorted((each for each in found if each is not None), key=lambda each: -each.at)

    def latest(self) -> dict[str, Record]:
        """Return of each step the record that was written last."""
        return {each.step: each for each in reversed(self.newest())}

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
            "at": record.at or time.time(),
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
                storage.settle()
            except BaseException:
                with suppress(StorageError):  # what is raised already says more
                    storage.settle()
                raise
            finally:
                self._holds.remove(hold)

    def _read(self, path: Path) -> Record | None:
        try:
            file = storage.refresh(path)
            raw = json.loads(file.read_text(encoding="utf-8"))
            written = file.stat().st_mtime  # of a record that does not say when
            return Record(**{"at": written, **raw, "result": self._placed(raw["result"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):  # an unreadable record counts as none: the step runs again
            return None

    def _relative(self, value: Any) -> Any:
        """Return a result with the places in the storage relative to it."""
        if isinstance(value, dict):
            return {key: self._relative(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._relative(each) for each in value]
        inside = relative(Path(value), self.root) if self.root is not None and _is_path(value) else None
        return value if inside is None else f"{IN_STORAGE}{inside}"

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


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(os.sep) and "\n" not in value
