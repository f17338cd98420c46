"""The as-of join and the windows as one would write them in a loop: slow, and plain enough to be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from rayline.config import WindowConfig
from rayline.features.joins.keys import key_text, moment
from rayline.features.joins.tables import JoinSpec

Row = Mapping[str, Any]

times = st.none() | st.integers(0, 12)
keys = st.none() | st.sampled_from(["a", "b", "7"])
numbers = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e16])


def key_of(row: Row, names: Sequence[str]) -> tuple[str, ...] | None:
    parts = tuple(key_text(row[name]) for name in names)
    return None if None in parts else parts  # type: ignore[return-value]


def joined_by_loop(rows: Sequence[Row], features: Sequence[Row], spec: JoinSpec) -> list[dict[str, Any]]:
    """For each row, look at every feature row."""
    result = []
    for row in rows:
        best: Row | None = None
        at, key = moment(row[spec.at]), key_of(row, spec.keys)
        for feature in features:
            time = moment(feature[spec.time])
            if key is None or at is None or time is None or key_of(feature, spec.keys) != key or time > at:
                continue
            if spec.ttl is not None and time <= at - spec.ttl:
                continue
            if best is None or time >= (moment(best[spec.time]) or 0):
                best = feature
        result.append({**row, **{spec.prefix + name: best[name] if best else None for name in spec.columns}})
    return result


def windowed_by_loop(rows: Sequence[Row], window: WindowConfig, span: int | None) -> list[float | None]:
    """For each row, sort the strictly earlier rows of its key and look at the last of them."""
    result: list[float | None] = []
    for row in rows:
        key, at = key_of(row, window.by), moment(row[window.time])
        earlier = [
            (time, place)
            for place, other in enumerate(rows)
            if key is not None and at is not None and key_of(other, window.by) == key
            if (time := moment(other[window.time])) is not None and time < at
        ]
        if key is None or at is None:
            result.append(None)
            continue
        seen = sorted(earlier)
        values = [rows[place][window.of] if window.of else 1.0 for _, place in seen]
        if window.lag is not None:
            result.append(values[-window.lag] if len(values) >= window.lag else None)
            continue
        if window.rows is not None:
            values = values[-window.rows :]
        else:
            assert span is not None
            values = [value for value, (time, _) in zip(values, seen, strict=True) if time >= at - span]
        result.append(aggregate_by_hand(str(window.aggregate), [value for value in values if value is not None]))
    return result


def aggregate_by_hand(name: str, values: list[float]) -> float | None:
    if name == "count":
        return float(len(values))
    if not values or (name == "std" and len(values) < 2):
        return None
    by_name = {
        "mean": lambda: math.fsum(values) / len(values),
        "sum": lambda: math.fsum(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "last": lambda: values[-1],
        "std": lambda: float(np.std(np.array(values), ddof=1)),
    }
    return by_name[name]()


def table_of(rows: Sequence[Row], types: Mapping[str, Any]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})
