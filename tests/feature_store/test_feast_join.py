"""A join from a Feast repository: what Feast's own ``get_historical_features`` gives, on the same rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feast_repository import EPOCH, Repo, labels_table, moments
from rayline.config import parse
from rayline.errors import ConfigError, DataError, NotFoundError
from rayline.features.joins.feast_table import FeastTable, feast_tables
from rayline.features.joins.history import history_digest, table_with_history


def config(source: str, **given: Any) -> Any:
    return parse(
        {
            "name": "p",
            "data": {"source": "sklearn:iris"},
            "features": {
                "target": "y",
                "join": [{"name": "driver", "source": source, "at": "event_timestamp", **given}],
            },
        }
    )


def joined(rows: pa.Table, source: str, **given: Any) -> pa.Table:
    return table_with_history(config(source, **given).features, rows)


def feasts(repo: Repo, rows: pa.Table, features: Sequence[str]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return what Feast finds of each row, by key and time; rows that it drops are not there."""
    found = repo.store.get_historical_features(entity_df=rows.to_pandas(), features=list(features)).to_df()
    names = [each.partition(":")[2] for each in features]
    return {
        (key, time): tuple(None if value != value else value for value in values)
        for key, time, *values in found[["driver_id", "event_timestamp", *names]].itertuples(index=False)
    }


