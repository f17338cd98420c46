"""Is the point-in-time join on Ray equal to brute force, and how long do both take?

Question   100,000 label rows are joined to 1,000,000 feature rows of 20,000 keys as of their time, with a time-to-live,
           6 columns (4 doubles, a whole number, a text). Is every value the one that a loop finds? In what time?
Ceiling    1.0 for equality. For time, the vectorised core on two tables in memory: no Ray, no blocks, no exchange.
Method     Brute force is an independent loop in plain Python: rows by key in lists, sorted by time, one bisect per
           label. Keys are skewed (7,124 rows to 1), 12 % of the labels find nothing, 1.7 % of the features share key
           and time with another. `exchange` sends both sides to partitions by key; `broadcast` sends the feature table
           whole; `pandas` is merge_asof on the same tables in memory, sorted first as it asks for. Rounds are
           interleaved; every cell of every arm and round is compared. Ray and its workers run before the clock does.
Command    python benchmarks/join.py [--quick]

The last line is one JSON object; ratios are times over brute force's in the same round, below 1 is quicker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from rayline.features.blocks import in_blocks, quiet
from rayline.features.joins.exchange import joined
from rayline.features.joins.join import join_tables
from rayline.features.joins.tables import JoinSpec

DAY = 86_400_000_000
COLUMNS = ("a", "b", "c", "d", "count", "segment")
SPEC = JoinSpec("profiles", ("customer",), "seen", "at", 60 * DAY, COLUMNS)


def main() -> int:
    """Run the benchmark. Returns the process's exit status: 1 where a result is not equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round: under a minute")
    options = parser.parse_args()
    labels, features, keys = (10_000, 100_000, 2_000) if options.quick else (100_000, 1_000_000, 20_000)
    rounds = 1 if options.quick else 5
    rows, table = made(labels, features, keys)

    import ray

    with tempfile.TemporaryDirectory(prefix="rayline-join-") as folder:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        try:
            arms = arms_of(rows, table)
            for arm in ("exchange", "broadcast"):
                arms[arm]()  # workers start once
            times, equal = measure(arms, rounds)
        finally:
            ray.shutdown()
    report(times, equal, rows, table, rounds)
    return 0 if all(equal.values()) else 1


