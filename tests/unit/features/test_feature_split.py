"""Rows fall on the same side of a split whatever their order, their blocks and their physical types."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import SplitConfig
from rayline.errors import ConfigError, DataError
from rayline.features.hashing import row_hashes
from rayline.features.split import POSITION, Look, SplitPlan, plan_split

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.floats(allow_nan=False),
            "i": st.none() | st.integers(-(2**40), 2**40),
            "s": st.none() | st.text(max_size=8),
            "b": st.none() | st.booleans(),
            "d": st.none() | st.dates(),
        }
    ),
    min_size=1,
    max_size=40,
)
TYPES = pa.schema([("n", pa.float64()), ("i", pa.int64()), ("s", pa.string()), ("b", pa.bool_()), ("d", pa.date32())])

GOLDEN = ["0xbfb713e4a5896102", "0xf28f6ac86f8e424e"]  # moving these moves every split that was ever made


def hash_plan(table: pa.Table, **settings: object) -> SplitPlan:
    return plan_split(SplitConfig(**settings), tuple(table.column_names), never)  # type: ignore[arg-type]


def looking(table: pa.Table, size: int | None = None) -> Look:
    """Return the look at a table in blocks of ``size`` rows."""

    def look(columns: tuple[str, ...] | None, see: Callable[[pa.Table], Any]) -> Iterator[Any]:
        chosen = table if columns is None else table.select(list(columns))
        for start in range(0, max(table.num_rows, 1), size or max(table.num_rows, 1)):
            yield see(chosen.slice(start, size))

    return look


def never(columns: tuple[str, ...] | None, see: Callable[[pa.Table], Any]) -> Iterator[Any]:
    raise AssertionError("this split needs no look at the rows")


@settings(deadline=None)  # the first example waits for imports
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 10))
def test_a_hash_belongs_to_its_row(rows: list[dict[str, object]], chance: random.Random, size: int) -> None:
    table = pa.Table.from_pylist(rows, TYPES)
    whole = row_hashes(table)
    order = list(range(len(rows)))
    chance.shuffle(order)
    columns = list(TYPES.names)
    chance.shuffle(columns)
    moved = table.take(order).select(columns)
    cut = [row_hashes(moved.slice(start, size)) for start in range(0, len(rows), size)]
    assert np.concatenate(cut).tolist() == whole[order].tolist()


def test_physical_types_do_not_change_a_hash() -> None:
    plain = pa.table({"i": [1, 2, None], "s": ["a", "b", None]})
    other = pa.table(
        {
            "s": pa.chunked_array([["a"], ["b", None]]).dictionary_encode(),
            "i": pa.array([1.0, 2.0, None], pa.float32()),
        }
    )
    assert row_hashes(plain).tolist() == row_hashes(other).tolist()


def test_different_content_hashes_differently() -> None:
    table = pa.table({"a": ["ab", "ba", "", None, "a", "b", "a\0"], "b": ["", "", "ab", "", "b", "a", ""]})
    assert len(set(row_hashes(table).tolist())) == table.num_rows
    assert row_hashes(pa.table({"a": [1]})).tolist() != row_hashes(pa.table({"b": [1]})).tolist()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20) | st.integers(0, 300).map(bytes), min_size=1, max_size=30))
def test_texts_hash_alike_only_where_they_are_alike(texts: list[bytes]) -> None:
    hashes = row_hashes(pa.table({"a": pa.array(texts, pa.binary())})).tolist()
    assert len(set(hashes)) == len(set(texts))
    assert [row_hashes(pa.table({"a": pa.array([text], pa.binary())}))[0] for text in texts] == hashes


def test_texts_that_repeat_hash_as_those_that_do_not() -> None:
    few = pa.array([f"level {index % 7}" if index % 11 else None for index in range(40_000)])
    one_by_one = np.concatenate([row_hashes(pa.table({"a": few.slice(start, 100)})) for start in range(0, 40_000, 100)])
    assert np.array_equal(row_hashes(pa.table({"a": few})), one_by_one)


def test_arrays_hash_by_their_numbers_and_shape() -> None:
    lists = [[1.0, 2.0], [2.0, 1.0], [1.0], [], None, [1.0, None], [0.0, 1.0]]
    plain = pa.table({"a": pa.array(lists, pa.list_(pa.float64()))})
    single = pa.table({"a": pa.array(lists, pa.large_list(pa.float32()))})
    assert len(set(row_hashes(plain).tolist())) == len(lists)
    assert row_hashes(single).tolist() == row_hashes(plain).tolist()
    assert row_hashes(plain.slice(3)).tolist() == row_hashes(plain)[3:].tolist()
    fixed = pa.table({"a": pa.array([[1.0, 2.0], None, [2.0, 1.0]], pa.list_(pa.float32(), 2))})
    assert row_hashes(fixed).tolist() == row_hashes(plain)[[0, 4, 1]].tolist()


def test_a_hash_is_the_same_in_every_process_and_release() -> None:
    assert [hex(word) for word in row_hashes(pa.table({"a": [1.5, None], "b": ["x", ""]}))] == GOLDEN


def test_shares_are_met_closely() -> None:
    table = pa.table({"a": np.arange(50_000)})
    shares = np.bincount(hash_plan(table, valid=0.2, test=0.1).parts(table)) / table.num_rows
    assert shares.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


def test_more_test_rows_keep_the_earlier_ones() -> None:
    table = pa.table({"a": np.arange(5_000)})
    small = hash_plan(table, test=0.1).parts(table) == 2
    large = hash_plan(table, test=0.3).parts(table) == 2
    assert (large >= small).all()
    assert large.sum() > small.sum()


def test_rows_of_one_key_stay_together() -> None:
    table = pa.table({"user": np.arange(3_000) % 100, "x": np.arange(3_000)})
    parts = hash_plan(table, key="user").parts(table)
    assert len(set(zip(table["user"].to_pylist(), parts.tolist(), strict=True))) == 100
    assert set(parts.tolist()) == {0, 1, 2}


def time_plan(table: pa.Table, column: str | None = None, size: int | None = None, **settings: object) -> SplitPlan:
    split = SplitConfig(by="time", column=column, **settings)  # type: ignore[arg-type]
    return plan_split(split, tuple(table.column_names), looking(table, size))


@given(st.lists(st.datetimes(), min_size=20, max_size=60, unique=True), st.integers(1, 7))
def test_time_puts_the_latest_rows_into_the_test(moments: list[object], size: int) -> None:
    table = pa.table({"t": pa.array(moments, pa.timestamp("us"))})
    plan = time_plan(table, "t")
    parts = plan.parts(table)
    cut = [plan.parts(table.slice(start, size)) for start in range(0, len(moments), size)]
    assert np.concatenate(cut).tolist() == parts.tolist()
    in_time = parts[np.argsort(np.array(moments, dtype="datetime64[us]"))]
    assert (np.diff(in_time) >= 0).all()
    assert np.bincount(parts, minlength=3).tolist() == pytest.approx(
        [0.7 * len(moments), 0.15 * len(moments), 0.15 * len(moments)], abs=1.01
    )


def test_without_a_column_time_is_the_order_of_the_file() -> None:
    table = pa.table({"a": ["x"] * 100, POSITION: np.arange(100)})
    parts = time_plan(table).parts(table)
    assert parts.tolist() == [0] * 70 + [1] * 15 + [2] * 15


def test_rows_of_one_time_stay_together() -> None:
    table = pa.table({"t": np.repeat(np.arange(10), 10)})
    assert len(set(zip(table["t"].to_pylist(), time_plan(table, "t").parts(table).tolist(), strict=True))) == 10


def test_too_few_times_are_refused() -> None:
    with pytest.raises(DataError, match="too few different times"):
        time_plan(pa.table({"t": [1, 1, 1, 2]}), "t")


def test_a_row_without_a_time_is_refused() -> None:
    with pytest.raises(DataError, match=r"'t': 1 rows have no usable time, the first is row 1"):
        time_plan(pa.table({"t": ["2011-01-01", None, "2011-01-03"]}), "t")


def test_an_unknown_split_column_names_the_nearest() -> None:
    table = pa.table({"customer": [1]})
    with pytest.raises(ConfigError, match=r"data\.split\.key names 'custmer'.*Did you mean 'customer'"):
        hash_plan(table, key="custmer")
