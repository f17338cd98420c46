"""Slices: which rows a name means, and which slices of a table are found to be worse."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import EvaluateConfig, SliceConfig
from rayline.errors import ConfigError
from rayline.evaluation import worst
from rayline.evaluation.slices import named_slices
from rayline.evaluation.worst import worst_slices

ROWS = 3_000


def asked(*slices: SliceConfig, **values: Any) -> EvaluateConfig:
    return EvaluateConfig(slices=slices, **{"min_slice_rows": 1, **values})


def rows_by_name(table: pa.Table, config: EvaluateConfig) -> dict[str, list[int]]:
    return {each.name: each.rows.tolist() for each in named_slices(table, config)}


def people(seed: int = 0, rows: int = ROWS) -> pa.Table:
    """A table of noise: four columns of different kinds and a target."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "town": np.array(["Bern", "Łódź", "Oslo"])[random.integers(0, 3, rows)],
            "size": random.normal(size=rows),
            "open": random.integers(0, 2, rows) == 1,
            "grade": random.integers(1, 6, rows),
            "target": random.normal(size=rows),
        }
    )


def test_each_value_of_a_text_is_a_slice_and_so_is_missing() -> None:
    table = pa.table({"town": ["b", "a", None, "b", ""]})

    found = rows_by_name(table, asked(SliceConfig(column="town")))

    assert found == {"town = ": [4], "town = a": [1], "town = b": [0, 3], "town is missing": [2]}


def test_booleans_dictionaries_and_few_numbers_go_by_value() -> None:
    table = pa.table(
        {
            "open": [True, False, None],
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "grade": [2, 1, 2],
        }
    )
    config = asked(*(SliceConfig(column=name) for name in table.column_names))

    assert rows_by_name(table, config) == {
        "open = false": [1],
        "open = true": [0],
        "open is missing": [2],
        "kind = x": [0, 2],
        "kind = y": [1],
        "grade = 1": [1],
        "grade = 2": [0, 2],
    }


def test_named_edges_are_the_lower_ends_of_their_bins() -> None:
    table = pa.table({"hour": [0, 6, 11, 12, 23, None]})

    found = rows_by_name(table, asked(SliceConfig(column="hour", bins=(6.0, 12.0))))

    assert found == {"hour < 6": [0], "hour in [6, 12)": [1, 2], "hour >= 12": [3, 4], "hour is missing": [5]}


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-3, 3).map(float)), min_size=1, max_size=80),
    st.integers(2, 7),
)
def test_bins_divide_all_rows_once_in_rising_order(values: list[float | None], bins: int) -> None:
    table = pa.table({"size": pa.array(values, pa.float64())})

    found = named_slices(table, asked(SliceConfig(column="size", bins=bins)))

    assert sorted(row for each in found for row in each.rows.tolist()) == list(range(len(values)))
    present = [[values[row] for row in each.rows.tolist()] for each in found if not each.name.endswith("missing")]
    assert all(max(one) < min(two) for one, two in itertools.pairwise(present))
    assert len(present) <= bins
    assert len({each.name for each in found}) == len(found)


def test_bins_of_distinct_numbers_have_equally_many_rows() -> None:
    table = pa.table({"size": np.random.default_rng(0).permutation(1_000).astype(float)})

    found = named_slices(table, asked(SliceConfig(column="size", bins=4)))

    assert all(abs(len(each) - 250) <= 1 for each in found)


def test_times_are_divided_by_how_many_bins() -> None:
    days = [dt.datetime(2024, 1, 1) + dt.timedelta(days=day) for day in range(10)]

    found = rows_by_name(pa.table({"at": days}), asked(SliceConfig(column="at", bins=2)))

    assert found == {"at before 2024-01-06": [0, 1, 2, 3, 4], "at from 2024-01-06": [5, 6, 7, 8, 9]}


def test_slices_of_few_rows_say_nothing() -> None:
    table = pa.table({"town": ["a"] * 10 + ["b"] * 9})

    assert list(rows_by_name(table, asked(SliceConfig(column="town"), min_slice_rows=10))) == ["town = a"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (SliceConfig(column="twon"), "column 'twon' is not in the test part. Did you mean 'town'"),
        (SliceConfig(column="town", bins=3), "column 'town' is of type string, and bins divide numbers"),
        (SliceConfig(column="size", bins=(2.0, 1.0)), "each must rise"),
        (SliceConfig(column="pair"), "has no values to slice by"),
        (SliceConfig(column="at", bins=(1.0,)), "a count of bins, not edges"),
    ],
)
def test_what_cannot_be_sliced_is_told(named: SliceConfig, message: str) -> None:
    table = pa.table({"town": ["a"], "size": [1.5], "pair": [[1, 2]], "at": [dt.datetime(2024, 1, 1)]})

    with pytest.raises(ConfigError, match=message):
        named_slices(table, asked(named))


