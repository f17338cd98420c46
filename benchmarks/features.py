"""How fast are features fitted and applied, against scikit-learn, Ray Data's own preprocessors and hand-written Polars?

Question   Rows per second of fit and transform together, and microseconds for one request row.
Ceiling    Polars written by hand for this very table: expressions that know each column, with no check of any value,
           no quantiles, no state to keep. For one row: a NumPy function written by hand in the same way.
Method     2 million rows by 30 columns in memory: 20 numbers (5 % missing; mean, then standardised), 8 categories of 10
           to 17 levels (2 % missing; one-hot) and 2 of 1,000 levels (ordinal). Every arm starts from the table in its
           own form (Arrow, pandas, Polars, or a Ray Dataset in the object store) and ends with all features as 32-bit
           floats: one row-major matrix, or for the Ray arms one vector column in the object store. Rounds are
           interleaved and begin with another arm each time; medians. The arms' numbers are compared on some rows.
           Rayline is measured in this process (against scikit-learn and Polars) and on Ray Data (against Ray's
           preprocessors, on the same cluster with both processors). Its fit gathers besides what the others do not:
           exact moments, quantiles, distinct counts, and every value is checked. Before each run 4 GiB are touched and
           given back: a virtual machine's first touch of memory costs up to ten times the next, and no arm should pay
           for it. Giving a result's memory back is not counted.
Command    python benchmarks/features.py [--quick]

The last line is one JSON object. Speed ratios above 1 are in Rayline's favour; `row_vs_numpy` is a ratio of times.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from rayline.config import CategoricalConfig, ColumnConfig, FeaturesConfig, NumericConfig
from rayline.config.columns import ColumnKind
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet

NUMBERS = tuple(f"number_{place}" for place in range(20))
FEW = tuple(f"few_{place}" for place in range(8))
MANY = tuple(f"many_{place}" for place in range(2))
TARGET = "target"
COMPARED = 1_000
BLOCK = 500_000  # rows: about 128 MiB, as Ray cuts a source by itself
SETTLED = 4 * 2**30

Matrix = Any


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200,000 rows and one round: about a minute")
    options = parser.parse_args()
    rows, rounds = (200_000, 1) if options.quick else (2_000_000, 3)
    warnings.filterwarnings("ignore")
    table = made(rows)
    arms = {
        "rayline": rayline_arm(table),
        "polars": polars_arm(table),
        "scikit-learn": sklearn_arm(table),
        **ray_arms(table),
    }
    seconds = interleaved(arms, rounds)
    row_us = row_times(table)
    report(rows, seconds, row_us)
    return 0


def made(rows: int) -> pa.Table:
    """Return the table: the same for the same number of rows."""
    chance = np.random.default_rng(7)
    columns: dict[str, Any] = {}
    for place, name in enumerate(NUMBERS):
        values = chance.normal(10.0 * place, 1.0 + place, rows)
        columns[name] = pa.array(values, mask=chance.random(rows) < 0.05)
    for names, size in ((FEW, 10), (MANY, 1_000)):
        for place, name in enumerate(names):
            levels = pa.array([f"{name}_level_{level:04d}" for level in range(size + (place if size == 10 else 0))])
            codes = (chance.zipf(1.3, rows) % len(levels)).astype(np.int32)
            columns[name] = levels.take(pa.array(codes, mask=chance.random(rows) < 0.02))
    columns[TARGET] = chance.normal(size=rows)
    return pa.table(columns)


def declared(table: pa.Table) -> FeatureSet:
    """Return the FeatureSet, with a schema from the first rows."""
    columns: dict[str, ColumnConfig | ColumnKind] = {
        **{name: NumericConfig() for name in NUMBERS},
        **{name: CategoricalConfig() for name in FEW},
        **{name: CategoricalConfig(encode="ordinal", max_levels=2_000) for name in MANY},
    }
    features = FeaturesConfig(target=TARGET, columns=columns)
    return FeatureSet.from_config(features, schema_for(features, table.slice(0, 100_000)))


def rayline_arm(table: pa.Table) -> Callable[[], Matrix]:
    """Return fit and transform in this process."""
    features = declared(table)
    return lambda: features.fit_transform(table)[1]


def polars_arm(table: pa.Table) -> Callable[[], Matrix]:
    """Return the hand-written Polars: two queries and one copy into a row-major matrix."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)

    def run() -> Matrix:
        asked = [pl.col(name).mean().alias(f"{name} mean") for name in NUMBERS]
        asked += [pl.col(name).std(ddof=0).alias(f"{name} std") for name in NUMBERS]
        asked += [pl.col(name).drop_nulls().unique().implode() for name in (*FEW, *MANY)]
        state = frame.select(asked).row(0, named=True)
        made = [
            ((pl.col(name).fill_null(state[f"{name} mean"]) - state[f"{name} mean"]) / state[f"{name} std"])
            .cast(pl.Float32)
            .alias(name)
            for name in NUMBERS
        ]
        for name in FEW:
            levels = sorted(state[name])
            made += [(pl.col(name) == level).fill_null(False).cast(pl.Float32).alias(level) for level in levels]
            made.append((~pl.col(name).is_in(levels)).fill_null(False).cast(pl.Float32).alias(f"{name} unknown"))
            made.append(pl.col(name).is_null().cast(pl.Float32).alias(f"{name} missing"))
        for name in MANY:
            levels = sorted(state[name])
            codes = np.arange(len(levels), dtype=np.float32)
            made.append(
                pl.col(name).replace_strict(levels, codes, default=-1.0, return_dtype=pl.Float32).fill_null(-2.0)
            )
        return frame.select(made).to_numpy(order="c")

    return run


