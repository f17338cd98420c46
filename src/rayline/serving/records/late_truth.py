"""Truth whose answer no replica remembers, because it came late or the replica died: looked up in what was captured.

What was captured and written survives its replica; what it had not written yet when it was killed does not, and neither
do requests that were not sampled. Truth that finds no answer here stays on disk, unmatched.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage as kept
from rayline.serving.records import capture_files as files
from rayline.serving.records.capture_files import CaptureFile, capture_files
from rayline.serving.records.yardstick import Ruler

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.serving.records.feedback import Feedback

EVERY_SECONDS = 1.0
AT_ONCE = 500
MOST_WAITING = 10_000

_LOG = logging.getLogger(__name__)

Letter = tuple[str, int, "Sequence[Any]"]
"""A request id, the version that it names, and a label per row."""


class LateTruth:
    """Looks truth up for one replica, in the background."""

    def __init__(self, storage: str | Path, service: str, feedback: Feedback, slicers: Sequence[Ruler] = ()) -> None:
        """Look in what was captured of a service; ``start`` begins the work.

        Args:
            storage: the project's state folder.
            service: its name.
            feedback: counts and stores what is found.
            slicers: tell the slices of a row.
        """
        self._storage = storage
        self._service = service
        self._feedback = feedback
        self._slicers = slicers
        self._queue: deque[Letter] = deque(maxlen=MOST_WAITING)
        self._stop = threading.Event()
        self._working = threading.Lock()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="rayline-late-truth", daemon=True)

    def start(self) -> None:
        """Begin to work in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits stays unmatched."""
        self._stop.set()

    def offer(self, request_id: str, version: int, labels: Sequence[Any]) -> None:
        """Take truth that no answer was remembered for; returns at once. The oldest makes room where too much waits."""
        self._queue.append((request_id, version, labels))

    def settle(self) -> None:
        """Look up now what waits."""
        with self._working:
            while self._queue:
                self._next()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            if self._queue:
                with self._working:
                    self._next()

    def _next(self) -> None:
        letters: dict[str, tuple[int, Sequence[Any]]] = {}
        while self._queue and len(letters) < AT_ONCE:
            request_id, version, labels = self._queue.popleft()
            letters[request_id] = (version, labels)
        for version in {number for number, _ in letters.values()}:
            wanted = {key: labels for key, (number, labels) in letters.items() if number == version}
            try:
                self._look(version, wanted)
            except Exception:  # noqa: BLE001 - a file that cannot be read leaves truth unmatched, and ends nothing
                self._failures += 1
                if self._failures == 1:
                    _LOG.exception("truth could not be looked up in what was captured of '%s'.", self._service)

    def _look(self, version: int, wanted: dict[str, Sequence[Any]]) -> None:
        for file in capture_files(self._storage, self._service, version):
            ids = [request_id for request_id in wanted if file.may_hold(request_id)]
            if not ids:
                continue
            table = _rows_of(file, ids)
            for request_id in ids:
                self._count(version, request_id, table, wanted[request_id])

    def _count(self, version: int, request_id: str, table: pa.Table, labels: Sequence[Any]) -> None:
        import pyarrow.compute as pc

        mine = table.filter(pc.equal(table[files.REQUEST], request_id)).sort_by(files.ROW)
        if mine.num_rows:
            outcome = files.LABEL if files.LABEL in mine.column_names else files.PREDICTION
            self._feedback.found(request_id, version, mine[outcome].to_pylist(), labels, self._slices(mine))

    def _slices(self, table: pa.Table) -> list[tuple[str, ...]]:
        table = table.combine_chunks()
        names: list[list[str]] = [[] for _ in range(table.num_rows)]
        for slicer in self._slicers:
            column = files.input_name(slicer.column)
            if column in table.column_names:  # a column that is redacted is not
                for row, code in enumerate(slicer.codes(table[column].chunk(0))):
                    names[row].append(slicer.labels[code])
        return [tuple(each) for each in names]


def _rows_of(file: CaptureFile, ids: Sequence[str]) -> pa.Table:
    """Return the answered rows of some requests."""
    import pyarrow.parquet as pq

    return pq.read_table(kept.fetch(file.path), filters=[(files.REQUEST, "in", set(ids)), (files.ARM, "!=", "shadow")])
