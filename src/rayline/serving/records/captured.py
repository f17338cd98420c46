"""What a service was asked and answered, read back: captured requests, joined with the truth that came later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage as kept
from rayline.errors import ServiceError
from rayline.features.reading import canonical
from rayline.serving.names import service_folder
from rayline.serving.records.capture_files import AT, PREDICTION, REQUEST, ROW, capture_files

if TYPE_CHECKING:
    import pyarrow as pa

TRUTH = "_truth"


def captured(
    storage: str | Path, service: str, version: int | None = None, since: datetime | None = None
) -> pa.Table | None:
    """Return the captured rows of a service, oldest file first.

    Args:
        storage: the project's state folder.
        service: its name.
        version: whose; None for all, the columns of each, null where a version has no such column.
        since: an aware time: rows answered from then on.

    Returns:
        The columns of ``capture_schema`` and ``_truth``, the label that came by feedback: canonical text, or float64
        where every version is a regression; null where none has come. Rows of the arm ``shadow`` have no inputs: the
        answered row of the same ``_request_id`` and ``_row`` has them. None where nothing was captured.

    Raises:
        ServiceError: versions hold one column in different types; read one at a time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = [_kept(pq.read_table(kept.fetch(file.path)), since) for file in capture_files(storage, service, version)]
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return None
    try:
        table = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowInvalid as error:
        raise ServiceError(
            f"versions of '{service}' captured one column in different types: {error}. Read one version at a time."
        ) from error
    regression = all(PREDICTION in each.column_names for each in tables)
    truths = dict(_truths(storage, service, regression=regression))
    keys = zip(table[REQUEST].to_pylist(), table[ROW].to_pylist(), strict=True)
    found = pa.array([truths.get(key) for key in keys], pa.float64() if regression else pa.string())
    table = table.append_column(TRUTH, found)
    return table.take(pc.sort_indices(table, [(AT, "ascending"), (REQUEST, "ascending"), (ROW, "ascending")]))


def _kept(table: pa.Table, since: datetime | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    if since is None:
        return table
    return table.filter(pc.greater_equal(table[AT], pa.scalar(since, pa.timestamp("us", "UTC"))))


def _truths(storage: str | Path, service: str, *, regression: bool) -> Iterator[tuple[tuple[str, int], Any]]:
    """Return the truth of each row that feedback told, by request id and row. What is no such truth is left out."""
    for path in kept.files_below(service_folder(storage, service) / "feedback"):
        with kept.refresh(path).open(encoding="utf-8") as lines:
            for line in lines:
                record = _decoded(line)
                for row, label in enumerate(record.get("labels") or ()):
                    value = _truth(label, regression=regression)
                    if value is not None:
                        yield (str(record.get("request_id")), row), value


def _decoded(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}  # the last line of a replica that was killed as it wrote
    return record if isinstance(record, dict) else {}


def _truth(label: object, *, regression: bool) -> Any:
    try:
        return canonical.number(label) if regression else canonical.level_text(label)
    except (ValueError, OverflowError):
        return None
