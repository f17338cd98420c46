"""Which embedded store answers a service's look-ups best: LMDB or SQLite?

Question   How fast are 1 million keys of 10 columns written, and how long does one look-up of a random key take: from
           one process alone, and from two reader processes while a third writes?
Ceiling    A Python dict in the same process that holds the same encoded records, decoded at each look-up: what the
           record's own form costs, without any store. It survives nothing and is shared with nobody.
Method     Both stores behind the same seam, on the same disk, with the same rows (8 doubles, a whole number, a text),
           written in batches of 50,000; all rows are then written again with a newer time. LMDB is synced at each
           commit, SQLite (WAL, synchronous NORMAL, memory-mapped) is not. Rounds are interleaved and begin with another
           store each time. Every read is checked against what was written.
Command    python benchmarks/online_store.py [--quick]

The last line is one JSON object; its ratios are LMDB's over SQLite's: writes above 1, look-ups below 1 speak for LMDB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rayline.features.online.lmdb_store import LmdbStore
from rayline.features.online.record import Layouts, key_bytes, listed, records, unlisted
from rayline.features.online.seam import Found, Key, OnlineStore, Value

COLUMNS = (*(f"number_{place}" for place in range(8)), "count", "name")
BATCH = 50_000
SMALL_BATCH = 1_000
START = 1_700_000_000_000_000
FILE = "rows.sqlite"
ASKED_AT_ONCE = 500
BUSY_SECONDS = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS tables (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS layouts (name TEXT NOT NULL, columns BLOB NOT NULL, PRIMARY KEY (name, columns));
CREATE TABLE IF NOT EXISTS rows (
    source INTEGER NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (source, key)
) WITHOUT ROWID;
"""
_PUT = """
INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (source, key) DO UPDATE SET at = excluded.at, record = excluded.record
WHERE excluded.at >= at
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One store in one round: rows written per second, and microseconds of a look-up."""

    write: float
    rewrite: float
    p50: float
    p99: float
    batch_us_per_key: float
    shared_p50: float
    shared_p99: float
    shared_writes: float
    megabytes: float


