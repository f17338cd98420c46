"""The features step on Ray: what it writes, and what changes nothing in it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from rayline.config import CategoricalConfig, Config, DataConfig, FeaturesConfig, SplitConfig, ValidateConfig
from rayline.errors import DataError, NotFoundError, ValidationFailed
from rayline.features import pipeline, sources
from rayline.features.blocks import fold, in_blocks
from rayline.features.checks.validation import validate
from rayline.features.feature_set import FeatureSet
from rayline.features.pipeline import Prepared, input_digest, prepare
from rayline.features.schemas.inference import schema_for
from rayline.features.schemas.proposal import with_limits
from rayline.features.schemas.schema_text import schema_text
from rayline.features.sources import read_dataset, read_table

pytestmark = pytest.mark.usefixtures("ray_cluster")

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
NAMES = (
    "features.json",
    "reference.json",
    "facts.json",
    "origin.json",
    "sample.npy",
    "sample.parquet",
    "test",
    "train",
    "valid",
)
SAMPLE = ("sample.npy", "sample.parquet")
PLAIN = {"kind": "categorical", "size": "numeric", "day": "datetime"}


def config_of(source: str | Path, target: str, drop: tuple[str, ...] = (), **split: object) -> Config:
    data = DataConfig(source=str(source), split=SplitConfig(**split))  # type: ignore[arg-type]
    return Config(name="t", data=data, features=FeaturesConfig(target=target, drop=drop))


def small_table(rows: int = 600) -> pa.Table:
    chance = np.random.default_rng(5)
    kind = chance.choice(["a", "b", "c"], rows)
    size = np.where(chance.random(rows) < 0.1, np.nan, chance.normal(size=rows).round(6))
    day = np.datetime64("2011-01-01") + chance.integers(0, 700, rows).astype("timedelta64[D]")
    y = (np.nan_to_num(size) + (kind == "a") + chance.normal(size=rows) * 0.1).round(6)
    return pa.table({"kind": kind, "size": pa.array(size, from_pandas=True), "day": day, "y": y})


def as_sets(prepared: Prepared) -> dict[str, set[bytes]]:
    (x, y), (vx, vy) = prepared.train(), prepared.valid()
    return {
        "train": {row.tobytes() + answer.tobytes() for row, answer in zip(x, y, strict=True)},
        "valid": {row.tobytes() + answer.tobytes() for row, answer in zip(vx, vy, strict=True)},
        "test": {repr(row).encode() for row in prepared.test_table().to_pylist()},
    }


@needs_data
def test_bike_rentals_become_numbers(tmp_path: Path) -> None:
    config = config_of(DATA / "bike_hour.csv", "cnt", ("instant", "casual", "registered"))
    whole = prepare(config, tmp_path / "whole")
    cut = prepare(config, tmp_path / "cut", rows_per_block=1_700)
    assert sum(whole.facts.rows.values()) == 17_379
    assert whole.facts == cut.facts
    assert whole.features == cut.features
    for name in NAMES[:3]:
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "cut" / name).read_text()
    assert np.array_equal(whole.train()[0], cut.train()[0])
    test = whole.test_table().slice(0, 1_000)
    rows = [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in test.to_pylist()
    ]
    assert np.abs(whole.features.rows(rows) - whole.features.transform(test)).max() <= 1e-6
    json.dumps(whole.example())


@needs_data
def test_electricity_prices_are_split_by_the_order_of_the_file(tmp_path: Path) -> None:
    prepared = prepare(config_of(DATA / "elec.csv", "class", by="time"), tmp_path / "out", rows_per_block=10_000)
    source = read_table(DataConfig(source=str(DATA / "elec.csv")))
    last = prepared.facts.rows["test"]
    assert prepared.facts.rows == {"train": 31_719, "valid": 6_797, "test": 6_796}
    assert prepared.test_table().to_pydict() == source.slice(source.num_rows - last).to_pydict()
    assert prepared.train()[1].tolist() == source.column("class").slice(0, 31_719).to_pylist()


@pytest.mark.parametrize(("name", "width", "classes"), [("breast_cancer", 30, 2), ("digits", 64, 10)])
def test_bundled_sets(tmp_path: Path, name: str, width: int, classes: int) -> None:
    prepared = prepare(config_of(f"sklearn:{name}", "target"), tmp_path / "out")
    x, y = prepared.train()
    assert (x.dtype, x.shape[1], y.dtype, len(set(y.tolist()))) == (np.float32, width, np.int64, classes)
    assert x.flags.writeable
    assert y.flags.writeable
    assert np.abs(x.mean(axis=0)).max() < 1e-4


def test_the_order_of_rows_changes_nothing_but_the_order(tmp_path: Path) -> None:
    table = small_table()
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    order = np.random.default_rng(1).permutation(table.num_rows)
    pyarrow.csv.write_csv(table.take(order), tmp_path / "b.csv")
    first = prepare(config_of(tmp_path / "a.csv", "y"), tmp_path / "first", rows_per_block=70)
    second = prepare(config_of(tmp_path / "b.csv", "y"), tmp_path / "second", rows_per_block=250)
    assert first.facts.digest == second.facts.digest
    assert first.features.fingerprint == second.features.fingerprint
    assert first.reference() == second.reference()
    assert as_sets(first) == as_sets(second)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("split", [{}, {"by": "time", "column": "day"}])
def test_reading_in_parallel_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, split: dict[str, str]
) -> None:
    table = small_table()
    for part in range(3):
        piece = table.slice(part * 200, 200)
        if ending == "csv":
            pyarrow.csv.write_csv(piece, tmp_path / f"{part}.csv")
        elif ending == "parquet":
            pyarrow.parquet.write_table(piece, tmp_path / f"{part}.parquet")
        else:
            rows = [{**row, "day": str(row["day"])} for row in piece.to_pylist()]
            (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of(f"{tmp_path}/*.{ending}", "y", **split)
    at_once = prepare(config, tmp_path / "at_once")
    monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
    parallel = prepare(config, tmp_path / "parallel")
    assert parallel.facts == at_once.facts
    assert parallel.features == at_once.features
    assert np.array_equal(parallel.train()[0], at_once.train()[0])
    assert as_sets(parallel) == as_sets(at_once)


def test_a_finished_step_is_read_back(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(small_table(), tmp_path / "a.csv")
    config = config_of(tmp_path / "a.csv", "y")
    prepared = prepare(config, tmp_path / "out")
    loaded = Prepared.load(tmp_path / "out")
    assert loaded == prepared
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)
    assert {part: each.rows for part, each in loaded.facts.parts.items()} == loaded.facts.rows
    raw, matrix = loaded.sample()
    assert raw.column_names == ["kind", "size", "day", "y"]
    assert np.array_equal(matrix, loaded.features.transform(raw))
    assert {row.tobytes() for row in matrix} <= {row.tobytes() for row in loaded.train()[0]}
    dataset = loaded.dataset("train")
    assert dataset.count() == loaded.facts.rows["train"]
    assert len(input_digest(config)) == 16
    with pytest.raises(NotFoundError, match="holds no prepared data"):
        Prepared.load(tmp_path)
    (tmp_path / "out" / "facts.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Prepared.load(tmp_path / "out")


def test_broken_data_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    table = small_table()
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    config = config_of(tmp_path / "a.csv", "y")
    before = prepare(config, tmp_path / "out")
    schema = schema_for(config.features, table)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([*lines, '"a",many,2011-01-01,1.5']) + "\n")
    with pytest.raises(ValidationFailed, match=r"'size' is not a finite number in 1 rows .* row 600: 'many'"):
        prepare(config, tmp_path / "out", schema, rows_per_block=100)
    assert Prepared.load(tmp_path / "out") == before
    (parts,) = tmp_path.glob("parts-*")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out", parts.name]


def test_an_empty_part_is_refused(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(small_table(4), tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"part has no rows: the 4 rows .* are too few"):
        prepare(config_of(tmp_path / "a.csv", "y", valid=0.01, test=0.01), tmp_path / "out")


def test_a_dataset_is_fitted_and_validated_like_its_table(tmp_path: Path) -> None:
    table = small_table()
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    config = config_of(tmp_path / "a.csv", "y")
    schema = schema_for(config.features, table)
    features = FeatureSet.from_config(config.features, schema)
    assert features.fit(in_blocks(table, 64)) == features.fit(table)
    assert features.fit(read_dataset(config.data)) == features.fit(table)
    worse = table.set_column(1, "size", pa.array([1e6] * table.num_rows))
    assert validate(in_blocks(worse, 64), schema) == validate(worse, schema) != ()


def test_an_error_in_a_block_comes_back_as_ours() -> None:
    table = small_table(50)
    features = FeatureSet.from_config(FeaturesConfig(target="y"), schema_for(FeaturesConfig(target="y"), table))
    broken = table.set_column(1, "size", pa.array(["many"] * 50))
    with pytest.raises(DataError, match="row 0, column 'size': 'many' is not a finite number"):
        list(fold(in_blocks(broken), features.observe))


def test_a_changed_column_is_computed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow.csv.write_csv(small_table(), tmp_path / "a.csv")
    config = config_of(tmp_path / "a.csv", "y")
    first = prepare(config, tmp_path / "first", rows_per_block=200)
    assert first.computed == 3
    again = prepare(config, tmp_path / "again", rows_per_block=200)
    assert again.computed == 0
    changed = msgspec.structs.replace(
        config.features, columns={"kind": CategoricalConfig(encode="target"), "size": "numeric", "day": "datetime"}
    )
    other = msgspec.structs.replace(config, features=changed)
    monkeypatch.setattr(pipeline, "divide", refuse)  # the source is not looked at again
    found = prepare(other, tmp_path / "changed", rows_per_block=200)
    assert found.computed == 1
    monkeypatch.undo()
    fresh = prepare(other, tmp_path / "elsewhere" / "fresh", rows_per_block=70)
    assert fresh.features == found.features
    assert np.array_equal(fresh.train()[0], found.train()[0])
    assert np.array_equal(again.train()[0], first.train()[0])


def test_rows_that_are_alike_in_the_changed_column_alone_are_no_copies(tmp_path: Path) -> None:
    table = small_table()
    table = table.set_column(
        table.column_names.index("y"), "y", pa.array([float(row % 3) for row in range(len(table))])
    )
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    schema = with_limits(schema_for(FeaturesConfig(target="y", task="regression"), table), table)
    (tmp_path / "schema.yaml").write_text(schema_text(schema), encoding="utf-8")
    config = msgspec.structs.replace(
        config_of(tmp_path / "a.csv", "y"),
        features=FeaturesConfig(target="y", task="regression", columns=PLAIN),
        validate=ValidateConfig(schema=str(tmp_path / "schema.yaml")),
    )
    prepare(config, tmp_path / "first", rows_per_block=200)
    changed = msgspec.structs.replace(config.features, columns={**PLAIN, "kind": CategoricalConfig(encode="ordinal")})

    found = prepare(msgspec.structs.replace(config, features=changed), tmp_path / "changed", rows_per_block=200)

    assert found.computed == 1


def refuse(*args: object, **named: object) -> None:
    raise AssertionError("the source was divided again")
