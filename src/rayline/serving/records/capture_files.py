"""The files that captured requests lie in: their place, their columns, and how they are written and read.

``STORAGE/services/NAME/capture/VERSION/YYYY-MM-DD/TAG-FIRST-LAST-N.parquet``: the day (UTC) of the first row, the
replica's tag, and the smallest and largest serial of its request ids. A file is written under a hidden name and renamed
when it is whole, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage as kept
from rayline.errors import ConfigError, StorageError, suggestion
from rayline.serving.names import service_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.schemas.schema import Schema
    from rayline.registry.bundle import Bundle

REQUEST, ROW, KEY, VERSION, ARM = "_request_id", "_row", "_key", "_version", "_arm"
AT, LATENCY, LABEL, PREDICTION, PROBABILITIES = "_at", "_latency", "_label", "_prediction", "_probabilities"
OWN = (REQUEST, ROW, KEY, VERSION, ARM, AT, LATENCY, LABEL, PREDICTION, PROBABILITIES)
REDACTABLE = (KEY,)
DRAFT = ".draft"
STALE_SECONDS = 120.0  # a draft is written in a moment; one so old belongs to a replica that died


def capture_folder(storage: str | Path, service: str) -> Path:
    """Return the folder of a service's captured requests."""
    return service_folder(storage, service) / "capture"


def input_name(column: str) -> str:
    """Return what an input column is called in the files: by its own name, unless that is one of ``OWN``."""
    return f"input:{column}" if column in OWN else column


def capture_schema(bundle: Bundle, redact: Sequence[str]) -> pa.Schema:
    """Return the columns of every file of a version.

    ``_request_id`` text; ``_row`` int32, from 0; ``_key`` text, the session as the client named it; ``_version`` int64;
    ``_arm`` ``stable``, ``canary`` or ``shadow``; ``_at`` timestamp[us, UTC] of the answer; ``_latency`` float64,
    seconds of the request inside the replica, null of a shadow. Then the input columns, typed as ``row_table`` has
    them, null of a shadow (the answered request of the same id has them), then ``_label`` text and ``_probabilities``
    float32 per class, in the order of ``classes`` in the schema's metadata; of a regression ``_prediction`` float64.

    Args:
        bundle: the version's.
        redact: input columns, or ``_key``, that are left out.
    """
    import pyarrow as pa

    from rayline.serving.wire.row_table import arrow_type

    features = bundle.features
    own = [(REQUEST, pa.string()), (ROW, pa.int32()), (KEY, pa.string()), (VERSION, pa.int64()), (ARM, pa.string())]
    own += [(AT, pa.timestamp("us", "UTC")), (LATENCY, pa.float64())]
    inputs = [(input_name(name), arrow_type(features.schema.column(name).kind)) for name in features.input_columns]
    if features.task == "regression":
        outcome: list[tuple[str, Any]] = [(PREDICTION, pa.float64())]
    else:
        outcome = [(LABEL, pa.string()), (PROBABILITIES, pa.list_(pa.float32()))]
    left_out = {input_name(name) for name in redact if name not in REDACTABLE} | ({KEY} & set(redact))
    fields = [each for each in (*own, *inputs, *outcome) if each[0] not in left_out]
    facts = {"rayline": json.dumps({"digest": bundle.digest, "classes": list(features.classes)})}
    return pa.schema(fields, metadata=facts)


def check_redacted(redact: Sequence[str], schema: Schema) -> None:
    """Refuse a column to leave out that is none, as it may be a mistyped name of one that must be.

    Raises:
        ConfigError: names the nearest.
    """
    known = (*schema.names, *REDACTABLE)
    for name in redact:
        if name not in known:
            raise ConfigError(
                f"service.capture.redact: there is no input column '{name}', so nothing would be left out. "
                f"{suggestion(name, known)}"
            )


def write_file(folder: Path, tag: str, count: int, table: pa.Table) -> Path:
    """Write one file, whole or not at all.

    Args:
        folder: of the service's captures.
        tag: of the replica.
        count: how many files it has written.
        table: of one version, at least one row.

    Raises:
        OSError: the disk does not take it.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    serials = pc.min_max(pc.utf8_slice_codeunits(table[REQUEST], -8)).as_py()
    day = datetime.fromtimestamp(table[AT][0].value / 1e6, UTC).date().isoformat()
    place = folder / str(table[VERSION][0].as_py()) / day
    name = f"{tag}-{serials['min']}-{serials['max']}-{count}.parquet"
    draft = place / f".{name}{DRAFT}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, draft, compression="zstd")
        os.replace(draft, place / name)
        _put(place / name)
    except BaseException:
        _remove(draft)
        raise
    return place / name


def clean(folder: Path, now: float | None = None) -> int:
    """Remove the drafts of replicas that died while they wrote; return how many there were."""
    now = time.time() if now is None else now
    removed = 0
    for path in folder.glob(f"*/*/.*{DRAFT}"):
        try:
            if now - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()
                removed += 1
        except OSError:
            continue  # another replica was quicker, or the disk is away
    return removed


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """One file, by its name.

    Attributes:
        path: where it lies; ``storage.fetch`` brings it here.
        version: whose requests it holds.
        day: of its first row, ``YYYY-MM-DD`` in UTC.
        tag: of the replica that wrote it.
        first, last: the smallest and largest serial of its request ids, 8 hex digits.
    """

    path: Path
    version: int
    day: str
    tag: str
    first: str
    last: str

    def may_hold(self, request_id: str) -> bool:
        """Tell whether a request's rows may lie in it."""
        serial = request_id[-8:]
        return request_id[-16:-8] == self.tag and self.first <= serial <= self.last


def capture_files(storage: str | Path, service: str, version: int | None = None) -> Iterator[CaptureFile]:
    """Return a service's captured files in the order of their names."""
    folder = capture_folder(storage, service)
    pattern = f"{'*' if version is None else version}/*/*.parquet"
    for path in sorted(path for path in kept.files_below(folder) if path.match(pattern)):
        parts = path.stem.split("-")
        number = path.parent.parent.name
        if len(parts) == 4 and number.isdecimal() and not path.name.startswith("."):
            yield CaptureFile(path, int(number), path.parent.name, *parts[:3])


def _put(path: Path) -> None:
    """Have the storage keep a file. Raises ``OSError`` where it cannot: the rows are then written again later."""
    try:
        kept.keep(path)
    except StorageError as error:
        path.unlink(missing_ok=True)
        raise OSError(str(error)) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # a disk that cannot write may not be able to remove either; ``clean`` comes back for it
