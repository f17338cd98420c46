"""The fitted datetime column: calendar parts as numbers, in a batch and in one row.

Parts that come round (month, day, weekday, hour, minute) lie on a circle and give a sine and a cosine, so that
December is next to January; ``year``, ``elapsed`` (days since 1970) and ``age`` (days since a reference) are
standardised. A missing date is zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import DatetimeConfig
from rayline.features.kinds.seam import Extras, Feature, Filler, Kind, Observed, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.batch import Batch
from rayline.features.scales import Scale
from rayline.features.sketches import Moments

MICROSECONDS_A_DAY = 86_400_000_000
DAILY = ("year", "month", "day", "weekday")
CIRCLES = {"month": (1, 12), "day": (1, 31), "weekday": (0, 7), "hour": (0, 24), "minute": (0, 60)}


@dataclass(frozen=True, slots=True)
class DatetimePart:
    """One part of a date; ``scale`` applies to ``year``, ``elapsed`` and ``age``."""

    part: str
    scale: Scale


@dataclass(frozen=True, slots=True)
class DatetimeColumn:
    """The parts of one date, in their order; ``reference`` is where ``age`` counts from, in microseconds since 1970."""

    name: str
    source: str
    parts: tuple[DatetimePart, ...]
    reference: int = 0
    kind: str = "datetime"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name.part``, or ``name.part.sin`` and ``name.part.cos`` for a part that comes round."""
        names: list[str] = []
        for each in self.parts:
            stem = f"{self.name}.{each.part}"
            names += [f"{stem}.sin", f"{stem}.cos"] if each.part in CIRCLES else [stem]
        return tuple(names)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        values = batch.values(self.source, "datetime")
        position, calendar = 0, Calendar(values.data)
        for each in self.parts:
            part = calendar.part(each.part, self.reference)
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
        source = self.source
        writers: list[Callable[[int, list[float]], None]] = []
        for each in self.parts:
            writers.append(_writer(each, offset, self.reference))
            offset += 2 if each.part in CIRCLES else 1

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            moment = read(canonical.instant, row[source], source, RULES["datetime"])
            if moment is not None:
                for write in writers:
                    write(moment, out)

        return fill

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        parts = [{"part": each.part, "mean": each.scale.mean, "std": each.scale.std} for each in self.parts]
        head = {"kind": self.kind, "name": self.name, "source": self.source}
        return {**head, "parts": parts, "reference": self.reference}


class Calendar:
    """The calendar parts of many moments: what a day tells is worked out once for each day between the outer ones."""

    def __init__(self, moments: NDArray[np.int64]) -> None:
        self.moments = moments
        days = moments // MICROSECONDS_A_DAY
        self.first, last = (int(days.min()), int(days.max())) if len(days) else (0, -1)
        self.span = last - self.first + 1
        self.place = days - self.first

    def part(self, part: str, reference: int) -> NDArray[Any]:
        """Return what ``part_of`` does."""
        if part not in DAILY or self.span > len(self.moments):
            return part_of(part, self.moments, reference)
        found: NDArray[Any] = part_of(part, (np.arange(self.span) + self.first) * MICROSECONDS_A_DAY)[self.place]
        return found


def part_of(part: str, moments: NDArray[np.int64], reference: int = 0) -> NDArray[Any]:
    """Return one calendar part of microseconds since 1970: int64, or float64 days for ``elapsed`` and ``age``."""
    if part in ("elapsed", "age"):
        return (moments - (reference if part == "age" else 0)).astype(np.float64) / MICROSECONDS_A_DAY
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


def _writer(each: DatetimePart, at: int, reference: int) -> Callable[[int, list[float]], None]:
    if each.part not in CIRCLES:
        scale, since = each.scale, reference if each.part == "age" else 0
        read_number = _ROW_PARTS["elapsed" if each.part == "age" else each.part]

        def write_scaled(moment: int, out: list[float]) -> None:
            out[at] = scale.one(read_number(moment - since))

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


def _parts(setting: DatetimeConfig) -> tuple[str, ...]:
    return (*setting.parts, "age") if setting.reference is not None else setting.parts


def _reference(setting: DatetimeConfig) -> int:
    return canonical.instant(setting.reference) or 0


def _observe(feature: Feature, batch: Batch) -> Extras:
    setting = _setting(feature)
    calendar = Calendar(batch.values(feature.input.name, "datetime").present)
    return {part: Moments.of(calendar.part(part, _reference(setting))) for part in _parts(setting)}


def _finish(feature: Feature, observed: Observed) -> DatetimeColumn:
    """Leave out the parts that never vary, such as the hour of plain dates."""
    setting = _setting(feature)
    parts: list[DatetimePart] = []
    for part in _parts(setting):
        moments = observed.extras[part]
        assert isinstance(moments, Moments)
        if moments.varies:
            parts.append(DatetimePart(part, Scale() if part in CIRCLES else Scale.standard(moments)))
    return DatetimeColumn(feature.name, feature.input.name, tuple(parts), _reference(setting))


def _setting(feature: Feature) -> DatetimeConfig:
    assert isinstance(feature.setting, DatetimeConfig)
    return feature.setting


def _restore(raw: Mapping[str, Any]) -> DatetimeColumn:
    parts = tuple(DatetimePart(each["part"], Scale(each["mean"], each["std"])) for each in raw["parts"])
    return DatetimeColumn(raw["name"], raw["source"], parts, raw["reference"])


KIND = Kind("datetime", _finish, _restore, _observe)
