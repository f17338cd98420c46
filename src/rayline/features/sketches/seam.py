"""The seam of sketches, and their way back from JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from rayline.errors import SchemaError, suggestion


class Sketch(Protocol):
    """What some rows say of one thing. ``kind`` names the class in JSON."""

    kind: ClassVar[str]

    def merged(self, other: Any, /) -> Any:
        """Return the sketch of both sets of rows together."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, with ``kind``."""
        ...


READERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
"""``from_json`` by kind: every sketch enters itself with ``readable``."""


def readable(sketch: type[Any]) -> type[Any]:
    """Enter a sketch class into ``READERS``."""
    READERS[sketch.kind] = sketch.from_json
    return sketch


def restored(raw: Mapping[str, Any]) -> Any:
    """Return the sketch of ``to_json``'s values. Raises ``SchemaError`` for a kind that this Rayline does not know."""
    kind = str(raw.get("kind"))
    if kind not in READERS:
        raise SchemaError(f"sketch kind '{kind}' is unknown. {suggestion(kind, READERS)}")
    return READERS[kind](raw)
