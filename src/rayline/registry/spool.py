"""The durable queue between a run and MLflow: what is to be written is on disk at once, and in MLflow when it can be.

A training thread pays for one small append; a background thread delivers in batches, waits while the store cannot be
reached, and a later process delivers what was left. In the store each thing is found once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rayline import storage
from rayline.registry.spool_delivery import POINTS_PER_CALL, REST, Courier, sweep
from rayline.registry.spool_file import SpoolFile
from rayline.registry.spool_records import Batch, Data, File, Record, Start, Status, Text, is_key, line_of, written
from rayline.registry.store import Point, RunStatus, Store, flat, now_ms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.features.facts import DataFacts
    from rayline.features.schemas.schema import Schema

DRAIN_SECONDS = 10.0  # without any progress, at the end of a run
START_SECONDS = 2.0
KEEP_SECONDS = 5.0  # between two copies of a queue to an object store
FLUSH_SECONDS = 1.0  # a kill loses no more of the steps since the last epoch, which are trained again
Notice = Callable[[str], None]


@dataclass
class Tracking:
    """Where runs are written to: queues in ``folder``, delivered to one store.

    Attributes:
        folder: of this store's queues; another store has another folder.
        connect: gives the store; raises ``TrackingError`` while it cannot be reached, and is asked again.
        notice: hears what the user should know; called from several threads.
    """

    folder: Path
    connect: Callable[[], Store]
    notice: Notice = lambda text: None
    drain_seconds: float = DRAIN_SECONDS

    def open(self, name: str, *, resumed: bool = False, rest: float = REST) -> Spool:
        """Open the queue of a run, or of a Study with its trials, to write; what it holds already stays.

        Args:
            name: the run's key: unique for ever, and it holds a hyphen, which no id of the store does.
            resumed: the run was begun before: where its queue is lost, it is looked for in the store.
            rest: how long delivery rests after a call to the store, in times of its own length.

        Raises:
            CheckFailed: another process writes it.
        """
        file = SpoolFile(self.folder / f"{name}.jsonl")
        file.bring()
        return Spool(file, self, resumed, rest)

    def run_id(self, run: str) -> str | None:
        """Return the store's id of a run's key, None while it is not delivered; an id stands for itself."""
        if not is_key(run):
            return run
        file = SpoolFile(self.folder / f"{run.partition('/')[0]}.jsonl")
        storage.fetch(file.state_path)
        return file.state().runs.get(run)

    def deliver_left(self, store: Store | None = None) -> None:
        """Deliver, in order, what earlier processes could not; ``left`` tells what still waits.

        Raises:
            TrackingError: no ``store`` was given, something waits, and the store cannot be reached.
        """
        if self._bring_left():
            sweep(self.folder, store or self.connect())

    def left(self) -> dict[Path, str]:
        """Tell of each queue that is not delivered where and how much it is."""
        files = [SpoolFile(path) for path in self._bring_left()]
        return {file.path: waiting_text(file) for file in files if file.waiting()[1]}

    def _bring_left(self) -> list[Path]:
        """Return the queues of earlier processes, on this machine or on others that have the same storage."""
        paths = [self.folder / name for name in storage.names(self.folder) if name.endswith(".jsonl")]
        for path in paths:
            SpoolFile(path).bring()
        return sorted(self.folder.glob("*.jsonl"))


def waiting_text(file: SpoolFile) -> str:
    """Tell how much of a queue waits, and when it will be delivered."""
    points, records = file.waiting()
    what = f"{points:,} points" if points else f"{records:,} entries"
    return f"{what} for MLflow wait in '{file.path}'; they are delivered by the next rayline command"


@dataclass
class Spool:
    """One open queue. Meets ``RunWrites``, with keys of its own as well as ids of the store.

    Every method but ``log_metrics`` returns once the operating system has its record and all before it, which a kill of
    this process leaves alone. All may be called from several threads.
    """

    file: SpoolFile
    tracking: Tracking
    resumed: bool = False
    rest: float = REST
    _courier: Courier = field(init=False, repr=False)
    _points: deque[tuple[str, Sequence[Point]]] = field(default_factory=deque, init=False, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _started: set[str] = field(default_factory=set, init=False, repr=False)
    _ended: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        self.file.open()
        self._courier = Courier(self.file, self.tracking.connect, self.tracking.notice, self.flush, self.rest)
        known = self._courier.delivery.state.runs.keys()
        self._started |= known
        self._certain = bool(known) or not self.resumed
        self.last_steps: dict[tuple[str, str], int] = {}
        for placed in self.file.records():
            self._seen(placed.record)
        if not self._started - known and self.file.empty:  # all was delivered, and its file removed
            self._ended |= known
        self._courier.start()
        # Not the courier's: that may hang in a call to the store for minutes.
        threading.Thread(target=self._write, name=f"write-{self.file.name}", daemon=True).start()

    def _write(self) -> None:
        kept = time.monotonic()
        while not self._closed.wait(FLUSH_SECONDS):
            if self._points:
                self.flush()
            if time.monotonic() - kept >= KEEP_SECONDS:
                self.file.keep_soon()
                kept = time.monotonic()

    def _seen(self, record: Record | None) -> None:
        """Learn from a record of an earlier attempt what has been told already."""
        if isinstance(record, Start):
            self._started.add(record.run)
        elif isinstance(record, Status):
            (self._ended.discard if record.status == "RUNNING" else self._ended.add)(record.run)
        elif isinstance(record, Batch):
            for point in record.points:
                key = (record.run, point.name)
                self.last_steps[key] = max(point.step, self.last_steps.get(key, point.step))

    def ended(self, key: str) -> bool:
        """Tell whether a run has been told to its end: nothing of it needs to be told again."""
        return key in self._ended

    def start_run(
        self,
        key: str,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        parent: str | None = None,
        at_ms: int | None = None,
    ) -> bool:
        """Open a run under a key, nested below ``parent``; tells whether it is new: a second call does nothing.

        Args:
            key: the queue's name, or that with ``/`` and more.
        """
        if key in self._started:
            return False
        self._started.add(key)
        if self._certain:
            self._courier.delivery.certain.add(key)
        at = now_ms() if at_ms is None else at_ms
        self._append(Start(key, experiment, name, dict(tags), at, parent))
        return True

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Keep parameters."""
        self._append(Batch(run_id, params=flat(params)))

    def log_metrics(self, run_id: str, metrics: Sequence[Point]) -> None:
        """Keep points: on disk within ``FLUSH_SECONDS``, or with the next call of any other method.

        So a call in every step costs next to nothing: another thread writes, and a training thread makes no call to the
        system, after which it might wait for its turn.
        """
        self._points.append((run_id, metrics))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self._append(Batch(run_id, tags=dict(tags)))

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Keep points, parameters and tags."""
        self._append(Batch(run_id, written(points), flat(params), dict(tags)))

    def log_datasets(self, run_id: str, facts: DataFacts, schema: Schema) -> None:
        """Keep which data a run used."""
        self._append(Data(run_id, facts.to_json(), schema.to_json()))

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text."""
        self._append(Text(run_id, text, path))

    def log_file(self, run_id: str, file: Path, path: str) -> None:
        """Keep a file; it must stay where it is until it is delivered.

        One of a folder that an object store keeps is copied: whoever delivers may be on another machine.
        """
        if storage.is_object_store(file):
            self.log_bytes(run_id, file.read_bytes(), path)
            return
        self._append(File(run_id, str(file.absolute()), path, own=False))

    def log_bytes(self, run_id: str, content: bytes, path: str) -> None:
        """Keep an artifact that is in memory."""
        own = self._own(path)
        own.write_bytes(content)
        storage.keep_soon(own)
        self._append(File(run_id, str(own), path, own=True))

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        """Keep a figure."""
        own = self._own(path)
        figure.savefig(own)
        storage.keep_soon(own)
        self._append(File(run_id, str(own), path, own=True))

    def finish_run(self, run_id: str, status: RunStatus = "FINISHED", at_ms: int | None = None) -> None:
        """Close a run, or open it again."""
        record = Status(run_id, status, now_ms() if at_ms is None else at_ms)
        self._seen(record)
        self._append(record)

    def run_id(self, key: str, seconds: float = START_SECONDS) -> str:
        """Return the store's id of a run; the key itself where the store has not opened it within some seconds."""
        runs = self._courier.delivery.state.runs
        if key not in runs:
            self._courier.wait(lambda: key in runs, seconds)
        return runs.get(key, key)

    def drain(self, seconds: float | None = None) -> bool:
        """Wait until everything is delivered, at most so long without progress; tell whether it is."""
        self.flush()
        return self._courier.wait(self._courier.delivered, self.tracking.drain_seconds if seconds is None else seconds)

    def close(self, seconds: float | None = None, *, over: bool = False) -> None:
        """Deliver what is left, wait no longer than ``drain``, and tell where it waits where that was too short.

        Args:
            seconds: as for ``drain``.
            over: nothing more is to come: an empty queue is removed.
        """
        done = self.drain(seconds)
        self._closed.set()
        self._courier.stop()
        state = self._courier.delivery.state
        if state.refused:
            self.tracking.notice(f"MLflow refused {state.refused} of what this run told it, the last: {state.reason}")
        if done:
            self._courier.join()  # it holds nothing that could block
            if over:
                self.file.remove_if_delivered()
        else:
            self.file.sync()
            self.tracking.notice(waiting_text(self.file))
        self.file.close()
        self.file.keep_soon()

    def leave(self) -> None:
        """Close at once: what is left is delivered by the next sweep."""
        self._closed.set()
        self._courier.stop()
        self.flush()
        self.file.sync()
        self.file.close()
        self.file.keep_soon()

    def flush(self) -> None:
        """Put on disk what is in memory."""
        with self._lock:
            self._put([])

    def _append(self, record: Record) -> None:
        with self._lock:
            self._put([line_of(record)])

    def _put(self, lines: list[bytes]) -> None:
        """Write the points that wait, and then some lines."""
        points = []
        while self._points:
            points.append(self._points.popleft())
        before = [line_of(batch) for batch in _batches(points)]
        if before or lines or self.file.blocked:
            self.file.append(b"".join([*before, *lines]))

    def _own(self, path: str) -> Path:
        self.file.files.mkdir(parents=True, exist_ok=True)
        return self.file.files / f"{uuid4().hex[:12]}-{Path(path).name}"


def _batches(told: Iterable[tuple[str, Sequence[Point]]]) -> Iterator[Batch]:
    """Yield what was told, with neighbouring points of one run in one batch of a size that the store takes at once."""
    for run, group in groupby(told, key=lambda each: each[0]):
        points = [point for _, some in group for point in some]
        for start in range(0, len(points), POINTS_PER_CALL):
            yield Batch(run, points=written(points[start : start + POINTS_PER_CALL]))
