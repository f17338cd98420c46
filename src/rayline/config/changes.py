"""What a section says otherwise than one that was written down as JSON before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from rayline.config.reading import plain


def changes(recorded: Mapping[str, Any], section: Struct, name: str) -> tuple[str, ...]:
    """Return ``name.key old -> new`` for each setting that differs, deep ones by their own keys.

    Args:
        recorded: the section as it was, read from JSON; what it does not know is not compared.
        section: the section as it is.
        name: what stands before each key.
    """
    return tuple(_changes(recorded, plain(section), name))


def _changes(before: Any, now: Any, name: str) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [each for key in now if key in before for each in _changes(before[key], now[key], f"{name}.{key}")]
    return [] if before == now else [f"{name} {_shown(before)} -> {_shown(now)}"]


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
