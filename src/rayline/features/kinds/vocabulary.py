"""The levels that a categorical feature keeps, and where a value stands among them: in a batch and in one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import CategoricalConfig
from rayline.features.kinds.seam import Feature, Observed, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.canonical import LONGEST_NUMBER, level_order
from rayline.features.reading.values import Values
from rayline.features.sketches import Levels


def setting_of(feature: Feature) -> CategoricalConfig:
    """Return the setting of a categorical feature."""
    assert isinstance(feature.setting, CategoricalConfig)
    return feature.setting


def kept_levels(feature: Feature, observed: Observed) -> tuple[str, ...]:
    """Return the levels that a feature keeps: the most frequent first, the first in natural order among equals."""
    setting, levels = setting_of(feature), levels_of(feature, observed)
    often = [text for text, count in levels.counts.items() if count >= setting.min_count]
    return tuple(sorted(often, key=lambda text: (-levels.counts[text], level_order(text)))[: setting.max_levels])


def levels_of(feature: Feature, observed: Observed) -> Levels:
    """Return the counts of the feature's raw column."""
    return observed.columns[feature.input.name].levels


def slots_of(values: Values, levels: tuple[str, ...]) -> NDArray[np.int64]:
    """Return each row's place in ``levels``: int64 (n,), ``len(levels)`` for an unknown level, one more if missing."""
    places, unknown = {level: slot for slot, level in enumerate(levels)}, len(levels)
    # A missing value has the code -1, so its slot comes last.
    lookup = np.array([*(places.get(text, unknown) for text in values.texts), unknown + 1], dtype=np.int64)
    found: NDArray[np.int64] = lookup.take(values.codes, mode="wrap")
    return found


def slot_reader(source: str, levels: tuple[str, ...]) -> Callable[[Mapping[str, Any]], int]:
    """Return what ``slots_of`` does of one row. The closure raises ``KeyError`` and ``RowError`` as a filler does."""
    slots, unknown = {level: slot for slot, level in enumerate(levels)}, len(levels)
    by_text, by_int = slots.get, {int(text): slot for text, slot in slots.items() if is_int(text)}.get

    def slot_of(row: Mapping[str, Any]) -> int:
        value = row[source]
        slot = by_text(value) if value.__class__ is str else by_int(value) if value.__class__ is int else None
        if slot is None:
            text = read(canonical.level_text, value, source, RULES["categorical"])
            slot = unknown + 1 if text is None else by_text(text, unknown)
        return slot

    return slot_of


def is_int(text: str) -> bool:
    """Tell whether a level is what ``canonical.level_text`` makes of a whole number."""
    return (
        text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= LONGEST_NUMBER and str(int(text)) == text
    )
