"""Rows fall on the same side of a split whatever their order, their blocks and their physical types."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from rayline.config import FeaturesConfig, SplitConfig, parse
from rayline.errors import ConfigError, DataError
from rayline.features.hashing import row_hashes
from rayline.features.splits.sizes import SplitSizes
from rayline.features.splits.split import FILE_PART, LEFT_OUT, POSITION, Look, SplitPlan, inputs_beside, plan_split

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


@settings(deadline=None)
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


def test_a_gap_leaves_out_the_rows_before_each_border() -> None:
    hours = pa.array(np.datetime64("2012-01-01T00", "us") + np.arange(1_000) * np.timedelta64(1, "h"))
    table = pa.table({"t": hours})
    for gap in ("1d", 86_400.0, "24h", "1440min"):
        parts = time_plan(table, "t", gap=gap).parts(table)
        assert np.flatnonzero(parts == LEFT_OUT).tolist() == [*range(677, 700), *range(827, 850)]
    assert SplitSizes.of(parts).line() == "677 train, 127 valid, 150 test; 46 left out by the gap"
    kept = parts.copy()
    kept[kept == LEFT_OUT] = time_plan(table, "t").parts(table)[kept == LEFT_OUT]
    assert np.array_equal(kept, time_plan(table, "t").parts(table))


def test_without_a_column_a_gap_counts_rows() -> None:
    table = pa.table({POSITION: np.arange(100)})
    parts = time_plan(table, gap=5).parts(table)
    assert parts.tolist() == [0] * 65 + [LEFT_OUT] * 5 + [1] * 10 + [LEFT_OUT] * 5 + [2] * 15
    with pytest.raises(ConfigError, match=r"data\.split\.gap is '7d', and without data\.split\.column it counts rows"):
        time_plan(table, gap="7d")


def test_a_gap_is_in_the_units_of_a_column_of_numbers() -> None:
    table = pa.table({"year": np.repeat(np.arange(1900, 2000), 3)})
    parts = time_plan(table, "year", gap=2).parts(table)
    assert sorted(set(table["year"].to_numpy()[parts == LEFT_OUT].tolist())) == [1969, 1984]
    with pytest.raises(ConfigError, match="column 'year' holds numbers: give the gap as a number in their units"):
        time_plan(table, "year", gap="2d")


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=30, max_size=120),
    st.integers(0, 60),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_no_kept_row_is_within_the_gap_of_a_later_part(
    days: list[int], gap: int, size: int, chance: random.Random
) -> None:
    moments = np.datetime64("2012-01-01", "us") + np.array(days) * np.timedelta64(1, "D")
    table = pa.table({"t": moments})
    try:
        plan = time_plan(table, "t", size, gap=f"{gap}d")
    except DataError:  # too few different times, or a gap as long as a part
        reject()
    parts = plan.parts(table)
    for part in (0, 1):
        ours, later = moments[parts == part], moments[parts > part]
        assert later.min() - ours.max() >= max(np.timedelta64(gap, "D"), np.timedelta64(1, "us"))
    order = np.array(chance.sample(range(len(days)), len(days)))
    moved = table.take(order)
    assert time_plan(moved, "t", 7, gap=f"{gap}d") == plan
    assert plan.parts(moved).tolist() == parts[order].tolist()


def test_a_gap_that_takes_a_whole_part_is_refused() -> None:
    table = pa.table({"t": np.arange(100)})
    with pytest.raises(DataError, match=r"data\.split\.gap \(16\) is as long as the whole valid part"):
        time_plan(table, "t", gap=16)


CLASSES = st.lists(st.sampled_from("aaaaaaaaaaaabbbbc") | st.none(), min_size=1, max_size=400)


def strata_plan(table: pa.Table, size: int | None = None, by_number: bool = False, **settings: Any) -> SplitPlan:
    split = SplitConfig(by="stratified", **settings)
    return plan_split(split, tuple(table.column_names), looking(table, size), "y", by_number=by_number)


@settings(deadline=None)
@given(CLASSES, st.integers(1, 90), st.randoms(use_true_random=False), st.sampled_from([0.1, 0.2, 0.35]))
def test_every_class_has_its_share_in_each_part(
    answers: list[str | None], size: int, chance: random.Random, test: float
) -> None:
    table = pa.table({"x": np.arange(len(answers)) * 1.5, "y": pa.array(answers, pa.string())})
    plan = strata_plan(table, size, test=test)
    parts = plan.parts(table)
    shares = (1 - 0.15 - test, 0.15, test)
    for name in "abc":
        ours = parts[np.array([answer == name for answer in answers])]
        if len(ours):
            assert (ours == 0).any()
            for part, share in enumerate(shares):
                # To within one row for rounding at each border, and one that shares its bin with another.
                assert abs(np.count_nonzero(ours == part) - share * len(ours)) <= 3
    order = np.array(chance.sample(range(len(answers)), len(answers)))
    moved = table.take(order).select(["y", "x"])
    again = strata_plan(moved, 13, test=test)
    assert again == plan
    cut = [again.parts(moved.slice(start, size)) for start in range(0, len(answers), size)]
    assert np.concatenate(cut).tolist() == parts[order].tolist()


def test_strata_are_nearer_to_the_shares_than_chance() -> None:
    answers = np.where(np.arange(40_000) % 50 == 0, "rare", "usual")
    table = pa.table({"x": np.arange(40_000), "y": answers})
    sizes = SplitSizes.of(strata_plan(table).parts(table), table["y"])
    assert sizes.classes["rare"] == pytest.approx((560, 120, 120), abs=2)
    assert sizes.classes["usual"] == pytest.approx((27_440, 5_880, 5_880), abs=12)
    for part in sizes.shares().values():
        assert part["rare"] == pytest.approx(0.02, abs=4e-4)


def test_many_small_classes_fill_every_part() -> None:
    table = pa.table({"x": np.arange(3_000), "y": [f"class {row % 1_000}" for row in range(3_000)]})
    parts = strata_plan(table).parts(table)
    assert np.bincount(parts).tolist() == pytest.approx([2_100, 450, 450], abs=90)
    assert len(set(table["y"].filter(pa.array(parts == 0)).to_pylist())) == 1_000


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=20, max_size=300), st.integers(1, 90))
def test_a_number_has_its_tenths_in_each_part(values: list[float | None], size: int) -> None:
    table = pa.table({"x": np.arange(len(values)), "y": pa.array(values, pa.float64())})
    if table["y"].null_count == len(values):
        with pytest.raises(DataError, match="target 'y' has no value in any row"):
            strata_plan(table, size, by_number=True)
        return
    plan = strata_plan(table, size, by_number=True)
    assert plan == strata_plan(table.take(np.arange(len(values))[::-1]), None, by_number=True)
    parts = plan.parts(table)
    known = np.array([value is not None for value in values])
    order = np.argsort(table["y"].to_numpy()[known], kind="stable")
    upper, lower = parts[known][order][known.sum() // 2 :], parts[known][order][: known.sum() // 2]
    for half in (upper, lower):
        assert np.count_nonzero(half == 0) == pytest.approx(0.7 * len(half), abs=16)


def test_a_column_can_say_the_part() -> None:
    table = pa.table({"part": pa.array(["train", "Validation", "test", "TRAIN ", "val"]).dictionary_encode()})
    plan = plan_split(SplitConfig(by="column", column="part"), ("part",), never)
    assert plan.parts(table).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(DataError, match=r"'part' is 'tets' in some rows.*Did you mean 'test'"):
        plan.parts(pa.table({"part": ["train", "tets"]}))
    with pytest.raises(DataError, match="'part' is None in some rows"):
        plan.parts(pa.table({"part": ["train", None]}))
    features = FeaturesConfig(target="y", drop=("a",))
    assert inputs_beside(SplitConfig(by="column", column="part"), features).drop == ("a", "part")
    assert inputs_beside(SplitConfig(), features) == features


def test_files_give_their_parts_and_the_rest_is_divided() -> None:
    table = pa.table({"a": np.arange(3_000), FILE_PART: [0] * 1_000 + [1] * 1_000 + [2] * 1_000})
    both = plan_split(SplitConfig(by="files", valid="v.csv", test="t.csv"), ("a",), never)
    assert np.array_equal(both.parts(table), table[FILE_PART].to_numpy())
    plan = plan_split(SplitConfig(by="files", valid=0.2, test="t.csv"), ("a",), never)
    parts = plan.parts(table)
    assert (parts[2_000:] == 2).all()
    assert (parts[1_000:2_000] == 1).all()
    assert np.bincount(parts[:1_000], minlength=3).tolist() == pytest.approx([800, 200, 0], abs=40)


def test_the_hashes_at_hand_give_the_same_parts() -> None:
    table = pa.table({"a": np.arange(500), "y": np.arange(500) % 3})
    hashes = row_hashes(table)
    for plan in (hash_plan(table), hash_plan(table, key="a"), strata_plan(table)):
        assert np.array_equal(plan.parts(table, hashes), plan.parts(table))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2), st.sampled_from("abc")), max_size=60), st.integers(0, 60))
def test_sizes_add_up(rows: list[tuple[int, str]], cut: int) -> None:
    parts = np.array([part for part, _ in rows], dtype=np.int8)
    target = pa.chunked_array([pa.array([name for _, name in rows], pa.string())])
    whole = SplitSizes.of(parts, target)
    assert whole.total == len(rows)
    assert SplitSizes.of(parts[:cut], target[:cut]).merged(SplitSizes.of(parts[cut:], target[cut:])) == whole
    assert SplitSizes.from_json(whole.to_json()) == whole
    for part, count in whole.by_part().items():
        assert sum(whole.shares().get(part, {}).values()) == pytest.approx(1.0 if count else 0.0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"by": "column"}, "'by: column' needs 'column'"),
        ({"by": "files"}, "'by: files' needs a file for 'valid', for 'test' or for both"),
        ({"valid": "v.csv"}, "a file belongs to 'by: files'"),
        ({"gap": "7d"}, "'gap' belongs to 'by: time'"),
        ({"by": "time", "gap": "a week"}, "is neither seconds nor a text such as 7d"),
        ({"by": "time", "gap": -1.0}, ">= 0"),
        ({"by": "stratified", "key": "a"}, "'key' belongs to 'by: hash'"),
        ({"by": "stratified", "column": "a"}, "'column' belongs to 'by: time' or 'by: column'"),
        ({"by": "strata"}, "Did you mean 'stratified'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(split: dict[str, Any], message: str) -> None:
    raw = {"name": "t", "features": {"target": "y"}, "data": {"source": "a.csv", "split": split}}
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(raw)


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
