"""Can the features step take a table that is far larger than what it may keep in memory?

Question   How long do 20 million rows by 20 columns (3 GB of Parquet) take to be checked, divided, fitted, transformed
           and written with an object store of 512 MiB, and how much memory do the driver and the workers take?
Ceiling    A bare Ray Data pass over the same files on the same cluster, that reads every value and keeps nothing.
Method     18 numbers (2 % missing) and 2 categories of 50 levels in 40 Parquet files; 2 CPUs; a Ray of its own. The
           peak memory of the driver is what the kernel counted (VmHWM); of the workers, the largest resident set that
           was seen every half second. Spilled bytes are Ray's own count, from its log.
Command    python benchmarks/out_of_core.py [--quick] [--folder DIR]

The last line is one JSON object. The run takes about 12 GB of disk under the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rich.table import Table

from rayline.config import Config, DataConfig, FeaturesConfig
from rayline.features.blocks import fold
from rayline.features.pipeline import prepare
from rayline.features.sources import read_dataset

FILES = 40
OBJECT_STORE = 512 * 2**20
NUMBERS = 18


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 million rows instead of 20 million")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; default: a temporary folder")
    options = parser.parse_args()
    rows = 2_000_000 if options.quick else 20_000_000
    folder = Path(tempfile.mkdtemp(prefix="rayline-rows-", dir=options.folder))
    try:
        source_bytes = made(folder / "source", rows)
        with cluster() as session, Watch() as watch:
            bare = timed(lambda: look_at_all(folder / "source"))
            seconds, facts = features(folder)
            report(rows, source_bytes, bare, seconds, facts, watch, spilled(session))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def made(folder: Path, rows: int) -> int:
    """Write the source's files and return their size in bytes."""
    folder.mkdir()
    each = rows // FILES
    levels = pa.array([f"level {place}" for place in range(50)])
    for file in range(FILES):
        chance = np.random.default_rng(file)
        columns: dict[str, Any] = {
            f"number_{place}": pa.array(chance.normal(place, 1 + place, each), mask=chance.random(each) < 0.02)
            for place in range(NUMBERS)
        }
        for place in range(2):
            columns[f"level_{place}"] = levels.take(pa.array(chance.integers(0, 50, each)))
        columns["target"] = pa.array(chance.normal(size=each))
        parquet.write_table(pa.table(columns), folder / f"{file:03d}.parquet", row_group_size=100_000)
    return sum(path.stat().st_size for path in folder.iterdir())


def config_of(folder: Path) -> Config:
    """Return the project."""
    return Config(name="large", data=DataConfig(source=str(folder)), features=FeaturesConfig(target="target"))


def features(folder: Path) -> tuple[float, dict[str, int]]:
    """Return the seconds of the features step and the rows of its parts."""
    began = time.perf_counter()
    prepared = prepare(config_of(folder / "source"), folder / "features" / "run")
    return time.perf_counter() - began, prepared.facts.rows


def look_at_all(folder: Path) -> None:
    """Read every value on Ray Data and keep nothing."""
    total = sum(fold(read_dataset(config_of(folder).data), read_values))
    assert total > 0


def read_values(table: pa.Table) -> int:
    """Return the number of rows, after a touch of every buffer."""
    return int(table.num_rows + 0 * table.combine_chunks().nbytes)


def timed(function: Any) -> float:
    """Return the seconds that a function takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


@contextmanager
def cluster() -> Iterator[Path]:
    """Give a Ray of 2 CPUs with the small object store, and the folder of its session."""
    import ray

    # Short, since Ray keeps Unix sockets there.
    temporary = tempfile.mkdtemp(prefix="rl-")
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=temporary,
    )
    try:
        yield Path(temporary) / "session_latest"
    finally:
        ray.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)


class Watch:
    """The largest resident set of any worker of this Ray, in bytes, and of the driver."""

    def __init__(self) -> None:
        self.worker = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def driver(self) -> int:
        """The driver's peak, as the kernel counted it."""
        return _memory(os.getpid(), "VmHWM")

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            for folder in Path("/proc").iterdir():
                if folder.name.isdecimal() and _is_task(folder):
                    self.worker = max(self.worker, _memory(int(folder.name), "RssAnon"))


def _is_task(folder: Path) -> bool:
    try:
        return (folder / "cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def _memory(pid: int, key: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found.group(1)) if found else 0


def spilled(session: Path) -> float:
    """Return the MiB that Ray says it spilled."""
    total = 0.0
    for log in (session / "logs").glob("raylet*.out"):
        found = re.findall(r"Spilled (\d+(?:\.\d+)?) MiB", log.read_text(errors="replace"))
        total += max(map(float, found), default=0.0)
    return total


def report(
    rows: int, source: int, bare: float, seconds: float, parts: dict[str, int], watch: Watch, spilled_mib: float
) -> None:
    """Print the table, then the JSON line."""
    results = {
        "rows": rows,
        "parts": parts,
        "source_gb": source / 1e9,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "bare_pass_seconds": bare,
        "driver_peak_gib": watch.driver / 2**30,
        "largest_worker_gib": watch.worker / 2**30,
        "spilled_mib": spilled_mib,
    }
    table = Table("20 columns, object store of 512 MiB", "")
    for name, value in results.items():
        table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else str(value))
    Console().print(table)
    line = {
        "benchmark": "out_of_core",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("ray", "numpy", "pyarrow")},
        "rounds": 1,
        "results": results,
        "ratios": {"features_vs_bare_pass": round(seconds / bare, 3)},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
