"""Joins and windows on Ray: what they give in memory, in the order of the rows, whatever the blocks and partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest
from ray.data.expressions import col

from rayline.config import Config, WindowConfig, parse
from rayline.errors import DataError
from rayline.features.blocks import in_blocks
from rayline.features.joins import exchange as exchange_module
from rayline.features.joins.exchange import joined, windowed
from rayline.features.joins.history import with_history
from rayline.features.joins.join import join, join_tables
from rayline.features.joins.tables import JoinSpec
from rayline.features.joins.windows import window_groups, with_windows
from rayline.features.pipeline import prepare
from rayline.features.splits.split import POSITION

pytestmark = pytest.mark.usefixtures("ray_cluster")

SPEC = JoinSpec("f", ("town", "shop"), "seen", "at", 400_000_000, ("price", "note"), "f_")
WINDOWS = {
    "before": WindowConfig(of="y", by=("town",), time="at", lag=1),
    "recent": WindowConfig(of="y", by=("town",), time="at", window="90s", aggregate="mean"),
    "apart": WindowConfig(of="y", by=("town",), time="at", rows=5, aggregate="std"),
}


def labels(rows: int = 3_000) -> pa.Table:
    chance = np.random.default_rng(1)
    return pa.table(
        {
            "town": pa.array(chance.choice(["a", "b", "c", None], rows)),
            "shop": chance.integers(0, 5, rows),
            "at": chance.integers(0, 1_000, rows),
            "y": chance.normal(size=rows),
        }
    )


def prices(rows: int = 4_000) -> pa.Table:
    chance = np.random.default_rng(2)
    return pa.table(
        {
            "seen": chance.integers(0, 1_000, rows),
            "shop": pa.array(chance.integers(0, 6, rows).astype(str)),
            "town": pa.array(chance.choice(["a", "b", "d"], rows)),
            "price": pa.array(np.where(chance.random(rows) < 0.1, np.nan, chance.normal(size=rows)), from_pandas=True),
            "note": pa.array([f"{number}" for number in range(rows)]),
        }
    )


def table_of(dataset: Any) -> pa.Table:
    return pa.concat_tables(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))


@pytest.mark.parametrize("broadcast_bytes", [0, 2**30], ids=["exchanged", "broadcast"])
def test_a_join_on_ray_is_the_join_in_memory(broadcast_bytes: int) -> None:
    rows, features = labels(), prices()
    expected = join_tables(rows, features, SPEC)
    found = joined(in_blocks(rows, 700), in_blocks(features, 900), SPEC, broadcast_bytes=broadcast_bytes)
    assert table_of(found).combine_chunks() == expected.combine_chunks()
    table = joined(in_blocks(rows, 1_700), features, SPEC, broadcast_bytes=broadcast_bytes)
    assert table_of(table).combine_chunks() == expected.combine_chunks()
    assert 0 < expected.column("f_note").null_count < rows.num_rows
    named = {"keys": SPEC.keys, "time": "seen", "at": "at", "ttl": "400s", "columns": SPEC.columns, "prefix": "f_"}
    assert table_of(join(in_blocks(rows, 700), features, **named)).combine_chunks() == expected.combine_chunks()


def test_windows_on_ray_are_those_in_memory() -> None:
    rows = labels()
    (group,) = window_groups(WINDOWS)
    found = table_of(windowed(in_blocks(rows, 450), group))
    assert found.combine_chunks() == with_windows(rows, WINDOWS).combine_chunks()


@pytest.mark.parametrize("partitions", [1, 7])
def test_the_number_of_partitions_changes_nothing(monkeypatch: pytest.MonkeyPatch, partitions: int) -> None:
    monkeypatch.setattr(exchange_module, "GROUP_BYTES", 1)
    rows = labels(500)
    (group,) = window_groups(WINDOWS)
    work = exchange_module._WindowPartition(group)
    columns = ("town", "at", "y")
    found = exchange_module.exchange(in_blocks(rows, 120), ("town",), (True,), columns, work, partitions=partitions)
    assert table_of(found).combine_chunks() == with_windows(rows, WINDOWS).combine_chunks()


def test_blocks_that_a_filter_has_emptied_do_no_harm() -> None:
    rows, features = labels(), prices()
    kept, known = pa.compute.less(rows["at"], 200), pa.compute.equal(features["town"], "a")
    expected = join_tables(rows.filter(kept), features.filter(known), SPEC)
    some = in_blocks(rows.sort_by("at"), 300).filter(expr=col("at") < 200)
    found = table_of(joined(some, in_blocks(features, 500).filter(expr=col("town") == "a"), SPEC, broadcast_bytes=0))
    order = [("at", "ascending"), ("y", "ascending")]
    assert found.sort_by(order).combine_chunks() == expected.sort_by(order).combine_chunks()


def test_an_error_in_a_partition_comes_back_as_ours() -> None:
    rows = labels(200).set_column(3, "y", pa.array(["many"] * 200))
    (group,) = window_groups(WINDOWS)
    with pytest.raises(DataError, match="'many' is not a finite number"):
        windowed(in_blocks(rows, 60), group)


def written(folder: Path, **split: str) -> Config:
    pyarrow.parquet.write_table(labels(), folder / "labels.parquet")
    pyarrow.parquet.write_table(prices(), folder / "prices.parquet")
    join = {"name": "prices", "source": str(folder / "prices.parquet"), "keys": ["town", "shop"], "time": "seen"}
    windows = {"before": {"of": "y", "by": ["town"], "time": "at", "lag": 1}}
    return parse(
        {
            "name": "p",
            "data": {"source": str(folder / "labels.parquet"), "split": split},
            "features": {
                "target": "y",
                "columns": {"price": "numeric", "before": "numeric", "shop": "categorical"},
                "join": [{**join, "at": "at", "ttl": "5m", "columns": ["price"]}],
                "windows": windows,
            },
        }
    )


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is small: joined in memory."""


