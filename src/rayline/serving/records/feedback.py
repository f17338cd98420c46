"""Late truth: joined to the answer it belongs to, counted for the version that gave it, and written to disk.

A request id names its version and the replica that answered: ``VERSION-RRRRRRRRNNNNNNNN``. A replica remembers its
latest answers; truth that reaches another replica is passed on to the one that answered.

Truth that is passed on is stored first by the replica that a client told, as ``"passed_on": true`` and unmatched. It
travels in memory from there: where a process dies on the way, it is not counted for its version, and still on disk.
Where it arrives it is stored once more, so a reader takes the matched record of a request id where there is one.

Where its way ends and the answer is not remembered, as it is old or its replica is gone, it is stored as unmatched and
looked up in what was captured: see ``late_truth``. What is found there is counted and stored like any other.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import getrandbits
from typing import Any, Literal

from rayline import storage
from rayline.errors import RowError, ServiceError, StorageError
from rayline.serving.host import LONGEST_NUMBER, Host
from rayline.serving.wire import protocol

Joined = Literal["joined", "duplicate", "unmatched", "elsewhere"]

REMEMBERED = 100_000  # answers per replica
WRITE_EVERY_S = 0.25
KEEP_EVERY_S = 5.0  # between two copies to an object store
UNWRITTEN_LIMIT = 100_000  # records; beyond it the disk has failed, and truth is refused


@dataclass(frozen=True, slots=True)
class RequestId:
    """The parts of a request id."""

    version: int
    replica: str

    @classmethod
    def parse(cls, text: str) -> RequestId | None:
        """Return the parts, or None where the text is no request id."""
        number, dash, rest = text.partition("-")
        if not dash or not number.isdecimal() or len(number) >= LONGEST_NUMBER:
            return None
        if len(rest) != 16 or any(c not in "0123456789abcdef" for c in rest):
            return None
        return cls(int(number), rest[:8])


class Answers:
    """The latest answers of one replica by request id. Written by the hot path: constant time, bounded memory."""

    def __init__(self, tag: str, limit: int = REMEMBERED) -> None:
        """Remember at least half of ``limit`` answers. ``tag`` is the replica's, 8 hex digits."""
        self._tag = tag
        self._half = max(1, limit // 2)
        self._young: dict[str, tuple[int, list[Any]] | None] = {}
        self._old: dict[str, tuple[int, list[Any]] | None] = {}
        self._young_places: dict[str, Any] = {}
        self._old_places: dict[str, Any] = {}
        self._serial = itertools.count(getrandbits(32))

    def new_id(self, version: int) -> str:
        """Return the id of a new request."""
        return f"{version}-{self._tag}{next(self._serial) & 0xFFFFFFFF:08x}"

    def remember(self, request_id: str, version: int, outcomes: list[Any]) -> None:
        """Keep what a version answered."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
            self._old_places, self._young_places = self._young_places, {}
        self._young[request_id] = (version, outcomes)

    def place(self, request_id: str, codes: Any) -> None:
        """Keep where the rows of an answer lie: int64 (rows, slice columns). Comes in the background."""
        self._young_places[request_id] = codes

    def placed(self, request_id: str) -> Any:
        """Return what ``place`` kept, or None."""
        found = self._young_places.get(request_id)
        return self._old_places.get(request_id) if found is None else found

    def recall(self, request_id: str) -> tuple[int, list[Any]] | Literal["told"] | None:
        """Return version and outcomes; ``told`` once the truth has come; None where it is not remembered."""
        for answers in (self._young, self._old):
            if request_id in answers:
                return answers[request_id] or "told"
        return None

    def remember_told(self, request_id: str) -> None:
        """Keep an answer that was not remembered as one whose truth has come."""
        self.remember(request_id, 0, [])
        self._young[request_id] = None

    def told(self, request_id: str) -> None:
        """Mark an answer whose truth has come, so that the same truth sent twice counts once."""
        answers = self._young if request_id in self._young else self._old
        answers[request_id] = None


class FeedbackLog:
    """JSON lines on disk, one file per replica, written by a thread so that no request waits for the disk."""

    def __init__(self, path: Path) -> None:
        """Write to ``path``; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._records: list[bytes] = []
        self._unkept = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rayline-feedback", daemon=True)
        self._thread.start()

    def append(self, record: dict[str, Any]) -> None:
        """Take a record for writing. Raises ``ServiceError`` where the disk has not taken the earlier ones."""
        line = protocol.encode(record) + b"\n"  # here: what cannot be encoded must not end the thread that writes
        with self._lock:
            if len(self._records) >= UNWRITTEN_LIMIT:
                raise ServiceError(f"feedback cannot be written to '{self._path}'; look at the disk and send it again.")
            self._records.append(line)

    def close(self) -> None:
        """Write what is left."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        kept = time.monotonic()
        while not self._stop.wait(WRITE_EVERY_S):
            self._write()
            if self._unkept and time.monotonic() - kept >= KEEP_EVERY_S:
                kept = time.monotonic()
                self._keep()
        self._write()
        self._keep()

    def _keep(self) -> None:
        """Have the storage keep the file; where it cannot, the next round tries again."""
        with suppress(StorageError):
            storage.keep(self._path)
            self._unkept = False

    def _write(self) -> None:
        with self._lock:
            records, self._records = self._records, []
        if not records:
            return
        try:
            with self._path.open("ab") as file:
                file.write(b"".join(records))
            self._unkept = True
        except OSError:
            with self._lock:
                self._records = records + self._records


class Feedback:
    """Joins truth to answers in one replica."""

    def __init__(
        self,
        host: Host,
        answers: Answers,
        log: FeedbackLog,
        tag: str,
        slices_of: Callable[[str], Sequence[tuple[str, ...]] | None] = lambda request_id: None,
    ) -> None:
        """Join truth in the replica with ``tag``.

        Args:
            host: the live versions.
            answers: what this replica remembers.
            log: where truth is stored.
            tag: this replica's.
            slices_of: tells which slices the rows of a request belong to.
        """
        self._slices_of = slices_of
        self._tally = dict.fromkeys(("joined", "duplicate", "unmatched", "elsewhere", "found_late"), 0)
        self.look_up: Callable[[str, int, Sequence[Any]], None] = lambda request_id, version, labels: None
        """Takes truth whose answer is not remembered."""
        self._host = host
        self._answers = answers
        self._log = log
        self._tag = tag
        self._lock = threading.Lock()

    def join(self, request_id: str, labels: Sequence[Any], *, passed_on: bool = False) -> Joined:
        """Join truth to the answer it belongs to.

        Args:
            request_id: as the answer had it.
            labels: one per row.
            passed_on: another replica sent it here; this is where its way ends.

        Returns:
            ``elsewhere`` where another replica gave the answer: it is stored, and must be passed on.

        Raises:
            RowError: the id is none, or the labels do not fit the answer.
            ServiceError: it cannot be stored.
        """
        parts = RequestId.parse(request_id)
        if parts is None:
            raise RowError(0, None, request_id, "is no request id; send the request_id of an answer")
        with self._lock:  # requests and what other replicas pass on come from different threads
            outcome = self._join(request_id, parts, labels, passed_on)
            self._tally[outcome] += 1
            return outcome

    def facts(self) -> dict[str, int]:
        """Return how many truths, a request each, were joined, came twice, found no answer here, and were passed on.

        ``found_late`` of those without an answer found one in what was captured.
        """
        return dict(self._tally)

    def found(
        self,
        request_id: str,
        version: int,
        outcomes: list[Any],
        labels: Sequence[Any],
        slices: Sequence[tuple[str, ...]],
    ) -> None:
        """Count and store truth whose answer was found in what was captured; a second time it does nothing.

        Args:
            request_id: as the answer had it.
            version: that gave it; where it is not live, nothing is counted.
            outcomes, labels, slices: one per row.
        """
        served = self._host.table.versions.get(version)
        with self._lock:
            if served is None or self._answers.recall(request_id) == "told":
                return
            try:
                judged = served.judge(outcomes, labels, slices)
            except RowError:
                return  # labels that do not fit the answer; whoever sent them was answered long ago
            self._store(request_id, version, outcomes, labels)
            served.counters.told(judged)
            self._answers.remember_told(request_id)
            self._tally["found_late"] += 1

    def _join(self, request_id: str, parts: RequestId, labels: Sequence[Any], passed_on: bool) -> Joined:
        known = self._answers.recall(request_id)
        if known == "told":
            return "duplicate"
        if known is None and parts.replica != self._tag and not passed_on:
            self._store(request_id, parts.version, None, labels, passed_on=True)
            return "elsewhere"
        if known is None:
            self._store(request_id, parts.version, None, labels)
            self.look_up(request_id, parts.version, labels)
            return "unmatched"
        number, outcomes = known
        served = self._host.table.versions.get(number)
        judged = served.judge(outcomes, labels, self._slices_of(request_id)) if served is not None else None
        self._store(request_id, number, outcomes, labels)
        if served is not None and judged is not None:
            served.counters.told(judged)
        self._answers.told(request_id)
        return "joined"

    def _store(
        self,
        request_id: str,
        version: int,
        outcomes: Sequence[Any] | None,
        labels: Sequence[Any],
        *,
        passed_on: bool = False,
    ) -> None:
        self._log.append(
            {
                "at": time.time(),
                "request_id": request_id,
                "version": version,
                "matched": outcomes is not None,
                "passed_on": passed_on,
                "predictions": outcomes,
                "labels": list(labels),
            }
        )


PassOn = Callable[[str, str, Sequence[Any]], None]
"""Hands truth to the replica with a tag: (tag, request_id, labels)."""
