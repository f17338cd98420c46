"""A Feast repository of taxi drivers: Parquet files, a registry, and an online store in SQLite that Feast filled."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

EPOCH = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
ROWS, LABELS, DRIVERS = 4_000, 2_500, 60
HOUR = 3_600_000_000  # microseconds


@dataclass(frozen=True)
class Repo:
    """A repository that was applied, and what lies in it."""

    folder: Path
    store: Any
    stats: pa.Table
    ties: pa.Table

    @property
    def source(self) -> str:
        return f"feast:{self.folder}"


SETTINGS = """\
project: taxi
registry: data/registry.db
provider: local
online_store: {type: sqlite, path: data/online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""


def moments(hours: Any) -> pa.Array:
    start = int(EPOCH.timestamp() * 1e6)
    return pa.array((start + np.asarray(hours) * HOUR).astype(np.int64), pa.timestamp("us", "UTC"))


def stats_table(*, ties: bool) -> pa.Table:
    """Hours of many drivers. With ``ties`` several rows share a driver's hour, and differ in when they were made."""
    chance = np.random.default_rng(3)
    hours = 24 * 30
    drawn = chance.integers(0, DRIVERS * 40, ROWS) if ties else chance.permutation(DRIVERS * hours)[:ROWS]
    driver, hour = drawn % DRIVERS, drawn // DRIVERS
    return pa.table(
        {
            "driver_id": driver + 1_000,
            "event_timestamp": moments(hour),
            "created": moments(hour + 1 + chance.permutation(ROWS)),
            "rate": pa.array(chance.random(ROWS), mask=chance.random(ROWS) < 0.1),
            "n_trips": chance.integers(0, 100, ROWS),
            "note": pa.array([f"note {number}" for number in range(ROWS)]),
        }
    )


def labels_table(hours: int = 24 * 30) -> pa.Table:
    """Rows to join to: unknown drivers among them, and some exactly as old as a time-to-live of one day."""
    chance = np.random.default_rng(4)
    at = chance.integers(0, hours * 60, LABELS) / 60
    at[::5] = np.floor(at[::5])
    table = pa.table({"driver_id": chance.integers(0, DRIVERS + 8, LABELS) + 1_000, "event_timestamp": moments(at)})
    unique = table.group_by(["driver_id", "event_timestamp"], use_threads=False).aggregate([])
    return unique.append_column("y", pa.array(chance.normal(size=unique.num_rows)))


def made(folder: Path) -> Repo:
    import feast
    import pyarrow.parquet as parquet
    from feast.types import Float64, Int64, String

    (folder / "data").mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(SETTINGS)
    stats, ties = stats_table(ties=False), stats_table(ties=True)
    parquet.write_table(stats, folder / "data" / "stats.parquet")
    parquet.write_table(ties, folder / "data" / "ties.parquet")
    car = pa.table({"car": ["a", "b"], "seen": moments([0, 5]), "driver_id": ["x", "y"], "seats": [4, 6]})
    parquet.write_table(car, folder / "data" / "cars.parquet")
    driver = feast.Entity(name="driver", join_keys=["driver_id"], value_type=feast.ValueType.INT64)
    vehicle = feast.Entity(name="vehicle", join_keys=["car"], value_type=feast.ValueType.STRING)

    def source(name: str, **given: Any) -> Any:
        return feast.FileSource(
            name=name,
            path=f"data/{name}.parquet",
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
            field_mapping={"n_trips": "trips"},
            **given,
        )

    fields = [
        feast.Field(name="rate", dtype=Float64),
        feast.Field(name="trips", dtype=Int64),
        feast.Field(name="note", dtype=String),
    ]
    stats_view = feast.FeatureView(
        name="driver_stats", entities=[driver], ttl=dt.timedelta(days=1), schema=fields, source=source("stats")
    )
    ties_view = feast.FeatureView(name="driver_ties", entities=[driver], ttl=None, schema=fields, source=source("ties"))
    cars = feast.FeatureView(
        name="cars",
        entities=[vehicle],
        ttl=dt.timedelta(0),
        schema=[feast.Field(name="seats", dtype=Int64)],
        source=feast.FileSource(name="cars", path="data/cars.parquet", timestamp_field="seen"),
    )
    offline = feast.FeatureView(
        name="offline_only", entities=[driver], schema=fields[:1], source=source("stats"), online=False
    )
    both = feast.FeatureService(name="trip", features=[stats_view[["rate", "trips"]], cars])
    twice = feast.FeatureService(
        name="pair",
        features=[
            stats_view[["rate"]].with_name("first").with_join_key_map({"driver_id": "first_id"}),
            stats_view[["rate"]].with_name("second").with_join_key_map({"driver_id": "second_id"}),
        ],
    )
    store = feast.FeatureStore(repo_path=str(folder))
    store.apply([driver, vehicle, stats_view, ties_view, cars, offline, both, twice])
    store.materialize(
        EPOCH - dt.timedelta(days=1), EPOCH + dt.timedelta(days=60), feature_views=["driver_stats", "cars"]
    )
    return Repo(folder, store, stats, ties)