def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source is read in parallel, and every feature table is exchanged."""
    from rayline.features import sources

    monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
    monkeypatch.setattr(exchange_module, "BROADCAST_BYTES", 0)


@pytest.mark.parametrize("size", [nothing, as_if_large])
@pytest.mark.parametrize("split", [{}, {"by": "time"}, {"by": "time", "column": "at"}], ids=["hash", "order", "time"])
def test_a_configuration_gets_its_history_whatever_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Callable[[Any], None], split: dict[str, str]
) -> None:
    config = written(tmp_path, **split)
    size(monkeypatch)
    rows = labels()
    whole = rows.append_column(POSITION, pa.array(np.arange(rows.num_rows))) if split == {"by": "time"} else rows
    table, dataset = with_history(config, rows, in_blocks(whole, 800))
    expected = with_windows(
        join_tables(rows, prices(), JoinSpec("prices", ("town", "shop"), "seen", "at", 300_000_000, ("price",))),
        config.features.windows,
    )
    assert table.combine_chunks() == expected.combine_chunks()
    assert table_of(dataset).select(expected.column_names).combine_chunks() == expected.combine_chunks()
    if split == {"by": "time"}:
        assert table_of(dataset).column(POSITION).to_pylist() == list(range(rows.num_rows))


def test_without_joins_and_windows_nothing_is_touched(tmp_path: Path) -> None:
    config = parse({"name": "p", "data": {"source": "x"}, "features": {"target": "y"}})
    table, dataset = object(), object()
    assert with_history(config, table, dataset) == (table, dataset)  # type: ignore[arg-type]


def test_the_features_step_trains_on_what_was_joined(tmp_path: Path) -> None:
    prepared = prepare(written(tmp_path), tmp_path / "out", rows_per_block=900)
    assert prepared.features.input_columns == ("price", "before", "shop")
    assert sum(prepared.facts.rows.values()) == 3_000
    test = prepared.test_table()
    assert {"price", "before"} <= set(test.column_names)
    assert test.column("price").null_count < test.num_rows
