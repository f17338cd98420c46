"""What a service looks up is what the join and the windows would have given, and null where that cannot be known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history_examples import table_of
from rayline.config import Config, WindowConfig, parse
from rayline.errors import EnvironmentFailed, NotFoundError, RowError, SchemaError, UsageError
from rayline.features.joins.join import join_tables
from rayline.features.joins.tables import JoinSpec
from rayline.features.joins.windows import window_groups, with_windows
from rayline.features.online.declared import HistoryNeed, TableNeed, WindowNeed
from rayline.features.online.latest import LatestRows, Tails
from rayline.features.online.lookup import Lookup
from rayline.features.online.materialize import materialize, needs_ray
from rayline.features.online.record import key_bytes
from rayline.features.online.seam import Found, Key, Value

FEATURE = {"k": pa.string(), "t": pa.int64(), "v": pa.float64()}
SPEC = JoinSpec("f", ("k",), "t", "at", 4_000_000, ("v",), "f_")
NEED = TableNeed("f", ("k",), "at", 4_000_000, {"f_v": "v"})
WINDOWS = {
    "lagged": WindowConfig(of="v", by=("k",), time="t", lag=2),
    "last_two": WindowConfig(of="v", by=("k",), time="t", rows=2, aggregate="sum"),
    "recent": WindowConfig(of="v", by=("k",), time="t", window="3s", aggregate="mean"),
    "apart": WindowConfig(of="v", by=("k",), time="t", window="5s", aggregate="std"),
    "often": WindowConfig(by=("k",), time="t", window="2s", aggregate="count"),
    "newest": WindowConfig(of="v", by=("k",), time="t", rows=3, aggregate="last"),
}
(GROUP,) = window_groups(WINDOWS)

events = st.lists(
    st.fixed_dictionaries(
        {"k": st.sampled_from(["a", "b", None]), "t": st.integers(0, 9), "v": st.none() | st.integers(-9, 9).map(float)}
    ),
    max_size=25,
)


class Memory:
    """An online store in a dict, which counts what it is asked."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes | None], Found] = {}
        self.asked = 0

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        for key, time, row in zip(keys, times, rows, strict=True):
            self.rows[table, key_bytes(key)] = Found(time, dict(zip(columns, row, strict=True)))
        return len(keys)

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        self.asked += 1
        return [self.rows.get((table, key_bytes(key))) for key in keys]

    def size(self, table: str) -> int:
        return sum(name == table for name, _ in self.rows)

    def close(self) -> None:
        self.rows.clear()


def same(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else one == pytest.approx(other, rel=1e-12, abs=1e-12)


def lookup(store: Any, *needs: Any, now: float = 9.0, inputs: Sequence[str] = ("f_v", "x")) -> Lookup:
    tables = tuple(each for each in needs if isinstance(each, TableNeed))
    windows = tuple(each for each in needs if isinstance(each, WindowNeed))
    return Lookup(HistoryNeed("embedded", tables, windows), inputs, lambda: store, lambda: now)


@given(events, st.integers(0, 12))
@settings(deadline=None)
def test_a_looked_up_row_is_the_joined_one_or_null_where_the_latest_is_later(features: list[Any], at: int) -> None:
    latest = LatestRows(SPEC)(table_of(features, FEATURE))
    store = Memory()
    store.put("f", latest.columns, latest.keys, latest.times, latest.rows)
    rows = [{"k": key, "at": at, "x": 1} for key in ("a", "b", "c")]
    joined = join_tables(pa.Table.from_pylist(rows), table_of(features, FEATURE), SPEC).to_pylist()
    found = lookup(store, NEED).completed(rows)
    for row, expected in zip(found, joined, strict=True):
        later = any(each["k"] == expected["k"] and each["t"] > at for each in features)
        assert row == {"x": 1, "f_v": None if later else expected["f_v"]}
    assert store.asked == 1


@given(events, st.integers(0, 12), st.integers(1, 25))
@settings(deadline=None)
def test_looked_up_windows_are_those_of_a_new_row(rows: list[Any], at: int, step: int) -> None:
    """Of whatever blocks: the tails of tails are the tails of all."""
    look, whole = Tails(GROUP), table_of(rows, FEATURE)
    blocks = [look(whole.slice(start, step)) for start in range(0, len(rows), step)] or [look(whole)]
    state = look.state(look(pa.concat_tables(blocks)))
    at_once = look.state(look(whole))
    assert sorted(zip(state.keys, state.times, state.rows, strict=True), key=repr) == sorted(
        zip(at_once.keys, at_once.times, at_once.rows, strict=True), key=repr
    )
    store = Memory()
    store.put(GROUP.name, state.columns, state.keys, state.times, state.rows)
    need = WindowNeed(GROUP.name, ("k",), "t", GROUP.windows)
    for key in ("a", "b", "c"):
        (found,) = lookup(store, need, inputs=tuple(WINDOWS)).completed([{"k": key, "t": at}])
        expected = with_windows(table_of([*rows, {"k": key, "t": at, "v": 0.0}], FEATURE), WINDOWS).to_pylist()[-1]
        later = any(each["k"] == key and each["t"] > at for each in rows)
        for name in WINDOWS:
            if found[name] is not None or not later:
                assert same(found[name], expected[name]), name


def test_what_the_request_gives_wins_even_a_null() -> None:
    store = Memory()
    store.put("f", ["v"], [("a",)], [8_000_000], [[1.5]])
    rows = [{"k": "a", "x": 1, "f_v": None}, {"x": 2, "f_v": 7}, {"k": "a", "x": 3}]
    assert lookup(store, NEED).completed(rows) == [{"x": 1, "f_v": None}, {"x": 2, "f_v": 7}, {"x": 3, "f_v": 1.5}]
    assert rows[2] == {"k": "a", "x": 3}
    lookup(store, NEED).completed(rows[:2])
    assert store.asked == 1


@pytest.mark.parametrize(("now", "expected"), [(7.9, None), (8.0, 1.5), (11.9, 1.5), (12.0, None)])
def test_a_row_without_a_time_is_of_now(now: float, expected: float | None) -> None:
    store = Memory()
    store.put("f", ["v"], [("a",)], [8_000_000], [[1.5]])
    (row,) = lookup(store, NEED, now=now).completed([{"k": "a", "x": 1}])
    assert row["f_v"] == expected


def test_a_key_or_time_that_is_an_input_stays() -> None:
    (row,) = lookup(Memory(), NEED, inputs=("f_v", "k")).completed([{"k": "a", "at": 3, "other": 1}])
    assert row == {"k": "a", "f_v": None, "other": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"x": 1}, "row 1, column 'f_v': None found, and neither is 'k', which it would be looked up by"),
        ({"x": 1, "k": 1.5}, "row 1, column 'k': 1.5 is no key"),
        ({"x": 1, "k": "a", "at": "soon"}, "row 1, column 'at': 'soon' is no time"),
    ],
)
def test_a_row_that_cannot_be_looked_up_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError) as caught:
        lookup(Memory(), NEED).completed([{"k": "a", "x": 1}, row])
    assert message in str(caught.value)