def sklearn_arm(table: pa.Table) -> Callable[[], Matrix]:
    """Return a ColumnTransformer."""
    frame = table.select([*NUMBERS, *FEW, *MANY]).to_pandas()
    return lambda: column_transformer().fit_transform(frame)


def column_transformer() -> Any:
    """Return the ColumnTransformer, not fitted."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2, dtype=np.float32
    )
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list(NUMBERS)),
            ("few", one_hot, list(FEW)),
            ("many", ordinal, list(MANY)),
        ],
        sparse_threshold=0,
    )


def ray_arms(table: pa.Table) -> dict[str, Callable[[], Matrix]]:
    """Return Ray's preprocessors and Rayline on Ray Data, both over one Dataset in the object store."""
    import ray

    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    folder = tempfile.mkdtemp(prefix="rl-")
    ray.init(
        address="local",
        num_cpus=os.cpu_count(),
        object_store_memory=8 * 2**30,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    from rayline.features.blocks import in_blocks, quiet

    dataset = in_blocks(table, BLOCK)
    features = declared(table)

    def ours() -> Matrix:
        fitted = features.fit(dataset)
        with quiet():
            return dataset.map_batches(
                Applied(fitted), batch_size=None, batch_format="pyarrow", zero_copy_batch=True
            ).materialize()

    def theirs() -> Matrix:
        with quiet():
            chain = preprocessors()
            return chain.fit(dataset).transform(dataset).materialize()

    return {"rayline on Ray Data": ours, "Ray's preprocessors": theirs}


class Applied:
    """Rayline's transform as a function of Ray Data's ``map_batches``."""

    def __init__(self, fitted: FittedFeatureSet) -> None:
        self.fitted = fitted

    def __call__(self, table: pa.Table) -> pa.Table:
        flat = pa.array(self.fitted.transform(table, training=True, large=True).reshape(-1))
        return pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, self.fitted.width)})


def preprocessors() -> Any:
    """Return Ray's chain, not fitted: it needs a level for missing values, which its encoders refuse."""
    from ray.data.preprocessors import Chain, Concatenator, OneHotEncoder, OrdinalEncoder, SimpleImputer, StandardScaler

    levels = [*FEW, *MANY]
    return Chain(
        SimpleImputer(columns=list(NUMBERS), strategy="mean"),
        SimpleImputer(columns=levels, strategy="constant", fill_value="missing"),
        StandardScaler(columns=list(NUMBERS)),
        OneHotEncoder(columns=list(FEW)),
        OrdinalEncoder(columns=list(MANY)),
        Concatenator(columns=[*NUMBERS, *levels], output_column_name="x", dtype=np.float32, flatten=True),
    )


def first_rows(result: Any) -> Matrix:
    """Return the first rows of a matrix, or the first vectors of a materialised Dataset."""
    from rayline.features.blocks import quiet

    if isinstance(result, np.ndarray):
        return result[:COMPARED].copy()
    with quiet():
        return np.stack([np.asarray(row["x"]) for row in result.take(COMPARED)])


def interleaved(arms: dict[str, Callable[[], Matrix]], rounds: int) -> dict[str, list[float]]:
    """Return seconds by arm and round; each arm runs once before, and must give the same numbers as the first."""
    names = list(arms)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    expected = None
    for name, run in arms.items():
        found = first_rows(run())
        expected = found if expected is None else expected
        numbers = np.abs(spread_alike(found) - spread_alike(expected)).max()
        assert numbers < 1e-3, f"{name} gives other numbers, by {numbers}"
        assert (found[:, len(NUMBERS) : -len(MANY)].sum(axis=1) == len(FEW)).all(), f"{name} lacks a level"
        del found
    for number in range(rounds):
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            settle()
            began = time.perf_counter()
            result = arms[name]()
            seconds[name].append(time.perf_counter() - began)
            del result
    return seconds


