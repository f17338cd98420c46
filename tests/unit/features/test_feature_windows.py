"""Lags and windows: equal to a loop, and not one bit of what is later, or of the same instant, reaches a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history_examples import keys, numbers, table_of, times, windowed_by_loop
from rayline.config import WindowConfig, parse
from rayline.config.history import microseconds
from rayline.errors import ConfigError, RowError
from rayline.features.joins.rolling import aggregated
from rayline.features.joins.windows import with_windows

TYPES = {"k": pa.string(), "n": pa.int64(), "t": pa.int64(), "v": pa.float64()}
AGGREGATES = ("mean", "sum", "min", "max", "count", "std", "last")

rows = st.lists(
    st.fixed_dictionaries({"k": keys, "n": st.none() | st.integers(0, 2), "t": times, "v": numbers}), max_size=25
)
by = st.sampled_from([("k",), ("n", "k")])
aggregate = st.sampled_from(AGGREGATES)
windows = st.one_of(
    st.builds(WindowConfig, of=st.just("v"), by=by, time=st.just("t"), lag=st.integers(1, 4)),
    st.builds(WindowConfig, of=st.just("v"), by=by, time=st.just("t"), rows=st.integers(1, 5), aggregate=aggregate),
    st.builds(
        WindowConfig,
        of=st.just("v"),
        by=by,
        time=st.just("t"),
        window=st.sampled_from(["1s", "4s"]),
        aggregate=aggregate,
    ),
    st.builds(WindowConfig, by=by, time=st.just("t"), window=st.just("3s"), aggregate=st.just("count")),
)


def values(rows: list[Any], window: WindowConfig) -> list[float | None]:
    return with_windows(table_of(rows, TYPES), {"w": window}).column("w").to_pylist()


@given(rows, windows)
@settings(deadline=None)
def test_it_is_what_a_loop_over_all_pairs_finds(rows: list[Any], window: WindowConfig) -> None:
    span = microseconds(window.window) if window.window else None
    found, expected = values(rows, window), windowed_by_loop(rows, window, span)
    assert [each is None for each in found] == [each is None for each in expected]
    scale = max([abs(row["v"]) for row in rows if row["v"] is not None], default=0.0)
    np.testing.assert_allclose(
        [each for each in found if each is not None],
        [each for each in expected if each is not None],
        rtol=1e-9,
        atol=1e-14 * scale,
    )


@given(rows, windows, st.integers(0, 12), rows)
@settings(deadline=None)
def test_what_is_not_earlier_changes_not_one_bit(
    rows: list[Any], window: WindowConfig, now: int, others: list[Any]
) -> None:
    past = [row for row in rows if row["t"] is not None and row["t"] < now]
    here = [row for row in rows if row["t"] == now]
    later = [row for row in others if row["t"] is None or row["t"] >= now]
    alone, among = values([*past, *here], window), values([*past, *here, *later], window)
    assert alone == among[: len(alone)]


def test_a_huge_value_that_has_left_the_window_has_left_no_trace() -> None:
    rows = [{"k": "a", "n": 0, "t": t, "v": 1e18 if t == 0 else 0.1} for t in range(9)]
    for name, expected in (("mean", 0.1), ("sum", 0.2), ("std", 0.0)):
        window = WindowConfig(of="v", by=("k",), time="t", rows=2, aggregate=name)  # type: ignore[arg-type]
        assert values(rows, window)[3:] == [expected] * 6


def test_a_long_window_is_summed_as_well_as_can_be() -> None:
    chance = np.random.default_rng(3).normal(size=5_000)
    ends = np.arange(5_001)
    found = aggregated("std", chance, np.maximum(ends - 1_000, 0), ends)
    assert np.isnan(found[:2]).all()
    assert found[5_000] == pytest.approx(np.std(chance[4_000:], ddof=1), rel=1e-12)


def test_booleans_are_counted_and_rows_without_a_key_see_nothing() -> None:
    table = pa.table({"k": ["a", "a", "a", None], "t": [1, 2, 3, 9], "v": [True, False, None, True]})
    window = WindowConfig(of="v", by=("k",), time="t", window="1h", aggregate="mean")
    assert with_windows(table, {"w": window}).column("w").to_pylist() == [None, 1.0, 0.5, None]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"lag": 1, "rows": 2}, "exactly one of 'lag', 'rows' and 'window'"),
        ({"rows": 2}, "need an 'aggregate'"),
        ({"lag": 1, "aggregate": "mean"}, "need an 'aggregate', and 'lag' has none"),
        ({"window": "3 fortnights", "aggregate": "mean"}, "regex"),
        ({"lag": 1, "of": None}, "only 'aggregate: count' does without"),
        ({"rows": 2, "aggregate": "mena"}, "Did you mean 'mean'?"),
    ],
)
def test_a_wrong_window_is_refused(window: dict[str, Any], message: str) -> None:
    declared = {"of": "v", "by": ["k"], "time": "t", **window}
    with pytest.raises(ConfigError) as caught:
        parse({"name": "p", "data": {"source": "x"}, "features": {"target": "y", "windows": {"w": declared}}})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("of", "name", "message"),
    [
        ("vv", "w", "features.windows.w needs 'vv', which the data does not have. Did you mean"),
        ("v", "v", "features.windows.v is called like a column that the data has"),
    ],
)
def test_a_window_that_does_not_fit_the_data_is_refused(of: str, name: str, message: str) -> None:
    table = table_of([{"k": "a", "n": 1, "t": 1, "v": 1.0}], TYPES)
    with pytest.raises(ConfigError, match=message):
        with_windows(table, {name: WindowConfig(of=of, by=("k",), time="t", lag=1)})


def test_a_value_that_is_no_number_is_named() -> None:
    with pytest.raises(RowError, match="row 0, column 'k': 'a' is not a finite number"):
        with_windows(
            table_of([{"k": "a", "n": 1, "t": 1, "v": 1.0}], TYPES),
            {"w": WindowConfig(of="k", by=("n",), time="t", lag=1)},
        )
