"""Sources and splits that are read on the cluster give what they give when they are read at once."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pytest
import ray.data

from rayline.config import Config, DataConfig, FeaturesConfig, SplitConfig, SqlConfig
from rayline.errors import ConfigError, DataError
from rayline.features import sources
from rayline.features.blocks import fold, quiet
from rayline.features.opening import open_source
from rayline.features.pipeline import Prepared, input_digest, prepare
from rayline.features.sources import handed_over, read_dataset, read_table, source_digest, too_large

pytestmark = pytest.mark.usefixtures("ray_cluster")


def shop(rows: int = 900) -> pa.Table:
    chance = np.random.default_rng(7)
    size = chance.normal(size=rows).round(6)
    return pa.table(
        {
            "customer": chance.integers(0, 60, rows),
            "size": pa.array(np.where(chance.random(rows) < 0.1, np.nan, size), from_pandas=True),
            "day": np.datetime64("2011-01-01", "us") + chance.integers(0, 900, rows) * np.timedelta64(1, "D"),
            "kind": np.where(size > 1, "large", np.where(size < -1.6, "tiny", "usual")),
        }
    )


def in_files(table: pa.Table, folder: Path, ending: str = "parquet", count: int = 3) -> Path:
    folder.mkdir()
    edges = np.linspace(0, table.num_rows, count + 1).astype(int)
    for place, (start, end) in enumerate(pairwise(edges)):
        piece, file = table.slice(start, end - start), folder / f"{place}.{ending}"
        if ending == "parquet":
            pyarrow.parquet.write_table(piece, file)
        elif ending == "csv":
            pyarrow.csv.write_csv(piece, file)
        else:
            rows = [{**row, "day": str(row["day"])} for row in piece.to_pylist()]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def in_database(table: pa.Table, file: Path) -> DataConfig:
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE sale (customer INTEGER, size REAL, day TEXT, kind TEXT)")
        rows = [(row["customer"], row["size"], str(row["day"]), row["kind"]) for row in table.to_pylist()]
        database.executemany("INSERT INTO sale VALUES (?, ?, ?, ?)", rows)
    database.close()
    return DataConfig(sql=SqlConfig(query="SELECT * FROM sale", connect={"database": str(file)}))


def prepared(data: DataConfig, out: Path, target: str = "kind") -> Prepared:
    return prepare(Config(name="t", data=data, features=FeaturesConfig(target=target)), out)


def rows_of(found: Prepared) -> tuple[list[bytes], list[bytes], list[str]]:
    arrays = [
        sorted(row.tobytes() + answer.tobytes() for row, answer in zip(*part, strict=True))
        for part in (found.train(), found.valid())
    ]
    return arrays[0], arrays[1], sorted(map(repr, found.test_table().to_pylist()))


@pytest.fixture
def in_parallel(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)


@pytest.mark.parametrize(
    ("split", "target"),
    [
        ({"by": "hash", "key": "customer"}, "kind"),
        ({"by": "stratified"}, "kind"),
        ({"by": "stratified"}, "customer"),
        ({"by": "time", "column": "day", "gap": "20d"}, "kind"),
    ],
)
def test_a_split_is_the_same_read_at_once_and_in_parallel(
    tmp_path: Path, in_parallel: Callable[[], None], split: dict[str, Any], target: str
) -> None:
    table = shop()
    once = DataConfig(source=str(in_files(table, tmp_path / "a")), split=SplitConfig(**split))
    at_once = prepared(once, tmp_path / "at_once", target)
    in_parallel()
    parallel = prepared(once, tmp_path / "parallel", target)
    assert parallel.facts == at_once.facts
    assert rows_of(parallel) == rows_of(at_once)
    moved = table.take(np.random.default_rng(1).permutation(table.num_rows))
    other = DataConfig(source=str(in_files(moved, tmp_path / "b", "csv", 5)), split=SplitConfig(**split))
    scattered = prepared(other, tmp_path / "scattered", target)
    assert replace(scattered.facts, source="") == replace(at_once.facts, source="")
    assert rows_of(scattered)[:2] == rows_of(at_once)[:2]
    facts = at_once.facts
    assert sum(facts.rows.values()) + facts.left_out == table.num_rows
    assert (facts.left_out > 0) == (split["by"] == "time")
    if "key" in split:
        customers = set(at_once.test_table()["customer"].to_pylist())
        in_test = pc.is_in(table["customer"], pa.array(customers))
        assert table.filter(in_test).num_rows == facts.rows["test"]
    if split["by"] == "stratified" and target == "kind":
        usual = pc.mean(pc.equal(table["kind"], "usual")).as_py()
        for part in facts.shares.values():
            assert part["usual"] == pytest.approx(usual, abs=0.012)


def test_a_column_says_the_part_and_is_no_input(tmp_path: Path, in_parallel: Callable[[], None]) -> None:
    table = shop()
    words = np.array(["train", "train", "valid", "test"])[np.arange(table.num_rows) % 4]
    data = DataConfig(
        source=str(in_files(table.append_column("part", pa.array(words)), tmp_path / "a", "csv")),
        split=SplitConfig(by="column", column="part"),
    )
    at_once = prepared(data, tmp_path / "at_once")
    in_parallel()
    parallel = prepared(data, tmp_path / "parallel")
    assert parallel.facts == at_once.facts
    assert at_once.facts.rows == {"train": 450, "valid": 225, "test": 225}
    assert "part" not in at_once.features.input_columns
    assert at_once.test_table()["size"].to_pylist() == table["size"].take(np.arange(3, 900, 4)).to_pylist()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_files_give_their_parts(tmp_path: Path, in_parallel: Callable[[], None], ending: str) -> None:
    table = shop()
    folders = [
        in_files(table.slice(start, rows), tmp_path / name, ending)
        for name, start, rows in (("train", 0, 600), ("valid", 600, 200), ("test", 800, 100))
    ]
    split = SplitConfig(by="files", valid=str(folders[1]), test=str(folders[2]))
    data = DataConfig(source=str(folders[0]), split=split)
    at_once = prepared(data, tmp_path / "at_once")
    assert at_once.facts.rows == {"train": 600, "valid": 200, "test": 100}
    assert at_once.test_table()["customer"].to_pylist() == table["customer"].slice(800).to_pylist()
    before = source_digest(data)
    in_parallel()
    parallel = prepared(data, tmp_path / "parallel")
    assert parallel.facts == at_once.facts
    assert np.array_equal(parallel.train()[0], at_once.train()[0])
    in_files(table.slice(0, 30), tmp_path / "test" / "more", ending)
    assert source_digest(data) != before


def test_other_columns_in_the_test_file_are_refused(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(shop(50), tmp_path / "a.csv")
    pyarrow.csv.write_csv(shop(50).rename_columns(["client", "size", "day", "kind"]), tmp_path / "t.csv")
    data = DataConfig(source=f"{tmp_path}/a.csv", split=SplitConfig(by="files", test=f"{tmp_path}/t.csv"))
    with pytest.raises(DataError, match=r"t\.csv' does not have the columns of .*it lacks customer.* test part"):
        open_source(data)


def test_only_the_column_that_is_needed_is_read(tmp_path: Path, in_parallel: Callable[[], None]) -> None:
    in_parallel()
    for ending in ("csv", "parquet"):
        folder = in_files(shop(60), tmp_path / ending, ending)
        found = read_dataset(DataConfig(source=str(folder)), columns=("day",))
        assert {tuple(names) for names in fold(found, lambda block: list(block.column_names))} == {("day",)}


def test_a_query_is_read_in_shards(tmp_path: Path) -> None:
    plain = in_database(shop(), tmp_path / "shop.db")
    assert plain.sql is not None
    at_once = prepared(plain, tmp_path / "at_once")
    connect = plain.sql.connect
    sharded = DataConfig(sql=SqlConfig(query=plain.sql.query, connect=connect, shard_key="customer", parallelism=3))
    assert too_large(sharded)
    assert not too_large(plain)
    assert source_digest(sharded) == source_digest(plain)
    assert len([rows for rows in fold(read_dataset(sharded), lambda block: int(block.num_rows)) if rows]) == 3
    parallel = prepared(sharded, tmp_path / "parallel")
    assert parallel.facts == at_once.facts
    assert rows_of(parallel) == rows_of(at_once)


def test_no_shard_leaves_out_a_row_silently(tmp_path: Path) -> None:
    table = shop(90)
    gaps = pa.array([None if row % 9 == 0 else row for row in range(90)], pa.int64())
    data = in_database(table.set_column(0, "customer", gaps), tmp_path / "shop.db")
    assert data.sql is not None

    def sharded(key: str) -> DataConfig:
        assert data.sql is not None
        return DataConfig(sql=SqlConfig(query=data.sql.query, connect=data.sql.connect, shard_key=key))

    with pytest.raises(DataError, match="'customer' is missing or no whole number in 10 of 90 rows, which would be"):
        read_dataset(sharded("customer"))
    with pytest.raises(DataError, match="'size' is missing or no whole number in"):
        read_dataset(sharded("size"))
    with pytest.raises(ConfigError, match=r"'custmer' cannot divide the query on this database: .*no such column"):
        read_dataset(sharded("custmer"))
    by_order = DataConfig(sql=data.sql, split=SplitConfig(by="time"))
    with pytest.raises(ConfigError, match=r"a query has no order of its own: set data\.split\.column"):
        open_source(by_order)


@pytest.mark.parametrize(
    ("ending", "spoil", "message"),
    [
        ("csv", lambda table: table.rename_columns(["client", "size", "day", "kind"]), "lacks customer and has client"),
        ("csv", lambda table: table.drop_columns(["kind"]), "it lacks kind"),
        ("parquet", lambda table: table.rename_columns(["client", "size", "day", "kind"]), "lacks customer and has"),
        (
            "parquet",
            lambda table: table.set_column(1, "size", table["size"].cast(pa.string())),
            r"'size' is string in '.*2\.parquet' and double in",
        ),
        (
            "csv",
            lambda table: table.set_column(1, "size", pa.array(["many"] * 300)),
            r"2\.csv' is not valid csv: .*invalid value 'many'",
        ),
        ("jsonl", lambda table: table.rename_columns(["client", "size", "day", "kind"]), r"2\.jsonl.*unexpected field"),
    ],
)
def test_a_file_that_is_unlike_the_others_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    spoil: Callable[[pa.Table], pa.Table],
    message: str,
) -> None:
    folder = in_files(shop(), tmp_path / "a", ending)
    in_files(spoil(shop(300)), tmp_path / "b", ending, 1).joinpath(f"0.{ending}").replace(folder / f"2.{ending}")
    monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
    monkeypatch.setattr(sources, "HEAD_BYTES", 8_000)  # the schema is of the first file alone
    with pytest.raises(DataError, match=message):
        prepared(DataConfig(source=str(folder)), tmp_path / "out")


def test_a_damaged_page_is_never_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = in_files(shop(9_000), tmp_path / "a")
    content = bytearray((folder / "1.parquet").read_bytes())
    for place in range(10, 400):
        content[place] ^= 0xFF
    (folder / "1.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.parquet' cannot be read"):
        read_table(DataConfig(source=str(folder)))
    monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
    monkeypatch.setattr(sources, "HEAD_BYTES", 8_000)
    with pytest.raises(DataError, match=r"the data cannot be read: file '.*1\.parquet': "):
        prepared(DataConfig(source=str(folder)), tmp_path / "out")


def test_a_header_alone_among_many_files_is_no_harm(tmp_path: Path, in_parallel: Callable[[], None]) -> None:
    folder = in_files(shop(), tmp_path / "a", "csv")
    header = (folder / "0.csv").read_text().splitlines()[0]
    (folder / "3.csv").write_text(header + "\n")
    data = DataConfig(source=str(folder))
    at_once = prepared(data, tmp_path / "at_once")
    in_parallel()
    assert prepared(data, tmp_path / "parallel").facts == at_once.facts


def test_folders_that_say_a_value_are_columns_in_parallel_too(tmp_path: Path, in_parallel: Callable[[], None]) -> None:
    for ending in ("csv", "parquet", "jsonl"):
        root = tmp_path / ending
        root.mkdir()
        for year in (2011, 2012):
            in_files(shop(60), root / f"year={year}", ending)
    wholes = {ending: read_table(DataConfig(source=str(tmp_path / ending))) for ending in ("csv", "parquet", "jsonl")}
    in_parallel()
    for ending, whole in wholes.items():
        found = pa.concat_tables(
            fold(read_dataset(DataConfig(source=str(tmp_path / ending)), whole.schema), lambda block: block),
            promote_options="permissive",
        )
        assert found["year"].to_pylist() == whole["year"].to_pylist() == ["2011"] * 60 + ["2012"] * 60
        assert found["size"].to_pylist() == whole["size"].to_pylist()


def test_a_dataset_is_computed_once_and_is_the_table_it_stands_for(
    tmp_path: Path, in_parallel: Callable[[], None]
) -> None:
    table, counted = shop(), tmp_path / "counted"
    counted.mkdir()

    def count(batch: pd.DataFrame) -> pd.DataFrame:
        (counted / f"{batch['day'].iloc[0].value}-{len(list(counted.iterdir()))}").touch()
        return batch

    with quiet():
        lazy = ray.data.from_arrow([table.slice(0, 500), table.slice(500)]).map_batches(
            count, batch_format="pandas", batch_size=None
        )
    data = handed_over(lazy)
    assert input_digest(Config(name="t", data=data, features=FeaturesConfig(target="kind"))) == source_digest(data)
    assert read_table(data).to_pylist() == table.to_pylist()
    at_once = prepared(data, tmp_path / "at_once")
    in_parallel()
    assert too_large(data)
    parallel = prepared(data, tmp_path / "parallel")
    assert parallel.facts == at_once.facts
    assert rows_of(parallel) == rows_of(at_once)
    assert len(list(counted.iterdir())) == 2
    assert data.source == handed_over(table).source
    with quiet(), pytest.raises(DataError, match="the Dataset handed over has no rows"):
        handed_over(ray.data.from_arrow(table.slice(0, 0)))


def test_a_filesystem_of_fsspec_reaches_the_workers(tmp_path: Path, in_parallel: Callable[[], None]) -> None:
    folder = in_files(shop(300), tmp_path / "a", "csv", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(folder / "0.csv", "0.csv")
    data = DataConfig(source=f"zip://0.csv::{tmp_path}/a.zip")
    whole = read_table(data)
    assert whole.num_rows == 300
    in_parallel()
    assert too_large(data)
    assert sum(fold(read_dataset(data, whole.schema), lambda block: int(block.num_rows))) == 300