def made(labels: int, features: int, keys: int) -> tuple[pa.Table, pa.Table]:
    """Make both tables; some customers have far more rows than others, and some labels have no customer known."""
    chance = np.random.default_rng(6)
    start = np.datetime64("2023-01-01", "us").astype(np.int64)

    def customers(rows: int) -> np.ndarray:
        return (keys * chance.random(rows) ** 2).astype(np.int64)

    def times(rows: int, unit: int) -> pa.Array:
        return pa.array(start + chance.integers(0, 365 * DAY // unit, rows) * unit, pa.timestamp("us"))

    strangers = chance.random(labels) < 0.1
    rows = pa.table(
        {
            "customer": np.where(strangers, keys + chance.integers(0, keys, labels), customers(labels)),
            "at": times(labels, 3_600_000_000),
            "label": chance.normal(size=labels),
        }
    )
    table = pa.table(
        {
            "customer": customers(features),
            "seen": times(features, 3_600_000_000),
            **{name: chance.normal(size=features) for name in "abcd"},
            "count": chance.integers(0, 1_000, features),
            "segment": pa.array(chance.choice(["new", "loyal", "lost"], features)),
        }
    )
    return rows, table


def brute_force(rows: pa.Table, table: pa.Table) -> pa.Table:
    """Join in plain Python."""
    known: dict[int, list[tuple[int, int]]] = defaultdict(list)
    seen = table.column("seen").cast(pa.int64()).to_pylist()
    for place, (key, moment) in enumerate(zip(table.column("customer").to_pylist(), seen, strict=True)):
        known[key].append((moment, place))
    for each in known.values():
        each.sort()
    values = {name: table.column(name).to_pylist() for name in COLUMNS}
    found: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    at = rows.column("at").cast(pa.int64()).to_pylist()
    for key, moment in zip(rows.column("customer").to_pylist(), at, strict=True):
        history = known.get(key, [])
        end = bisect_right(history, (moment, len(seen)))
        fresh = end > 0 and history[end - 1][0] > moment - (SPEC.ttl or 0)
        for name, column in found.items():
            column.append(values[name][history[end - 1][1]] if fresh else None)
    for name in COLUMNS:
        rows = rows.append_column(name, pa.array(found[name], table.schema.field(name).type))
    return rows


def by_pandas(rows: pa.Table, table: pa.Table) -> pa.Table:
    """Join with merge_asof, whose sort is stable where it is asked to be, and put the rows back in their order."""
    import pandas as pd

    left = rows.to_pandas().assign(place=np.arange(rows.num_rows)).sort_values("at", kind="stable")
    right = table.to_pandas().sort_values("seen", kind="stable")
    tolerance = pd.Timedelta(60, "D") - pd.Timedelta(1, "us")
    merged = pd.merge_asof(left, right, left_on="at", right_on="seen", by="customer", tolerance=tolerance)
    merged = merged.sort_values("place").drop(columns=["place", "seen"])
    return pa.Table.from_pandas(merged, preserve_index=False)


def arms_of(rows: pa.Table, table: pa.Table) -> dict[str, Callable[[], pa.Table]]:
    """Return what is compared; the two on Ray begin with Datasets of 10 blocks each."""
    left, right = in_blocks(rows, rows.num_rows // 10), in_blocks(table, table.num_rows // 10)

    def on_ray(limit: int) -> pa.Table:
        features = table if limit else right
        with quiet():
            dataset = joined(left, features, SPEC, broadcast_bytes=limit)
            return pa.concat_tables(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))

    return {
        "brute force": lambda: brute_force(rows, table),
        "exchange": lambda: on_ray(0),
        "broadcast": lambda: on_ray(2**40),
        "in memory": lambda: join_tables(rows, table, SPEC),
        "pandas": lambda: by_pandas(rows, table),
    }


def measure(arms: dict[str, Callable[[], pa.Table]], rounds: int) -> tuple[dict[str, list[float]], dict[str, bool]]:
    """Run all arms in every round, each round in another order; compare all results with brute force's."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    equal = dict.fromkeys(arms, True)
    names = list(arms)
    for turn in range(rounds):
        results = {}
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            results[name] = arms[name]()
            times[name].append(time.perf_counter() - began)
        expected = cells(results["brute force"])
        for name, result in results.items():
            equal[name] &= cells(result) == expected
    return times, equal


def cells(table: pa.Table) -> list[Any]:
    """Return every cell, by column; a missing number is the same whether it is null or NaN."""
    found = []
    for name in ("customer", "at", "label", *COLUMNS):
        column = table.column(name)
        if name in ("a", "b", "c", "d", "count"):
            column = pa.array(column.cast(pa.float64()).to_numpy(), from_pandas=True)
        found.append(column.cast(pa.int64()).to_pylist() if name == "at" else column.to_pylist())
    return found


def report(times: dict[str, list[float]], equal: dict[str, bool], rows: pa.Table, table: pa.Table, rounds: int) -> None:
    """Print the table, then the one line of JSON."""
    title = f"{rows.num_rows:,} by {table.num_rows:,} rows: {rounds} interleaved rounds, medians (span)"
    shown = Table(title=title)
    for column in ("arm", "seconds", "over brute force", "equal, every cell"):
        shown.add_column(column, justify="left" if column == "arm" else "right")
    ratios = {}
    for name, found in times.items():
        ratio = statistics.median(mine / base for mine, base in zip(found, times["brute force"], strict=True))
        ratios[f"{name.replace(' ', '_')}_over_brute_force"] = round(ratio, 3)
        span = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
        shown.add_row(name, span, f"{ratio:.2f}", "yes" if equal[name] else "NO")
    Console(width=120).print(shown)
    print(
        json.dumps(
            {
                "benchmark": "join",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "ray", "pyarrow", "numpy", "pandas")},
                "rounds": rounds,
                "results": {name: {"seconds": found, "equal": equal[name]} for name, found in times.items()},
                "ratios": ratios,
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
