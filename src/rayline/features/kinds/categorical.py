"""A level of several, by one of the encodings, each a file of its own beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.errors import SchemaError, suggestion
from rayline.features.kinds import hashed, levels, one_hot, target
from rayline.features.kinds.seam import Extras, Feature, FittedColumn, Kind, Observed
from rayline.features.kinds.vocabulary import setting_of
from rayline.features.reading.batch import Batch

ENCODINGS: dict[str, Kind] = {
    each.name: each
    for each in (
        one_hot.ENCODING,
        levels.ORDINAL,
        levels.INDEX,
        levels.FREQUENCY,
        hashed.ENCODING,
        target.ENCODING,
    )
}


def _observe(feature: Feature, batch: Batch) -> Extras:
    return ENCODINGS[setting_of(feature).encode].observe(feature, batch)


def _finish(feature: Feature, observed: Observed) -> FittedColumn:
    return ENCODINGS[setting_of(feature).encode].finish(feature, observed)


def _restore(raw: Mapping[str, Any]) -> FittedColumn:
    encode = raw["encode"]
    if encode not in ENCODINGS:
        raise SchemaError(f"encoding '{encode}' is unknown. {suggestion(encode, ENCODINGS)}")
    return ENCODINGS[encode].restore(raw)


def _looks_beyond(feature: Feature) -> bool:
    return setting_of(feature).encode == "target"


KIND = Kind("categorical", _finish, _restore, _observe, _looks_beyond)