@pytest.mark.parametrize("losses", ["normal", "exponential", "zero or one"])
def test_a_model_that_errs_alike_everywhere_has_hardly_ever_a_worst_slice(losses: str) -> None:
    named = 0
    for seed in range(100):
        random = np.random.default_rng(10_000 + seed)
        drawn = {
            "normal": random.normal(size=500),
            "exponential": random.exponential(size=500),
            "zero or one": random.integers(0, 2, 500).astype(float),
        }[losses]
        named += bool(worst_slices(people(seed, 500), drawn, EvaluateConfig(min_slice_rows=20), ["target"]))

    assert named <= 11  # once in 20 at most: 12 of 100 would have a chance below 0.5 %


def test_a_bad_value_is_found_and_drags_no_pairs_along() -> None:
    table = people()
    losses = np.random.default_rng(1).exponential(size=ROWS)
    town = np.array(table["town"].to_pylist())
    losses[town == "Oslo"] *= 2

    found = worst_slices(table, losses, EvaluateConfig(), ["target"])

    assert [each.slice.name for each in found] == ["town = Oslo"]
    assert found[0].slice.rows.tolist() == np.flatnonzero(town == "Oslo").tolist()
    assert found[0].loss == pytest.approx(losses[town == "Oslo"].mean())
    assert found[0].rest == pytest.approx(losses[town != "Oslo"].mean())
    assert found[0].chance < 1e-6


def test_a_pair_is_found_where_neither_of_its_columns_is_the_reason() -> None:
    table = people(2)
    town, grade = np.array(table["town"].to_pylist()), table["grade"].to_numpy()
    bad = (town == "Bern") & (grade == 3)
    losses = np.random.default_rng(3).exponential(size=ROWS) + 2 * bad

    found = worst_slices(table, losses, EvaluateConfig(), ["target"])

    assert found[0].slice.name == "town = Bern & grade = 3"
    assert found[0].slice.column == "town & grade"
    assert found[0].slice.rows.tolist() == np.flatnonzero(bad).tolist()
    assert len(found) == 1


def test_two_bad_places_are_told_worst_first_and_no_more_than_asked() -> None:
    table = people(4)
    losses = np.random.default_rng(5).exponential(size=ROWS)
    grade, open_ = table["grade"].to_numpy(), np.array(table["open"].to_pylist())
    losses[grade == 5] += 3
    losses[open_ & (grade != 5)] += 1

    both = worst_slices(table, losses, EvaluateConfig(), ["target"])
    one = worst_slices(table, losses, EvaluateConfig(worst_slices=1), ["target"])

    assert [each.slice.name for each in both][:1] == ["grade = 5"]
    assert any(each.slice.name.startswith("open = true") for each in both)
    assert [each.slice.name for each in one] == ["grade = 5"]
    assert worst_slices(table, losses, EvaluateConfig(worst_slices=0), ["target"]) == ()


def test_columns_that_are_left_out_or_name_rows_are_not_looked_at() -> None:
    random = np.random.default_rng(0)
    losses = np.where(np.arange(ROWS) % 5 == 0, 5.0, 0.0) + random.exponential(size=ROWS)
    table = pa.table(
        {"target": np.arange(ROWS) % 5, "id": [f"row {index}" for index in range(ROWS)], "list": [[1.0]] * ROWS}
    )

    assert worst_slices(table, losses, EvaluateConfig(), ["target"]) == ()
    assert [each.slice.name for each in worst_slices(table, losses, EvaluateConfig())] == ["target = 0"]


def test_of_many_rows_some_are_searched_and_all_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worst, "SEARCHED", 1_000)
    table = people()
    town = np.array(table["town"].to_pylist())
    losses = np.random.default_rng(1).exponential(size=ROWS) + (town == "Oslo")

    [found] = worst_slices(table, losses, EvaluateConfig(), ["target"])

    assert found.slice.rows.tolist() == np.flatnonzero(town == "Oslo").tolist()
    assert found.loss == pytest.approx(losses[town == "Oslo"].mean())


@settings(max_examples=25)
@given(st.integers(0, 1_000))
def test_the_test_of_one_slice_is_welchs(seed: int) -> None:
    from scipy import stats

    random = np.random.default_rng(seed)
    inside = random.integers(0, 4, 300) == 0
    losses = random.exponential(size=300) + 3 * inside * random.random(300)
    table = pa.table({"open": inside})

    found = worst_slices(table, losses, EvaluateConfig(min_slice_rows=20))

    wanted = stats.ttest_ind(losses[inside], losses[~inside], equal_var=False, alternative="greater").pvalue
    effect = (losses[inside].mean() - losses[~inside].mean()) / np.sqrt(
        (losses[inside].var(ddof=1) + losses[~inside].var(ddof=1)) / 2
    )
    assert [each.slice.name for each in found] == ["open = true"]
    assert found[0].effect == pytest.approx(effect)
    # Two tests of single columns, at half of the error: the smaller chance counts four times.
    assert found[0].chance == pytest.approx(min(1.0, 4 * wanted), rel=1e-6)