class SqliteStore:
    """The rival: one SQLite file, a connection for each thread. Meets ``OnlineStore``, but for its errors."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._local = threading.local()
        self._layouts = Layouts(self._columns)
        self._sources: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._door().executescript(_TABLES)

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        with self._door() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR IGNORE INTO tables (name) VALUES (?)", (table,))
            connection.execute("INSERT OR IGNORE INTO layouts VALUES (?, ?)", (table, listed(columns)))
            source = self._source(connection, table)
            made = ((source, key, time, record) for key, time, record in records(columns, keys, times, rows))
            return connection.executemany(_PUT, made).rowcount

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        names = [key_bytes(key) for key in keys]
        asked = [name for name in names if name is not None]
        found: dict[bytes, bytes] = {}
        connection = self._door()
        source = self._source(connection, table)
        for start in range(0, len(asked), ASKED_AT_ONCE):
            some = asked[start : start + ASKED_AT_ONCE]
            query = f"SELECT key, record FROM rows WHERE source = ? AND key IN ({','.join('?' * len(some))})"
            found.update(connection.execute(query, (source, *some)).fetchall())
        kept = [found.get(name) if name is not None else None for name in names]
        return [self._layouts.found(table, record) if record is not None else None for record in kept]

    def size(self, table: str) -> int:
        connection = self._door()
        query = "SELECT count(*) FROM rows WHERE source = ?"
        count: int = connection.execute(query, (self._source(connection, table),)).fetchone()[0]
        return count

    def close(self) -> None:
        self._door().close()

    def _columns(self, table: str) -> list[list[str]]:
        lists = self._door().execute("SELECT columns FROM layouts WHERE name = ?", (table,))
        return [unlisted(each) for (each,) in lists]

    def _source(self, connection: sqlite3.Connection, table: str) -> int:
        found = self._sources.get(table)
        if found is None:
            found = connection.execute("SELECT id FROM tables WHERE name = ?", (table,)).fetchone()[0]
            self._sources[table] = found
        return found

    def _door(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "mmap_size = 8589934592"):
                connection.execute(f"PRAGMA {pragma}")
            self._local.connection = connection
        return connection


class Dict:
    """The ceiling: records in a dict."""

    def __init__(self, folder: Path) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._layouts = Layouts(lambda table: [COLUMNS])

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        for key, _, record in records(columns, keys, times, rows):
            self._rows[key] = record
        return len(keys)

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        return [self._layouts.found(table, self._rows[key_bytes(key) or b""]) for key in keys]

    def size(self, table: str) -> int:
        return len(self._rows)

    def close(self) -> None:
        self._rows.clear()


STORES: dict[str, Callable[[Path], OnlineStore]] = {"lmdb": LmdbStore, "sqlite": SqliteStore}


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the keys, one round: under a minute")
    options = parser.parse_args()
    keys, rounds, looks = (100_000, 1, 20_000) if options.quick else (1_000_000, 3, 100_000)
    found: dict[str, list[Measured]] = {name: [] for name in STORES}
    ceiling = []
    names = list(STORES)
    for turn in range(rounds):
        ceiling.append(bare(keys, looks))
        for name in names[turn % 2 :] + names[: turn % 2]:
            found[name].append(measure(name, keys, looks))
    report(found, ceiling, keys, rounds)
    return 0


def measure(name: str, keys: int, looks: int) -> Measured:
    """Write, look up and share one store."""
    folder = Path(tempfile.mkdtemp(prefix="rayline-online-"))
    try:
        store = STORES[name](folder)
        writes = write_all(store, keys, START)
        again = write_all(store, keys, START + 1)
        assert store.size("t") == keys
        times = look_up(store, keys, looks, seed=1)
        batch = batches(store, keys, looks)
        size = sum(file.stat().st_blocks * 512 for file in folder.iterdir()) / 2**20
        store.close()
        shared, shared_writes = look_up_shared(name, folder, keys, looks // 2)
        return Measured(
            writes,
            again,
            float(np.percentile(times, 50)),
            float(np.percentile(times, 99)),
            batch,
            float(np.percentile(shared, 50)),
            float(np.percentile(shared, 99)),
            shared_writes,
            size,
        )
    finally:
        shutil.rmtree(folder)


def bare(keys: int, looks: int) -> tuple[float, float, float]:
    """Measure the ceiling: rows per second, and the two percentiles in microseconds."""
    store = Dict(Path())
    writes = write_all(store, keys, START)
    times = look_up(store, keys, looks, seed=1)
    return writes, float(np.percentile(times, 50)), float(np.percentile(times, 99))


def rows_of(first: int, last: int, moment: int) -> tuple[list[Key], list[int], list[list[Value]]]:
    """Make some rows; the first number of a row tells which it is."""
    numbers = np.random.default_rng(first).normal(size=(last - first, 8)).tolist()
    rows: list[list[Value]] = []
    for place, row in enumerate(numbers, start=first):
        row[0] = float(place)
        rows.append([*row, place % 1_000, f"name {place % 5_000}"])
    return [(f"customer-{place}",) for place in range(first, last)], [moment] * (last - first), rows


def write_all(store: OnlineStore, keys: int, moment: int) -> float:
    """Return rows per second; making the rows is not counted."""
    spent = 0.0
    for first in range(0, keys, BATCH):
        batch = rows_of(first, min(first + BATCH, keys), moment)
        began = time.perf_counter()
        kept = store.put("t", COLUMNS, *batch)
        spent += time.perf_counter() - began
        assert kept == len(batch[0])
    return keys / spent


def look_up(store: OnlineStore, keys: int, looks: int, seed: int) -> np.ndarray:
    """Return microseconds of each look-up of one random key."""
    wanted = np.random.default_rng(seed).integers(0, keys, looks).tolist()
    times = np.empty(looks)
    for place, number in enumerate(wanted):
        key = [(f"customer-{number}",)]
        began = time.perf_counter_ns()
        found = store.get("t", key)[0]
        times[place] = (time.perf_counter_ns() - began) / 1e3
        assert found is not None
        assert found.values["number_0"] == number
    return times


def batches(store: OnlineStore, keys: int, looks: int) -> float:
    """Return microseconds per key of look-ups of 100 keys at once, at the median."""
    wanted = np.random.default_rng(2).integers(0, keys, (looks // 100, 100)).tolist()
    times = []
    for numbers in wanted:
        names = [(f"customer-{number}",) for number in numbers]
        began = time.perf_counter()
        found = store.get("t", names)
        times.append((time.perf_counter() - began) * 1e4)
        assert None not in found
    return statistics.median(times)


def look_up_shared(name: str, folder: Path, keys: int, looks: int) -> tuple[np.ndarray, float]:
    """Return microseconds of look-ups in two processes while this one writes, and its rows per second."""
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    answers: Any = context.Queue()
    readers = [
        context.Process(target=read_apart, args=(name, str(folder), keys, looks, seed, go, answers)) for seed in (3, 4)
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        answers.get()
    store = STORES[name](folder)
    go.set()
    written, began = 0, time.perf_counter()
    for batch in small_batches(keys):
        if not any(reader.is_alive() for reader in readers) or answers.qsize() == len(readers):
            break
        written += store.put("t", COLUMNS, *batch)
    rate = written / (time.perf_counter() - began)
    found = [answers.get() for _ in readers]
    for reader in readers:
        reader.join()
    store.close()
    return np.concatenate(found), rate


def small_batches(keys: int) -> Iterator[tuple[list[Key], list[int], list[list[Value]]]]:
    """Yield batches without end, each newer than the last."""
    moment = START + 1
    while True:
        for first in range(0, keys, SMALL_BATCH):
            moment += 1
            yield rows_of(first, first + SMALL_BATCH, moment)


def read_apart(name: str, folder: str, keys: int, looks: int, seed: int, go: Any, answers: Any) -> None:
    """Be a reader process."""
    store = STORES[name](Path(folder))
    look_up(store, keys, 100, seed=9)
    answers.put(None)
    go.wait()
    answers.put(look_up(store, keys, looks, seed))
    store.close()


def report(found: dict[str, list[Measured]], ceiling: list[tuple[float, float, float]], keys: int, rounds: int) -> None:
    """Print the table, then the one line of JSON."""
    table = Table(title=f"{keys:,} keys of {len(COLUMNS)} columns: {rounds} interleaved rounds, medians (span)")
    figures = {
        "write": "rows/s written",
        "rewrite": "rows/s written again",
        "p50": "look-up p50 us",
        "p99": "look-up p99 us",
        "batch_us_per_key": "us per key, 100 at once",
        "shared_p50": "p50 us, 2 readers + writer",
        "shared_p99": "p99 us, 2 readers + writer",
        "shared_writes": "rows/s of that writer",
        "megabytes": "MiB on disk",
    }
    for column in ("", *found, "dict in memory"):
        table.add_column(column, justify="right" if column else "left")
    bound = dict(zip(("write", "p50", "p99"), zip(*ceiling, strict=True), strict=True))
    for field, label in figures.items():
        cells = [spread([getattr(run, field) for run in runs]) for runs in found.values()]
        table.add_row(label, *cells, spread(list(bound[field])) if field in bound else "")
    Console(width=140).print(table)
    ratios = {
        f"{field}_lmdb_over_sqlite": round(
            statistics.median(
                getattr(mine, field) / getattr(other, field)
                for mine, other in zip(found["lmdb"], found["sqlite"], strict=True)
            ),
            3,
        )
        for field in figures
    }
    print(
        json.dumps(
            {
                "benchmark": "online_store",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "lmdb", "msgspec")}
                | {"sqlite": sqlite3.sqlite_version},
                "rounds": rounds,
                "results": {name: [asdict(run) for run in runs] for name, runs in found.items()}
                | {"dict": [dict(zip(("write", "p50", "p99"), run, strict=True)) for run in ceiling]},
                "ratios": ratios,
            }
        )
    )


def spread(values: list[float]) -> str:
    """Return the median and the span of some figures."""
    form = "{:,.0f}" if min(values) >= 1_000 else "{:.1f}"
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"


if __name__ == "__main__":
    sys.exit(main())
