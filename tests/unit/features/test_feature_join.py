"""The as-of join: equal to a loop over all pairs, blind to the future, and plain about what it cannot use."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history_examples import joined_by_loop, keys, numbers, table_of, times
from rayline.config import load, parse
from rayline.errors import ConfigError, DataError, RowError
from rayline.features.joins.history import completed_table, history_digest, table_with_history
from rayline.features.joins.join import join, join_tables
from rayline.features.joins.tables import JoinSpec

ROW = {"k": pa.string(), "n": pa.int64(), "at": pa.int64()}
FEATURE = {"k": pa.string(), "n": pa.int64(), "t": pa.int64(), "v": pa.float64(), "w": pa.string()}

rows = st.lists(st.fixed_dictionaries({"k": keys, "n": st.none() | st.integers(0, 2), "at": times}), max_size=12)
features = st.lists(
    st.fixed_dictionaries(
        {
            "k": keys,
            "n": st.none() | st.integers(0, 2),
            "t": times,
            "v": numbers,
            "w": st.sampled_from([None, "x", "y"]),
        }
    ),
    max_size=25,
)
specs = st.builds(
    JoinSpec,
    name=st.just("f"),
    keys=st.sampled_from([("k",), ("k", "n"), ("n", "k")]),
    time=st.just("t"),
    at=st.just("at"),
    ttl=st.none() | st.integers(1, 12).map(lambda seconds: seconds * 1_000_000),
    columns=st.sampled_from([("v",), ("w", "v")]),
    prefix=st.sampled_from(["", "f_"]),
)


@given(rows, features, specs)
@settings(deadline=None)
def test_it_is_what_a_loop_over_all_pairs_finds(rows: list[Any], features: list[Any], spec: JoinSpec) -> None:
    found = join_tables(table_of(rows, ROW), table_of(features, FEATURE), spec)
    assert found.to_pylist() == joined_by_loop(rows, features, spec)


@given(rows, features, specs, st.integers(0, 12))
@settings(deadline=None)
def test_what_comes_later_changes_nothing_earlier(
    rows: list[Any], features: list[Any], spec: JoinSpec, now: int
) -> None:
    known = [each for each in features if each["t"] is not None and each["t"] <= now]
    past = [each for each in rows if each["at"] is not None and each["at"] <= now]
    with_future = join_tables(table_of(past, ROW), table_of(features, FEATURE), spec)
    assert with_future.equals(join_tables(table_of(past, ROW), table_of(known, FEATURE), spec))


def both(left: pa.Array, right: pa.Array, **given: Any) -> list[Any]:
    labels = pa.table({"k": left, "at": pa.array([9] * len(left))})
    table = pa.table({"k": right, "t": pa.array([1] * len(right)), "v": pa.array(range(len(right)))})
    return join(labels, table, keys=["k"], time="t", at="at", **given).column("v").to_pylist()


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (pa.array([7, 8, None]), pa.array(["7", "08"]), [0, None, None]),
        (pa.array([7.0, float("nan")]), pa.array([7], pa.int32()), [0, None]),
        (pa.array(["true", "x"]), pa.array([True]), [0, None]),
        (pa.array(["2024-05-01", ""]), pa.array([dt.date(2024, 5, 1)]), [0, None]),
        (pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", None]), [None, 0]),
        (pa.array([2**53 + 1]), pa.array([2**53, 2**53 + 1]), [1]),
        (pa.array(["a"]), pa.array([], pa.string()), [None]),
    ],
)
def test_a_key_is_the_same_key_whatever_holds_it(left: pa.Array, right: pa.Array, expected: list[Any]) -> None:
    assert both(left, right) == expected


def test_times_meet_in_utc_whatever_holds_them() -> None:
    zone = pa.timestamp("ms", "Europe/Zurich")
    moments = [dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC), dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)]
    table = pa.table({"k": [1, 1], "t": pa.array(moments, zone), "v": [1.0, 2.0]})
    labels = pa.table({"k": [1, 1, 1], "at": ["2024-05-01T09:59", "2024-05-01T11:00", "2024-05-01T14:00+02:00"]})
    assert join(labels, table, keys=["k"], time="t", at="at").column("v").to_pylist() == [None, 1.0, 2.0]


def test_a_row_on_the_edge_of_its_life_is_gone_and_one_of_the_same_instant_is_known() -> None:
    labels = pa.table({"k": [1, 1, 1], "at": ["2024-05-02", "2024-05-01T23:59:59", "2024-05-01"]})
    table = pa.table({"k": [1], "t": [dt.date(2024, 5, 1)], "v": [5]})
    found = join(labels, table, keys=["k"], time="t", at="at", ttl="1d")
    assert found.column("v").to_pylist() == [None, 5, 5]


def test_nested_values_come_along() -> None:
    table = pa.table({"k": ["a"], "t": [0], "v": pa.array([[1.0, 2.0]], pa.list_(pa.float32()))})
    assert join(pa.table({"k": ["a", "b"], "at": [1, 1]}), table, keys=["k"], time="t", at="at").column(
        "v"
    ).to_pylist() == [[1.0, 2.0], None]


LABELS = pa.table({"k": ["a"], "at": [1], "v": [0.5]})
TABLE = pa.table({"k": ["a"], "t": [1], "v": [1.5], "w": [2.5]})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ConfigError, "adds a column 'v', which the rows have already"),
        ({"columns": ["ww"]}, ConfigError, "takes 'ww', which its table does not have. Did you mean 'w'?"),
        ({"columns": ["w"], "at": "aat"}, DataError, "the data has no time column 'aat'. Did you mean 'at'?"),
        ({"columns": ["w"], "keys": ["kk"]}, DataError, "feature table 'features' has no key column 'kk'"),
        ({"columns": ["w"], "keys": ["v"]}, DataError, "column 'v' is no key, which must be a whole number"),
        ({"columns": ["w"], "at": "k"}, RowError, "row 0, column 'k': 'a' is no time"),
    ],
)
def test_what_cannot_be_joined_is_named(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        join(LABELS, TABLE, **{"keys": ["k"], "time": "t", "at": "at", **given})
    assert message in str(caught.value)


def test_a_configuration_joins_files_and_follows_their_content(tmp_path: Any) -> None:
    (tmp_path / "f.csv").write_text("k,t,v\na,2024-01-01,1\na,2024-02-01,2\n")
    raw = {
        "name": "p",
        "data": {"source": "x"},
        "features": {
            "target": "y",
            "join": [
                {"name": "f", "source": str(tmp_path / "f.csv"), "keys": ["k"], "time": "t", "at": "at", "ttl": "90d"},
                {
                    "name": "g",
                    "source": str(tmp_path / "f.csv"),
                    "keys": ["k"],
                    "time": "t",
                    "at": "at",
                    "prefix": "g_",
                },
            ],
            "windows": {"before": {"of": "y", "by": ["k"], "time": "at", "lag": 1}},
        },
    }
    config = parse(raw)
    table = pa.table({"k": ["a", "a"], "at": ["2024-01-20", "2024-06-01"], "y": [1, 2]})
    found = table_with_history(config.features, table)
    assert found.drop_columns(["k", "at", "y"]).to_pylist() == [
        {"v": 1, "g_v": 1, "before": None},
        {"v": None, "g_v": 2, "before": 1.0},
    ]
    own = table.append_column("v", pa.array([8, 9]))
    assert completed_table(config.features, own, ("v", "g_v")).drop_columns(["k", "at", "y"]).to_pylist() == [
        {"v": 8, "g_v": 1},
        {"v": 9, "g_v": 2},
    ]
    assert completed_table(config.features, own, ("v",)) is own
    before = history_digest(config, "0" * 16)
    (tmp_path / "f.csv").write_text("k,t,v\na,2024-01-01,3\n")
    assert before != history_digest(config, "0" * 16) != history_digest(config, "1" * 16)
    assert history_digest(parse({**raw, "features": {"target": "y"}}), "0" * 16) == "0" * 16


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ([{"name": "f", "at": "at"}], "join 'f' needs a source"),
        ([{"name": "f", "source": "f.csv", "at": "at", "time": "t"}], "join 'f' needs keys and the time column"),
        ([{"name": "f", "source": "x", "at": "a", "time": "t", "keys": ["k"]}] * 2, "two joins are called 'f'"),
        ([{"name": "f", "source": "x", "at": "a", "time": "t", "kyes": ["k"]}], "Did you mean 'keys'?"),
        ([{"name": "f", "source": "x", "at": "a", "time": "t", "keys": ["k"], "ttl": "30"}], "features.join[0].ttl"),
    ],
)
def test_a_wrong_join_is_refused(join: list[Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"name": "p", "data": {"source": "x"}, "features": {"target": "y", "join": join}})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("sqlite:///x", "the online store is 'embedded' or a redis:// address, not 'sqlite:///x'"),
        ("redis://u:secret@host", "an address with a password belongs in the variable RAYLINE_ONLINE_STORE"),
    ],
)
def test_a_wrong_online_store_is_refused(store: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"name": "p", "data": {"source": "x"}, "features": {"target": "y", "online": {"store": store}}})
    assert message in str(caught.value)


def test_the_source_of_a_join_is_relative_to_the_file(tmp_path: Any) -> None:
    (tmp_path / "rayline.yaml").write_text(
        "name: p\ndata: {source: a.csv}\nfeatures:\n  target: y\n"
        "  join: [{name: f, source: f.csv, keys: [k], time: t, at: at}]\n"
    )
    assert load(tmp_path / "rayline.yaml").features.join[0].source == str(tmp_path / "f.csv")