def settle() -> None:
    """Collect garbage, and make sure that the machine has the memory that the next run will take."""
    gc.collect()
    touched = np.ones(SETTLED // 8)
    del touched


def spread_alike(matrix: Matrix) -> Matrix:
    """Return the numbers with deviation 1: scikit-learn and Ray take it after imputing, and so a little smaller."""
    numbers = matrix[:, : len(NUMBERS)]
    return numbers / numbers.std(axis=0)


def row_times(table: pa.Table) -> dict[str, float]:
    """Return the median microseconds of one row, over 2,000 rows; scikit-learn's over 50."""
    fitted = declared(table).fit(table.slice(0, 100_000))
    rows = table.select([*NUMBERS, *FEW, *MANY]).slice(0, 2_000).to_pylist()
    by_hand = numpy_function(fitted)
    assert all(np.allclose(by_hand(row), fitted.row(row), atol=1e-5) for row in rows)
    frame = table.select([*NUMBERS, *FEW, *MANY]).slice(0, 20_000).to_pandas()
    transformer = column_transformer().fit(frame)
    single = [frame.iloc[place : place + 1] for place in range(50)]
    return {
        "rayline": median_us(fitted.row, rows),
        "numpy": median_us(by_hand, rows),
        "scikit-learn": median_us(transformer.transform, single),
    }


def median_us(function: Callable[[Any], Any], rows: list[Any]) -> float:
    """Return the median time of one call."""
    times = []
    for row in rows:
        began = time.perf_counter_ns()
        function(row)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1_000


def numpy_function(fitted: FittedFeatureSet) -> Callable[[dict[str, Any]], Any]:
    """Return what one would write by hand for a row of this table: it checks nothing."""
    numbers: Any = fitted.columns[: len(NUMBERS)]
    mean = np.array([column.scale.mean for column in numbers])
    std = np.array([column.scale.std for column in numbers])
    places = {name: place for place, name in enumerate(fitted.output_names)}
    one_hot = []
    for column in fitted.columns[len(NUMBERS) : -len(MANY)]:
        name = column.name
        levels = {output.removeprefix(f"{name}="): places[output] for output in column.output_names}
        one_hot.append((name, levels, levels["<unknown>"], levels["<missing>"]))
    ordinal = [
        (
            column.name,
            {level: float(code) for code, level in enumerate(cast("Any", column).levels)},
            fitted.width - len(MANY) + place,
        )
        for place, column in enumerate(fitted.columns[-len(MANY) :])
    ]

    def run(row: dict[str, Any]) -> Any:
        out = np.zeros(fitted.width, dtype=np.float32)
        values = np.array([row[name] for name in NUMBERS], dtype=np.float64)
        np.copyto(values, mean, where=np.isnan(values))
        out[: len(NUMBERS)] = (values - mean) / std
        for name, levels, unknown, missing in one_hot:
            level = row[name]
            out[missing if level is None else levels.get(level, unknown)] = 1.0
        for name, codes, place in ordinal:
            level = row[name]
            out[place] = -2.0 if level is None else codes.get(level, -1.0)
        return out

    return run


def report(rows: int, seconds: dict[str, list[float]], row_us: dict[str, float]) -> None:
    """Print the tables, then the JSON line."""
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    console = Console()
    speeds = Table("fit and transform", "rows/s, median", "slowest to fastest", title=f"{rows:,} rows by 30 columns")
    for name, found in seconds.items():
        spread = f"{rows / max(found):,.0f} to {rows / min(found):,.0f}"
        speeds.add_row(name, f"{rows / middle[name]:,.0f}", spread)
    console.print(speeds)
    single = Table("one row", "microseconds, median")
    for name, found_us in row_us.items():
        single.add_row(name, f"{found_us:,.1f}")
    console.print(single)
    ratios = {
        "fit_transform_vs_ray_preprocessors": middle["Ray's preprocessors"] / middle["rayline on Ray Data"],
        "fit_transform_vs_sklearn": middle["scikit-learn"] / middle["rayline"],
        "fit_transform_vs_polars": middle["polars"] / middle["rayline"],
        "row_us": row_us["rayline"],
        "row_vs_numpy": row_us["rayline"] / row_us["numpy"],
    }
    packages = ("ray", "numpy", "pyarrow", "scikit-learn", "polars")
    line = {
        "benchmark": "features",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in packages},
        "rounds": len(next(iter(seconds.values()))),
        "results": {"rows": rows, "seconds": seconds, "row_us": row_us},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
