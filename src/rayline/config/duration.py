"""Durations as people write them: seconds, or a number with a unit such as ``30s``, ``5m``, ``1.5h`` and ``7d``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from rayline.config.section import NonNegative
from rayline.errors import shown

PATTERN = r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Wait = str
"""The written form, where a field takes other things too."""

if TYPE_CHECKING:
    Duration = float
    """Seconds: whatever was written, the section that holds it makes a number of it."""
else:
    Duration = NonNegative | Wait


def as_seconds(section: Struct, field: str, *, above_zero: bool = False) -> None:
    """Make the duration in a field a number of seconds; called as a section is made.

    Raises:
        ValueError: it is no duration, or not above zero where it must be.
    """
    value = getattr(section, field)
    if isinstance(value, str):
        found = re.match(PATTERN, value.strip())
        if found is None:
            raise ValueError(f"{field} {shown(value)} is no duration. Write seconds, or 500ms, 30s, 5m, 1.5h or 7d")
        msgspec.structs.force_setattr(section, field, float(found[1]) * UNITS[found[2]])
    if above_zero and not getattr(section, field) > 0:
        raise ValueError(f"{field} must be longer than 0 s")