def ours(table: pa.Table, names: Sequence[str]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    frame = table.select(["driver_id", "event_timestamp"]).to_pandas()
    values = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return dict(zip(frame.itertuples(index=False, name=None), values, strict=True))


def assert_equal(mine: dict[Any, Any], feast: dict[Any, Any], fewest: int) -> None:
    """Every row that Feast returns is equal; every row that it drops has nothing here."""
    assert {key: mine[key] for key in feast} == feast
    nothing = [mine[key] for key in mine.keys() - feast.keys()]
    assert all(value is None for values in nothing for value in values)
    assert sum(values[-1] is not None for values in feast.values()) > fewest


STATS = ["driver_stats:rate", "driver_stats:note", "driver_stats:trips"]


def test_it_is_feasts_own_join_with_a_time_to_live(repo: Repo) -> None:
    rows = labels_table()
    table = joined(rows, f"{repo.source}#driver_stats")
    assert table.column_names == [*rows.column_names, "rate", "trips", "note"]
    assert_equal(ours(table, ["rate", "note", "trips"]), feasts(repo, rows, STATS), 1_000)


def test_a_row_exactly_as_old_as_the_time_to_live_is_used_as_feast_uses_it(repo: Repo) -> None:
    stats = repo.stats.sort_by([("driver_id", "ascending"), ("event_timestamp", "descending")])
    last = stats.group_by("driver_id", use_threads=False).aggregate([("event_timestamp", "max")])
    day = pa.scalar(24 * 3_600_000_000, pa.duration("us"))
    edge = pa.compute.add(last.column("event_timestamp_max"), day)
    tick = pa.compute.add(edge, pa.scalar(1, pa.duration("us")))
    rows = pa.table(
        {
            "driver_id": pa.concat_arrays([last.column("driver_id").combine_chunks()] * 2),
            "event_timestamp": pa.concat_arrays([edge.combine_chunks(), tick.combine_chunks()]),
        }
    )
    table = joined(rows, f"{repo.source}#driver_stats")
    found = table.column("note").to_pylist()
    assert all(found[: last.num_rows])
    assert not any(found[last.num_rows :])
    assert_equal(ours(table, ["rate", "note", "trips"]), feasts(repo, rows, STATS), last.num_rows - 1)


def test_of_rows_of_one_time_the_one_made_last_wins(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast sorts by the time of making, then by the event's time, with a sort that is not stable: here it is."""
    import pandas as pd

    for kind in (pd.DataFrame, pd.Series):
        stable = functools.partialmethod(kind.sort_values, kind="stable")
        monkeypatch.setattr(kind, "sort_values", stable)
    names = ["driver_ties:rate", "driver_ties:note", "driver_ties:trips"]
    rows = labels_table(hours=50)
    times = repo.ties.group_by(["driver_id", "event_timestamp"]).aggregate([([], "count_all")])
    assert (times.column("count_all").to_numpy() > 1).sum() > 500
    table = joined(rows, f"{repo.source}#driver_ties")
    assert_equal(ours(table, ["rate", "note", "trips"]), feasts(repo, rows, names), 1_000)


def test_rows_that_feast_itself_reads_are_joined_alike(repo: Repo) -> None:
    """A source that is no file is pulled through Feast's offline store; here its file store gives the same rows."""
    import dataclasses

    (table,) = feast_tables(config(f"{repo.source}#driver_ties").features.join[0])
    pulled = FeastTable(table.spec, table.folder, dataclasses.replace(table.view, file=None))
    by = [("driver_id", "ascending"), ("event_timestamp", "ascending"), ("created", "ascending")]
    assert pulled.small()
    read = table.table()
    assert pulled.table().select(read.column_names).sort_by(by).to_pydict() == read.sort_by(by).to_pydict()
    assert pulled.digest() == dataclasses.replace(pulled, _rows=[]).digest()


def test_a_join_may_narrow_what_feast_declares(repo: Repo) -> None:
    rows = labels_table()
    whole = joined(rows, f"{repo.source}#driver_stats")
    narrow = joined(
        rows,
        f"{repo.source}#driver_stats",
        keys=["driver_id"],
        time="event_timestamp",
        ttl="3h",
        columns=["note"],
        prefix="d_",
    )
    assert narrow.column_names == [*rows.column_names, "d_note"]
    kept = [
        (a, b) for a, b in zip(narrow.column("d_note").to_pylist(), whole.column("note").to_pylist(), strict=True) if a
    ]
    assert all(a == b for a, b in kept)
    assert 0 < len(kept) < whole.num_rows - whole.column("note").null_count


def test_a_service_joins_each_of_its_views_by_its_own_key(repo: Repo) -> None:
    rows = labels_table()
    cars = np.array(["a", "b", "c"])[np.arange(rows.num_rows) % 3]
    rows = rows.append_column("car", pa.array(cars))
    table = joined(rows, f"{repo.source}#trip")
    frame = repo.store.get_historical_features(
        entity_df=rows.to_pandas(), features=repo.store.get_feature_service("trip")
    ).to_df()
    found = dict(zip(frame["y"], frame[["rate", "trips", "seats"]].itertuples(index=False, name=None), strict=True))
    for y, *mine in zip(*(table.column(name).to_pylist() for name in ("y", "rate", "trips", "seats")), strict=True):
        if y in found:
            assert mine == [None if value != value else value for value in found[y]]
    assert len(found) > 1_000


def test_one_view_under_two_keys_is_two_joins(repo: Repo) -> None:
    rows = labels_table()
    pair = pa.table(
        {
            "first_id": rows.column("driver_id"),
            "second_id": pa.array(np.roll(rows.column("driver_id").to_numpy(), 1)),
            "event_timestamp": rows.column("event_timestamp"),
        }
    )
    with pytest.raises(ConfigError, match=r"Write a join for each, such as feast:.*#pair/first, with a 'prefix'"):
        joined(pair, f"{repo.source}#pair")
    table = joined(joined(pair, f"{repo.source}#pair/first", prefix="a_"), f"{repo.source}#pair/second", prefix="b_")
    expected = joined(rows, f"{repo.source}#driver_stats").column("rate").to_pylist()
    assert table.column("a_rate").to_pylist() == expected
    other = rows.set_column(0, "driver_id", pair.column("second_id"))
    assert table.column("b_rate").to_pylist() == joined(other, f"{repo.source}#driver_stats").column("rate").to_pylist()


def test_the_digest_follows_the_content_and_the_declaration(repo: Repo, tmp_path: Path) -> None:
    def digest(**given: Any) -> str:
        return history_digest(config(f"{repo.source}#driver_stats", **given), "0")

    assert digest() == digest()
    assert digest(ttl="2h") != digest()
    assert history_digest(config(f"{repo.source}#driver_ties"), "0") != digest()


def refused(call: Callable[[], Any], error: type[Exception], *words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    for each in words:
        assert each in str(caught.value)


def test_what_is_not_there_is_named_with_the_nearest(repo: Repo) -> None:
    rows = labels_table().slice(0, 5)
    refused(lambda: joined(rows, f"{repo.source}#driver_stat"), NotFoundError, "Did you mean 'driver_stats'?")
    refused(lambda: joined(rows, f"{repo.source}#trip/car"), NotFoundError, "Did you mean 'cars'?")
    missing = f"feast:{repo.folder.parent}/taxis#driver_stats"
    refused(lambda: joined(rows, missing), NotFoundError, "no Feast repository in", "Did you mean 'taxi'?")
    refused(lambda: joined(rows, f"{repo.source}#driver_stats", columns=["trip"]), ConfigError, "Did you mean 'trips'?")


def test_an_empty_registry_says_how_to_fill_it(tmp_path: Path, repo: Repo) -> None:
    (tmp_path / "feature_store.yaml").write_text((repo.folder / "feature_store.yaml").read_text())
    refused(
        lambda: joined(labels_table(), f"feast:{tmp_path}#driver_stats"),
        NotFoundError,
        "has no feature view",
        f"feast -c {tmp_path} apply",
    )


def test_wrong_settings_of_feast_are_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: 7x-?\nregistry: data/registry.db\nprovider: local\n")
    refused(lambda: joined(labels_table(), f"feast:{tmp_path}#v"), ConfigError, "its feature_store.yaml is wrong")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keys": ["driver"]}, "has the keys 'driver_id', not 'driver'. Leave 'keys' out."),
        ({"time": "seen"}, "has its time in 'event_timestamp', not 'seen'. Leave 'time' out."),
        ({"ttl": "2d"}, "lives 86,400 s, and a ttl of 2d would outlive it"),
    ],
)
def test_a_join_cannot_say_otherwise_than_feast(repo: Repo, given: dict[str, Any], message: str) -> None:
    refused(lambda: joined(labels_table(), f"{repo.source}#driver_stats", **given), ConfigError, message)


def test_data_without_the_entitys_column_is_refused(repo: Repo) -> None:
    rows = labels_table().rename_columns(["driver", "event_timestamp", "y"])
    refused(
        lambda: joined(rows, f"{repo.source}#driver_stats"),
        DataError,
        "the data has no key column 'driver_id'. Did you mean 'driver'?",
    )
    assert moments([0])[0].as_py() == EPOCH