def test_a_store_may_come_later() -> None:
    stores: list[Memory] = []

    def open_() -> Memory:
        if not stores:
            raise EnvironmentFailed("there is none")
        return stores[0]

    found = Lookup(HistoryNeed("embedded", (NEED,), ()), ("f_v", "x"), open_)
    assert found.completed([{"f_v": 1, "x": 2}]) == [{"f_v": 1, "x": 2}]
    with pytest.raises(EnvironmentFailed):
        found.completed([{"k": "a", "x": 2}])
    stores.append(Memory())
    assert found.completed([{"k": "a", "x": 2}]) == [{"f_v": None, "x": 2}]


def project(folder: Path, **features: Any) -> Config:
    pyarrow.csv.write_csv(
        pa.table({"k": ["a", "a", "b"], "at": ["2024-01-03", "2024-01-05", "2024-01-04"], "y": [1, 2, 3]}),
        folder / "rows.csv",
    )
    (folder / "f.csv").write_text("k,t,v,w\na,2024-01-01,1,x\na,2024-01-02,,y\nb,2024-01-02,3,\n,2024-01-03,4,z\n")
    join = {"name": "f", "source": str(folder / "f.csv"), "keys": ["k"], "time": "t", "at": "at", "ttl": "3d"}
    declared = {"join": [join], "windows": {"before": {"of": "y", "by": ["k"], "time": "at", "lag": 1}}}
    return parse(
        {
            "name": "p",
            "data": {"source": str(folder / "rows.csv")},
            "features": {"target": "y", **declared, **features},
            "storage": str(folder / "state"),
        }
    )


def test_materialize_writes_the_latest_of_each_key_and_again_only_what_changed(tmp_path: Path) -> None:
    config, store = project(tmp_path), Memory()
    assert not needs_ray(config)
    told: list[Any] = []
    done = materialize(config, store, each=told.append)
    assert tuple(told) == done
    assert [(each.table, each.rows, each.kept, each.keys) for each in done] == [
        ("p/f", 4, 2, 2),
        ("p/windows/k@at", 3, 2, 2),
    ]
    assert [each.values if each else None for each in store.get("p/f", [("a",), ("b",), ("c",)])] == [
        {"v": None, "w": "y"},
        {"v": 3, "w": None},
        None,
    ]
    assert [each.unchanged for each in materialize(config, store)] == [True, True]
    assert [each.unchanged for each in materialize(config, store, fresh=True)] == [False, False]
    with (tmp_path / "f.csv").open("a") as file:
        file.write("c,2024-02-01,9,q\n")
    assert [(each.unchanged, each.keys) for each in materialize(config, store)] == [(False, 3), (False, 2)]
    assert [each.unchanged for each in materialize(config, Memory())] == [False, False]


def test_a_project_without_history_has_nothing_to_materialize(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="joins no feature table and has no window"):
        materialize(project(tmp_path, join=[], windows={}), Memory())
    config = project(tmp_path)
    (tmp_path / "f.csv").unlink()
    with pytest.raises(NotFoundError):
        materialize(config, Memory())


def test_what_a_model_needs_is_what_of_the_history_it_takes_in(tmp_path: Path) -> None:
    config = project(tmp_path)
    need = HistoryNeed.of(config, ("w", "before", "x"))
    assert need is not None
    assert need.tables == (TableNeed("p/f", ("k",), "at", 3 * 86_400_000_000, {"w": "w"}),)
    assert [each.name for each in need.windows[0].windows] == ["before"]
    assert HistoryNeed.from_json(need.to_json()) == need
    assert HistoryNeed.of(config, ("x",)) is None
    with pytest.raises(SchemaError, match="damaged"):
        HistoryNeed.from_json({**need.to_json(), "tables": [{}]})
    with pytest.raises(SchemaError, match="its format is 9"):
        HistoryNeed.from_json({**need.to_json(), "format": 9})
