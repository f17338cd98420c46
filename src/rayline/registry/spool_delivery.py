"""Takes what a queue holds to the store, in order, each thing once as the store's readers see it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayline import storage
from rayline.errors import NotFoundError, SchemaError, TrackingError, TrackingRefused, UsageError
from rayline.registry.spool_file import SpoolFile, State
from rayline.registry.spool_records import (
    Batch,
    Data,
    File,
    Placed,
    Record,
    Start,
    Status,
    Text,
    is_key,
    merged,
    read_back,
)
from rayline.registry.store import Store

KEY_TAG = "rayline.key"
POINTS_PER_CALL = 800
PACE_SECONDS = 2.0  # between two deliveries of a running training
REST = 9.0  # times as long as a call took: MLflow's Python holds up that of a training in the same process
LONGEST_REST = 10.0  # seconds
LIMIT = 10.0  # times the seconds without progress: the longest wait in all
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 10.0  # seconds, while the store cannot be reached
SLOW_SECONDS = 5.0  # an answer that took longer may have been asked for twice on its way


@dataclass
class Delivery:
    """One queue's way to the store.

    Attributes:
        file: the queue.
        certain: keys whose ``Start`` this process wrote itself and has not sent before: no search is needed.
    """

    file: SpoolFile
    certain: set[str] = field(default_factory=set)
    _state: State | None = field(default=None, init=False)
    _doubtful: set[str] = field(default_factory=set, init=False)

    @property
    def state(self) -> State:
        """How far it is; read once."""
        if self._state is None:
            self._state = self.file.state()
        return self._state

    def refresh(self) -> None:
        """Go on from where another process, or an earlier sweep, has come in the meantime."""
        found = self.file.state()
        self.state.runs.update(found.runs)
        self.state.offset, self.state.refused, self.state.reason = found.offset, found.refused, found.reason

    def deliver(self, store: Store, going: Callable[[], bool] = lambda: True) -> None:
        """Deliver all that the queue holds, while ``going``.

        Raises:
            TrackingError: the store cannot be reached; what it took until then is acknowledged.
        """
        while going() and (found := self.file.read(self.state.offset)):
            for placed in merged(found, POINTS_PER_CALL):
                if not going():
                    return
                self._take(store, placed)

    def _take(self, store: Store, placed: Placed) -> None:
        state = self.state
        try:
            if placed.record is None:
                raise TrackingRefused("a record was damaged on disk")
            self._write(store, placed.record)
        except (TrackingRefused, NotFoundError, UsageError, SchemaError, FileNotFoundError, KeyError) as error:
            state.refused += 1  # trying again cannot help, and what follows must not wait for it
            state.reason = str(error)
        state.offset = placed.end
        self.file.keep(state)
        if isinstance(placed.record, File) and placed.record.own:
            storage.folder_of(placed.record.source).unlink(missing_ok=True)
            storage.forget_soon(Path(placed.record.source))

    def _write(self, store: Store, record: Record) -> None:
        if isinstance(record, Start):
            self._start(store, record)
            return
        run_id = self._id(record.run)
        match record:
            case Batch(points=points, params=params, tags=tags):
                store.log_batch(run_id, read_back(points), params, tags)
            case Data(facts=facts, schema=schema):
                _log_datasets(store, run_id, facts, schema)
            case Text(text=text, path=path):
                store.log_text(run_id, text, path)
            case File(source=source, path=path):
                store.log_file(run_id, storage.fetch(Path(source)), path)
            case Status(status=status, at=at):
                store.finish_run(run_id, status, at)

    def _start(self, store: Store, record: Start) -> None:
        """Open a run once, whatever became of earlier attempts: the store knows it by the tag of its key."""
        if record.run in self.state.runs:
            return
        parent = self._id(record.parent) if record.parent is not None else None
        sure = record.run in self.certain
        self.certain.discard(record.run)
        found = () if sure else store.find_runs(record.experiment, {KEY_TAG: record.run})
        if not found:
            began = time.monotonic()
            tags = {**record.tags, KEY_TAG: record.run}
            found = (store.start_run(record.experiment, record.name, tags, parent, record.at),)
            if not sure or time.monotonic() - began > SLOW_SECONDS:
                # A server that stood still may carry out an earlier attempt now that it moves again.
                found = store.find_runs(record.experiment, {KEY_TAG: record.run}) or found
        for double in found[1:]:
            with suppress(NotFoundError):
                store.delete_run(double)
        self.state.runs[record.run] = found[0]

    def _id(self, key: str) -> str:
        """Return the store's id of a run's key; an id stands for itself. Raises ``TrackingRefused``."""
        if key in self.state.runs:
            return self.state.runs[key]
        if is_key(key):
            raise TrackingRefused(self.state.reason or f"run '{key}' was never opened")
        return key


def _log_datasets(store: Store, run_id: str, facts: Mapping[str, Any], schema: dict[str, Any]) -> None:
    from rayline.features.facts import DataFacts
    from rayline.features.schemas.schema import Schema

    store.log_datasets(run_id, DataFacts.from_json(facts), Schema.from_json(schema))


class Courier(threading.Thread):
    """The background thread that delivers one queue while it is written.

    Args:
        file: the queue, open.
        connect: gives the store; tried again while it raises ``TrackingError``.
        notice: hears once, in each outage, that the store cannot be reached.
        flush: puts what is still in memory into the file.
        rest: how long to rest after a call to the store, in times of its own length.
    """

    def __init__(
        self,
        file: SpoolFile,
        connect: Callable[[], Store],
        notice: Callable[[str], None],
        flush: Callable[[], None],
        rest: float = REST,
    ) -> None:
        super().__init__(name=f"deliver-{file.name}", daemon=True)
        self.delivery = Delivery(file)
        self._file = file
        self._connect = connect
        self._notice = notice
        self._flush = flush
        self._rest = rest
        self._changed = threading.Condition()
        self._urgent = False
        self._stopped = False
        self._failures = 0
        self._called = 0.0

    def hurry(self) -> None:
        """Deliver now and without a rest, until all is delivered."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Deliver no more, from the next call to the store on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def delivered(self) -> bool:
        """Tell whether the store has everything."""
        return not self._file.blocked and not self._file.read(self.delivery.state.offset)

    def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds, as long as there is progress within each ``seconds``; tell whether it holds."""
        self.hurry()
        seen, deadline = -1, time.monotonic() + seconds
        latest = deadline + LIMIT * seconds
        with self._changed:
            while not (done := ready()) and time.monotonic() < min(deadline, latest) and self.is_alive():
                if self.delivery.state.offset != seen:
                    seen, deadline = self.delivery.state.offset, time.monotonic() + seconds
                self._changed.wait(0.05)
        return done

    def run(self) -> None:
        """Deliver until ``stop``."""
        while not self._stopped:
            with self._file.delivering() as mine:
                if mine:
                    self.delivery.refresh()
                while mine and not self._stopped:
                    self._once()
                    self._pause()
            if not mine:  # an earlier process's rest is under way
                time.sleep(0.05)

    def _once(self) -> None:
        try:
            self._flush()
            self._file.sync()
            store = self._connect()
            self._called = time.monotonic()
            self.delivery.deliver(store, self._going)
        except (TrackingError, OSError) as error:
            self._failures += 1
            if self._failures == 1:
                self._notice(f"{error} Training goes on; what it tells waits in '{self._file.path}'")
            return
        self._failures = 0

    def _going(self) -> bool:
        """Rest after a call to the store, for the sake of the training; tell whether to go on."""
        busy = time.monotonic() - self._called
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._urgent or self._stopped, min(self._rest * busy, LONGEST_REST))
        self._called = time.monotonic()
        return not self._stopped

    def _pause(self) -> None:
        pace = PACE_SECONDS
        if self._failures:
            pace = min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self._failures - 1, 10))
        with self._changed:
            self._changed.notify_all()
            if self._failures or not self._urgent:
                self._urgent = False  # what is to be hurried has been tried
                self._changed.wait_for(lambda: self._urgent or self._stopped, pace)
            else:
                self._urgent = False


def sweep(folder: Path, store: Store) -> None:
    """Deliver what earlier processes left in a folder, the oldest first; where the store fails, it stays."""
    for file in sorted((SpoolFile(path) for path in folder.glob("*.jsonl")), key=_age):
        with file.delivering() as mine, suppress(TrackingError, OSError):
            if mine:  # or its own process is at it
                Delivery(file).deliver(store)
                if _ended(file) and file.remove_if_delivered():
                    shutil.rmtree(file.files, ignore_errors=True)


def _age(file: SpoolFile) -> tuple[int, str]:
    """Return when the first run of a queue was opened, in Unix milliseconds."""
    first = next(file.records(), None)
    began = first.record.at if first is not None and isinstance(first.record, Start) else 0
    return began, file.name


def _ended(file: SpoolFile) -> bool:
    """Tell whether the run that a queue is named after has been finished: nothing more is to come."""
    told = [each.record for each in file.records() if isinstance(each.record, Status)]
    last = [status.status for status in told if status.run == file.name]
    return bool(last) and last[-1] == "FINISHED"
