"""What was asked and answered, on its way to Parquet: gathered in memory, bounded, and written by a thread of its own.

A row is written, or counted as dropped; nothing here can slow or fail a request. Where the disk does not take a file
(full, read-only, gone) its rows stay in memory and are tried again, what finds no room beside them is dropped, and the
log says once that it fails and once that it works again. A replica that stops writes what it holds; one that is killed
loses what it held, and leaves whole files only.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import CaptureConfig
from rayline.serving.records import capture_files as files
from rayline.serving.records.answered import Answered

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.registry.predictor import Predictions
    from rayline.serving.versions.served import Served

EVERY_SECONDS = 0.5
RETRY_SECONDS = 5.0
QUEUED_SHARE = 0.25  # of the rows that may wait, before they are columns: the recorder's queue

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """Rows of one version that wait to be written."""

    schema: pa.Schema
    since: float
    rows: int = 0
    tables: list[pa.Table] = field(default_factory=list)


class Capture:
    """Writes one replica's answered requests."""

    def __init__(self, folder: Path, tag: str, config: CaptureConfig) -> None:
        """Write below ``folder``; ``start`` begins the work.

        Args:
            folder: of the service's captures.
            tag: of the replica, 8 hex digits.
            config: how much, how long and without which columns.
        """
        self._folder = folder
        self._tag = tag
        self._config = config
        self._most = max(1, round(config.max_waiting * (1 - QUEUED_SHARE)))
        self._file_rows = max(1, self._most // 2)
        self._held: dict[str, _Held] = {}
        self._schemas: dict[str, pa.Schema] = {}
        self._waiting = 0
        self._captured = 0
        self._dropped = 0
        self._files = 0
        self._failed_writes = 0
        self._failing = ""
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._news = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="rayline-capture", daemon=True)

    @property
    def sample(self) -> float:
        """The share of requests that is captured."""
        return self._config.sample

    def start(self) -> None:
        """Begin to write in the background."""
        self._thread.start()

    def take(self, answered: Answered) -> None:
        """Take the sampled ones of answered requests; returns at once."""
        chosen = answered.picked(answered.sampled)
        if len(chosen):
            self._hold(chosen.served, self._table(chosen, chosen.served, chosen.predictions, shadow=False))

    def take_shadow(self, served: Served, asked: Answered, said: Predictions, usable: NDArray[np.bool_]) -> None:
        """Take what a mirrored version said to the sampled ones of requests that another answered.

        Args:
            served: the mirrored version.
            asked: the requests.
            said: a prediction per row.
            usable: bool per row, whether it is one.
        """
        wanted = np.flatnonzero(asked.sampled[asked.owners] & usable)
        if len(wanted):
            self._hold(served, self._table(asked, served, said, shadow=True).take(wanted))

    def facts(self) -> dict[str, Any]:
        """Return, JSON-ready: ``captured, dropped, waiting`` (rows), ``files``, ``failed_writes`` and ``failing``.

        ``failing`` says why the last file could not be written; it is empty where that went well.
        """
        with self._lock:
            return {
                "captured": self._captured,
                "dropped": self._dropped,
                "waiting": self._waiting,
                "files": self._files,
                "failed_writes": self._failed_writes,
                "failing": self._failing,
            }

    def flush(self) -> None:
        """Write what is held now, whatever its age; what the disk does not take stays."""
        self._write(everything=True)

    def stop(self) -> None:
        """Write what is held, once, and end; what the disk does not take then is dropped and counted."""
        self._stopped = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.flush()
        with self._lock:
            self._dropped += self._waiting
            self._waiting = 0
            self._held.clear()

    def _table(self, asked: Answered, served: Served, said: Predictions, *, shadow: bool) -> pa.Table:
        """Return rows as the files of a version have them."""
        import pyarrow as pa

        owners, rows = asked.owners, len(asked)
        ids, keys = pa.array(asked.ids, pa.string()), pa.array(asked.keys, pa.string())
        moments = pa.array((np.array(asked.at) * 1e6).astype(np.int64))
        values = {
            files.REQUEST: ids.take(owners),
            files.ROW: pa.array(asked.places.astype(np.int32)),
            files.KEY: keys.take(owners),
            files.VERSION: pa.repeat(pa.scalar(served.live.number, pa.int64()), rows),
            files.ARM: pa.repeat("shadow" if shadow else asked.arm, rows),
            files.AT: moments.take(owners).cast(pa.timestamp("us", "UTC")),
            files.LATENCY: pa.nulls(rows, pa.float64())
            if shadow
            else pa.array(asked.seconds, pa.float64()).take(owners),
            **_outcomes(said),
        }
        if not shadow:
            table = asked.table
            values |= {files.input_name(name): table.column(name) for name in table.column_names}
        schema = self._schema(served)
        return pa.table(
            [values[each.name] if each.name in values else pa.nulls(rows, each.type) for each in schema], schema=schema
        )

    def _schema(self, served: Served) -> pa.Schema:
        digest = served.live.digest
        if digest not in self._schemas:
            self._schemas[digest] = files.capture_schema(served.bundle, self._config.redact)
        return self._schemas[digest]

    def _hold(self, served: Served, table: pa.Table) -> None:
        with self._lock:
            if self._stopped or self._waiting + table.num_rows > self._most:
                self._dropped += table.num_rows
                return
            key = f"{served.live.number}-{served.live.digest}"
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = _Held(table.schema, monotonic())
            held.tables.append(table)
            held.rows += table.num_rows
            self._waiting += table.num_rows
            full = held.rows >= self._file_rows
        if full:
            self._news.set()

    def _run(self) -> None:
        with suppress(OSError):  # a folder that cannot be listed is told of when it cannot be written to
            files.clean(self._folder)
        while not self._stopped:
            self._news.wait(EVERY_SECONDS)
            self._news.clear()
            if not self._stopped and monotonic() >= self._not_before:
                self._write(everything=False)

    def _write(self, *, everything: bool) -> None:
        with self._writing:
            now = monotonic()
            with self._lock:
                due = [
                    key
                    for key, held in self._held.items()
                    if everything or held.rows >= self._file_rows or now - held.since >= self._config.file_seconds
                ]
                taken = {key: self._held.pop(key) for key in due}
            for key, held in taken.items():
                self._write_one(key, held)

    def _write_one(self, key: str, held: _Held) -> None:
        import pyarrow as pa

        try:
            files.write_file(self._folder, self._tag, self._files, pa.concat_tables(held.tables).combine_chunks())
        except Exception as error:  # noqa: BLE001 - whatever the disk or the library does, the replica answers on
            self._not_written(key, held, error)
            return
        with self._lock:
            self._files += 1
            self._captured += held.rows
            self._waiting -= held.rows
            recovered, self._failing = bool(self._failing), ""
        if recovered:
            _LOG.warning("captured requests can be written to '%s' again.", self._folder)

    def _not_written(self, key: str, held: _Held, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        with self._lock:
            first = not self._failing
            self._failing = told
            self._failed_writes += 1
            self._not_before = monotonic() + RETRY_SECONDS
            if isinstance(error, OSError):  # a disk may come back; what no disk would take is let go
                newer = self._held.get(key)
                if newer is not None:
                    held.tables += newer.tables
                    held.rows += newer.rows
                self._held[key] = held
            else:
                self._dropped += held.rows
                self._waiting -= held.rows
        if first:
            _LOG.error(
                "captured requests cannot be written to '%s': %s. Requests are answered all the same; up to %d rows "
                "are kept until it can, and what comes beyond is dropped and counted.",
                self._folder,
                told,
                self._most,
            )


def _outcomes(said: Predictions) -> dict[str, Any]:
    import pyarrow as pa

    if said.probabilities is None or said.labels is None:
        return {files.PREDICTION: pa.array(said.values, pa.float64())}
    rows, classes = said.probabilities.shape
    ends = np.arange(0, rows * classes + 1, classes, dtype=np.int32)
    flat = pa.array(np.ascontiguousarray(said.probabilities).reshape(-1), pa.float32())
    labels = pa.DictionaryArray.from_arrays(pa.array(said.values.astype(np.int32)), pa.array(said.labels))
    return {
        files.LABEL: labels.cast(pa.string()),
        files.PROBABILITIES: pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat),
    }
