"""The lines of a queue on disk: what is to be written to which run, each with a checksum. Pure.

A line is the CRC-32 of its body in 8 hex digits, a space, the body as JSON, and a newline. A killed writer can leave
its last line half written, and a damaged disk any of them: such a line is known by its checksum and passed over.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from rayline.registry.store import Point, RunStatus


class WrittenPoint(NamedTuple):
    """A ``Point`` as JSON can hold it: a value that is no finite number stands as its text."""

    name: str
    value: float | str
    step: int
    at_ms: int


class Start(Struct, frozen=True, tag="start", tag_field="op", omit_defaults=True):
    """Open a run.

    Attributes:
        run: our own key of it, unique for ever: the store's id is not known yet.
        parent: the key of the run that it is nested below.
        at: Unix time in milliseconds.
    """

    run: str
    experiment: str
    name: str
    tags: dict[str, str]
    at: int
    parent: str | None = None


class Batch(Struct, frozen=True, tag="batch", tag_field="op", omit_defaults=True):
    """Log points, parameters and tags."""

    run: str
    points: tuple[WrittenPoint, ...] = ()
    params: dict[str, str] = {}
    tags: dict[str, str] = {}


class Data(Struct, frozen=True, tag="data", tag_field="op"):
    """Log which data was used: the JSON forms of its facts and of its schema."""

    run: str
    facts: dict[str, Any]
    schema: dict[str, Any]


class Text(Struct, frozen=True, tag="text", tag_field="op"):
    """Keep a text as the artifact ``path``."""

    run: str
    text: str
    path: str


class File(Struct, frozen=True, tag="file", tag_field="op"):
    """Keep the file ``source`` as the artifact ``path``; the queue's ``own`` is removed once it is delivered."""

    run: str
    source: str
    path: str
    own: bool


class Status(Struct, frozen=True, tag="status", tag_field="op"):
    """Give a run a status, at a Unix time in milliseconds."""

    run: str
    status: RunStatus
    at: int


Record = Start | Batch | Data | Text | File | Status

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)
_SUM = 9  # 8 hex digits and a space


def line_of(record: Record) -> bytes:
    """Return a record as one line."""
    body = _ENCODER.encode(record)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def record_of(line: bytes) -> Record | None:
    """Return the record of a line without its newline; None where it is damaged."""
    body = line[_SUM:]
    try:
        if int(line[:_SUM], 16) != zlib.crc32(body):
            return None
        record: Record = _DECODER.decode(body)
    except (ValueError, msgspec.MsgspecError):
        return None
    return record


def written(points: Sequence[Point]) -> tuple[WrittenPoint, ...]:
    """Return points as JSON can hold them."""
    return tuple(
        WrittenPoint(name, float(value) if math.isfinite(value) else str(float(value)), step, at_ms)
        for name, value, step, at_ms in points
    )


def read_back(points: Sequence[WrittenPoint]) -> tuple[Point, ...]:
    """Return the points of ``written``."""
    return tuple(Point(name, float(value), step, at_ms) for name, value, step, at_ms in points)


class Placed(NamedTuple):
    """A record, and where its line ends in the file; None for a damaged line."""

    end: int
    record: Record | None


def lines_in(content: bytes, start: int) -> Iterator[Placed]:
    """Yield the whole lines of a piece of a queue that begins at byte ``start``; an unfinished last one is left out."""
    at = 0
    while (stop := content.find(b"\n", at)) >= 0:
        yield Placed(start + stop + 1, record_of(content[at:stop]))
        at = stop + 1


def merged(records: Sequence[Placed], most: int) -> Iterator[Placed]:
    """Yield the records in order, with neighbouring batches of one run made one of about ``most`` points."""
    waiting: list[Batch] = []
    end, size = 0, 0
    for placed in records:
        record = placed.record
        joins = isinstance(record, Batch) and (not waiting or (waiting[0].run == record.run and size < most))
        if waiting and not joins:
            yield Placed(end, _joined(waiting))
            waiting, size = [], 0
        if isinstance(record, Batch):
            waiting.append(record)
            end, size = placed.end, size + len(record.points)
        else:
            yield placed
    if waiting:
        yield Placed(end, _joined(waiting))


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    points = tuple(point for batch in batches for point in batch.points)
    return Batch(
        batches[0].run, points, _last([each.params for each in batches]), _last([each.tags for each in batches])
    )


def _last(texts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {key: value for each in texts for key, value in each.items()}


def amount(record: Record | None) -> int:
    """Return how many points a record holds; any other write counts as none."""
    return len(record.points) if isinstance(record, Batch) else 0


def is_key(run: str) -> bool:
    """Tell whether a run's name is a key of ours and not yet the store's id."""
    return "-" in run
