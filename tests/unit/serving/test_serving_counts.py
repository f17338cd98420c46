"""Counts by inputs, slices, truth and shadow: their sums over replicas, their windows, and the bins they lie in."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.errors import ConfigError
from rayline.features.schemas.schema import ColumnSchema
from rayline.registry.predictor import Predictions
from rayline.serving.records.comparing import compared
from rayline.serving.records.counters import Counters, RowTruth
from rayline.serving.records.giving_way import LOOK_SECONDS, EventLoopLoad, share_of
from rayline.serving.records.observation import ArmStats, ShadowStats
from rayline.serving.records.yardstick import MOST_SLICES, Ruler, Yardstick
from rayline.serving.wire.row_table import row_table
from recording_app import yardstick_of
from registry_examples import mixed_table

NAMES = st.sampled_from(["a=1", "a=2", "b<3"])
TRUTHS = st.builds(
    RowTruth,
    correct=st.booleans(),
    error=st.integers(-40, 40).map(float),
    slices=st.lists(NAMES, unique=True).map(tuple),
)
COUNTS = st.dictionaries(st.sampled_from(["0", "1", "<missing>"]), st.integers(1, 9), max_size=3)
MEASURED = st.tuples(st.dictionaries(st.sampled_from(["x", "y"]), COUNTS), st.dictionaries(NAMES, st.integers(1, 9)))
SHADOWS = st.builds(
    ShadowStats,
    rows=st.integers(0, 9),
    agreed=st.integers(0, 9),
    distance=st.integers(0, 99).map(float),
    dropped=st.integers(0, 9),
    slices=st.dictionaries(NAMES, st.tuples(st.integers(0, 9), st.integers(0, 9))),
)
STEPS = st.lists(st.one_of(st.lists(TRUTHS, max_size=3), MEASURED, SHADOWS), max_size=6)


def count(counters: Counters, steps: list[Any]) -> ArmStats:
    for step in steps:
        if isinstance(step, ShadowStats):
            counters.mirrored(step)
        elif isinstance(step, tuple):
            counters.measured(*step)
        else:
            counters.told(step)
    return counters.snapshot()


def known(stats: ArmStats) -> ArmStats:
    """Leave out what counts nothing: a slice of no rows is no slice."""
    raw = stats.to_json()

    def trimmed(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: trimmed(each) for key, each in value.items()}
            return {key: each for key, each in kept.items() if each not in (0, 0.0, {}, [0, 0], (0, 0))}
        return value

    return ArmStats.from_json(trimmed(raw))


@settings(max_examples=40)
@given(STEPS, STEPS)
def test_counts_of_two_replicas_add_up_to_those_of_one_that_did_both(one: list[Any], other: list[Any]) -> None:
    apart = count(Counters(()), one).plus(count(Counters(()), other))
    together = count(Counters(()), [*one, *other])
    assert known(apart) == known(together)


@settings(max_examples=40)
@given(STEPS, STEPS)
def test_a_window_holds_what_came_in_it(before: list[Any], after: list[Any]) -> None:
    counters = Counters(())
    early = count(counters, before)
    late = count(counters, after)
    assert known(late.minus(early)) == known(count(Counters(()), after))


@settings(max_examples=40)
@given(STEPS)
def test_what_was_counted_survives_json(steps: list[Any]) -> None:
    stats = count(Counters(()), steps)
    assert ArmStats.from_json(stats.to_json()) == stats


@given(st.lists(TRUTHS, max_size=20))
def test_the_truth_of_a_slice_is_that_of_its_rows(truths: list[RowTruth]) -> None:
    stats = count(Counters(()), [truths])
    for name in ("a=1", "a=2", "b<3"):
        mine = [each for each in truths if name in each.slices]
        found = stats.slices.get(name)
        if found is None:
            assert not mine
            continue
        assert (found.feedback, found.correct) == (len(mine), sum(each.correct for each in mine))
        assert found.absolute_error == sum(abs(each.error) for each in mine)
        assert found.squared_error == sum(each.error**2 for each in mine)


@given(
    st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1), st.lists(st.floats(-5, 5), unique=True, max_size=5)
)
def test_a_number_is_counted_in_its_bin(values: list[float | None], inner: list[float]) -> None:
    edges = sorted(inner)
    ruler = Ruler.counting("x", "numeric", edges)
    found = [ruler.labels[code] for code in ruler.codes(pa.array(values, pa.float64()))]
    expected = ["<missing>" if each is None else str(sum(edge <= each for edge in edges)) for each in values]
    assert found == expected


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "new", "1"])), min_size=1))
def test_a_level_is_counted_by_its_name_and_a_new_one_as_other(values: list[str | None]) -> None:
    ruler = Ruler.counting("x", "categorical", (), ["1", "a", "b"])
    found = [ruler.labels[code] for code in ruler.codes(pa.array(values, pa.string()))]
    assert found == ["<missing>" if each is None else "<other>" if each == "new" else each for each in values]


def test_slices_are_the_most_frequent_levels_and_the_quartiles_of_training() -> None:
    levels = {f"l{n:03d}": (n + 1) / 5050 for n in range(100)}
    reference = {
        "columns": {
            "town": {"kind": "categorical", "levels": levels},
            "size": {"kind": "numeric", "edges": [10.0, 20, 30, 40, 50, 60, 70, 80, 90], "shares": [0.1] * 10},
            "fixed": {"kind": "numeric", "edges": [], "shares": [1.0]},
            "note": {"kind": "text"},
        }
    }
    yardstick = Yardstick.of(reference, ("town", "size", "fixed", "note"))
    town, size, fixed = yardstick.slicers(["town", "size", "fixed"])
    assert len(town.levels) == MOST_SLICES
    assert "l099" in town.levels
    assert "l000" not in town.levels
    assert size.labels == (
        "size<25",
        "size in [25, 50)",
        "size in [50, 75)",
        "size>=75",
        "size=<other>",
        "size=<missing>",
    )
    assert fixed.labels[0] == "fixed=<any>"
    assert Yardstick.from_json(yardstick.to_json()) == yardstick
    with pytest.raises(ConfigError, match=r"service.slices: 'sise' is no input column .* 'size'"):
        yardstick.slicers(["sise"])
    with pytest.raises(ConfigError, match="'note' is no input column with levels or numbers"):
        yardstick.slicers(["note"])


def test_the_yardstick_of_real_statistics_counts_their_own_rows_as_they_say() -> None:
    yardstick, table = yardstick_of("mixed"), mixed_table()
    for name, ruler in yardstick.columns.items():
        column = table.column(name)
        if ruler.kind == "categorical":
            column = column.cast(pa.string())
        elif ruler.kind == "numeric":
            column = column.cast(pa.float64())
        codes = ruler.codes(column.combine_chunks())
        present = codes[codes < len(yardstick.shares[name])]
        found = np.bincount(present, minlength=len(yardstick.shares[name])) / len(present)
        shares = np.array(yardstick.shares[name])
        assert found == pytest.approx(shares / shares.sum(), abs=1e-9), name


@settings(max_examples=60)
@given(st.data())
def test_values_are_kept_as_the_version_read_them_however_json_spelled_them(data: st.DataObject) -> None:
    spelled = {
        "grade": [(1, "1"), (1.0, "1"), ("1", "1"), (True, "true"), (None, None), ("", None), ("x", "x")],
        "open": [(True, True), (1, True), (0, False), ("true", True), (None, None)],
        "size": [(1, 1.0), (2.5, 2.5), (None, None), (True, 1.0)],
        "at": [
            ("2024-01-01", dt.datetime(2024, 1, 1)),
            ("2024-01-01T02:00:00+02:00", dt.datetime(2024, 1, 1)),
            (None, None),
        ],
    }
    kinds = {"grade": "categorical", "open": "boolean", "size": "numeric", "at": "datetime"}
    rows = data.draw(st.lists(st.tuples(*(st.sampled_from(spelled[name]) for name in kinds)), min_size=1, max_size=8))
    asked = [dict(zip(kinds, (value for value, _ in row), strict=True)) for row in rows]
    cut = data.draw(st.integers(0, len(asked)))
    columns = [ColumnSchema(name, kind) for name, kind in kinds.items()]  # type: ignore[arg-type]
    table = row_table([part for part in (asked[:cut], asked[cut:]) if part], columns)
    assert [tuple(row.values()) for row in table.to_pylist()] == [tuple(value for _, value in row) for row in rows]


def test_vectors_and_images_are_kept_as_their_numbers() -> None:
    rows = [{"e": [1, 2.5], "i": [[1, 2], [3, 4]], "t": "a"}, {"e": None, "i": [5, 6, 7, 8], "t": ""}]
    columns = [ColumnSchema("e", "vector"), ColumnSchema("i", "image"), ColumnSchema("t", "text")]
    assert row_table([rows], columns).to_pylist() == [
        {"e": [1.0, 2.5], "i": [1.0, 2.0, 3.0, 4.0], "t": "a"},
        {"e": None, "i": [5.0, 6.0, 7.0, 8.0], "t": ""},
    ]


def predictions(probabilities: list[list[float]], labels: tuple[str, ...]) -> Predictions:
    array = np.array(probabilities, dtype=np.float32)
    return Predictions(array.argmax(axis=1), array, labels)


def test_versions_that_know_different_classes_are_compared_by_name() -> None:
    one = predictions([[0.75, 0.25], [0.25, 0.75]], ("a", "b"))
    other = predictions([[0.5, 0.0, 0.5], [0.5, 0.0, 0.5]], ("c", "b", "a"))
    found = compared(one, other, 1.0)
    assert found is not None
    assert found.agreed.tolist() == [False, False]
    assert found.distance.tolist() == pytest.approx([0.5, 0.75])
    swapped = predictions([[0.25, 0.75], [0.75, 0.25]], ("b", "a"))
    same = compared(one, swapped, 1.0)
    assert same is not None
    assert same.agreed.all()
    assert same.distance.tolist() == [0.0, 0.0]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_distance_of_probabilities_is_between_0_and_1_and_symmetric(pairs: list[tuple[float, float]]) -> None:
    one, other = ([[each[k], 1 - each[k]] for each in pairs] for k in (0, 1))
    first = compared(predictions(one, ("a", "b")), predictions(other, ("a", "b")), 1.0)
    second = compared(predictions(other, ("a", "b")), predictions(one, ("a", "b")), 1.0)
    assert first is not None
    assert second is not None
    assert first.distance.tolist() == pytest.approx(second.distance.tolist())
    assert first.distance.tolist() == pytest.approx([abs(a - b) for a, b in pairs], abs=1e-6)


def test_a_regression_is_not_compared_with_classes() -> None:
    number = Predictions(np.array([1.0]), None, None)
    assert compared(number, predictions([[1.0, 0.0]], ("a", "b")), 1.0) is None
    apart = compared(number, Predictions(np.array([1.3]), None, None), 20.0)
    assert apart is not None
    assert not apart.agreed.any()


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_busier_the_event_loop_the_less_is_taken_beside_it(one: float, other: float, part: float) -> None:
    low, high = sorted((one, other))
    assert share_of(low, low * part) >= share_of(high, low * part) > 0
    assert share_of(1.0, part) < 0.01, "a saturated loop loses less than a hundredth of its time"
    assert share_of(0.3, part * 0.3) == 0.5, "one that idles loses nothing"


def test_a_thread_that_works_is_seen_as_busy_and_one_that_sleeps_as_idle() -> None:
    load, stop, ready = EventLoopLoad(), threading.Event(), threading.Event()

    def idle() -> None:
        load.watch()
        ready.set()
        stop.wait(30)

    thread = threading.Thread(target=idle)
    thread.start()
    try:
        assert ready.wait(20)
        time.sleep(LOOK_SECONDS * 1.2)
        asleep = load.busy
    finally:
        stop.set()
        thread.join()
    mine = EventLoopLoad()
    mine.watch()
    until = time.monotonic() + LOOK_SECONDS * 1.5
    while time.monotonic() < until:
        sum(range(1000))
    assert mine.busy > asleep
    assert mine.share < load.share


def test_feature_counts_of_all_replicas_are_counted_once() -> None:
    counters = Counters(())
    for _ in range(3):
        counters.measured({"x": {"0": 2}}, {"a=1": 2})
    assert counters.snapshot().feature_counts == {"x": Counter({"0": 6})}
