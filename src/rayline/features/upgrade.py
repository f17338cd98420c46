"""Feature states of older formats, read as if they were of today's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.errors import SchemaError

FORMAT = 2


def upgraded(raw: object) -> Mapping[str, Any]:
    """Return a feature state in today's format.

    Raises:
        SchemaError: it is of a newer format, or is none; the message says what to do.
        KeyError: it is damaged.
    """
    found = raw.get("format") if isinstance(raw, Mapping) else type(raw).__name__
    if not isinstance(raw, Mapping) or found not in (1, FORMAT):
        raise SchemaError(
            f"feature state format {found!r} is unknown: this Rayline reads formats 1 to {FORMAT}. "
            "Use the Rayline that wrote it, or make it anew with `rayline run --fresh`."
        )
    if found == FORMAT:
        return raw
    return {**raw, "format": FORMAT, "columns": [_from_first(each) for each in raw["columns"]]}


def _from_first(column: Mapping[str, Any]) -> Mapping[str, Any]:
    """Format 1 knew four kinds, each with one way, and every feature was called like its raw column."""
    added: dict[str, Any] = {"source": column["name"]}
    if column["kind"] == "numeric":
        added |= {"flag": False, "clip": None, "log": False, "knots": [], "edges": []}
    elif column["kind"] == "categorical":
        added |= {"encode": "one_hot"}
    elif column["kind"] == "datetime":
        added |= {"reference": 0}
    return {**column, **added}
