"""The fitted datetime column: calendar parts as numbers, in a batch and in one row.

Parts that come round (month, day, weekday, hour, minute) lie on a circle and give a sine and a cosine, so that
December is next to January; ``year`` and ``elapsed`` (days since 1970) are standardised. A missing date is zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import RowError
from rayline.features import arrow_values, canonical
from rayline.features.arrow_values import RULES
from rayline.features.columns import Filler, Scale

MICROSECONDS_A_DAY = 86_400_000_000
CIRCLES = {"month": (1, 12), "day": (1, 31), "weekday": (0, 7), "hour": (0, 24), "minute": (0, 60)}


@dataclass(frozen=True, slots=True)
class DatetimePart:
    """One part of a date; ``scale`` applies to ``year`` and ``elapsed``."""

    part: str
    scale: Scale


@dataclass(frozen=True, slots=True)
class DatetimeColumn:
    """The parts of one date, in their order."""

    name: str
    parts: tuple[DatetimePart, ...]
    kind: str = "datetime"

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name.part``, or ``name.part.sin`` and ``name.part.cos`` for a part that comes round."""
        names: list[str] = []
        for each in self.parts:
            stem = f"{self.name}.{each.part}"
            names += [f"{stem}.sin", f"{stem}.cos"] if each.part in CIRCLES else [stem]
        return tuple(names)

    def batch(self, array: Any, out: NDArray[np.float32]) -> None:
        """See ``FittedColumn``."""
        values = arrow_values.checked(arrow_values.instants, array, self.name, RULES["datetime"])
        position = 0
        for each in self.parts:
            part = part_of(each.part, values.data)
            if each.part in CIRCLES:
                first, _ = CIRCLES[each.part]
                sines, cosines = _circle(each.part)
                out[:, position] = np.array(sines)[part - first]
                out[:, position + 1] = np.array(cosines)[part - first]
                position += 2
            else:
                out[:, position] = each.scale.many(part.astype(np.float64))
                position += 1
        out[values.missing] = 0.0

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        name = self.name
        writers: list[Callable[[int, list[float]], None]] = []
        for each in self.parts:
            writers.append(_writer(each, offset))
            offset += 2 if each.part in CIRCLES else 1

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[name]
            try:
                moment = canonical.instant(value)
            except (ValueError, OverflowError) as error:
                raise RowError(0, name, value, RULES["datetime"]) from error
            if moment is not None:
                for write in writers:
                    write(moment, out)

        return fill

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        parts = [{"part": each.part, "mean": each.scale.mean, "std": each.scale.std} for each in self.parts]
        return {"kind": self.kind, "name": self.name, "parts": parts}


def part_of(part: str, moments: NDArray[np.int64]) -> NDArray[Any]:
    """Return one calendar part of microseconds since 1970: int64, or float64 days for ``elapsed``."""
    if part == "elapsed":
        return moments.astype(np.float64) / MICROSECONDS_A_DAY
    if part in ("hour", "minute"):
        unit, circle = (3_600_000_000, 24) if part == "hour" else (60_000_000, 60)
        return moments // unit % circle
    days = moments // MICROSECONDS_A_DAY
    if part == "weekday":
        return (days + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    if part == "year":
        return months // 12 + 1970
    if part == "month":
        return months % 12 + 1
    return (days - dates.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)) + 1


def _writer(each: DatetimePart, at: int) -> Callable[[int, list[float]], None]:
    if each.part not in CIRCLES:
        scale, read = each.scale, _ROW_PARTS[each.part]

        def write_scaled(moment: int, out: list[float]) -> None:
            out[at] = scale.one(read(moment))

        return write_scaled
    (first, _), (sines, cosines), read_part = CIRCLES[each.part], _circle(each.part), _ROW_PARTS[each.part]

    def write_circle(moment: int, out: list[float]) -> None:
        step = int(read_part(moment)) - first
        out[at] = sines[step]
        out[at + 1] = cosines[step]

    return write_circle


def _circle(part: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return one table for both paths, so that their sines are the same to the last bit."""
    _, size = CIRCLES[part]
    angles = [2 * math.pi * step / size for step in range(size)]
    return tuple(math.sin(angle) for angle in angles), tuple(math.cos(angle) for angle in angles)


def _moment(microseconds: int) -> Any:
    return canonical.EPOCH + timedelta(microseconds=microseconds)


_ROW_PARTS: dict[str, Callable[[int], float]] = {
    "year": lambda moment: _moment(moment).year,
    "month": lambda moment: _moment(moment).month,
    "day": lambda moment: _moment(moment).day,
    "weekday": lambda moment: (moment // MICROSECONDS_A_DAY + 3) % 7,
    "hour": lambda moment: moment // 3_600_000_000 % 24,
    "minute": lambda moment: moment // 60_000_000 % 60,
    "elapsed": lambda moment: float(moment) / MICROSECONDS_A_DAY,
}
