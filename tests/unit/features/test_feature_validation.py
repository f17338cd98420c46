"""What breaks a schema is counted by column and rule, with the first rows, and judged by the policy of the rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import PoliciesConfig, ValidateConfig
from rayline.errors import ValidationFailed
from rayline.features.checks import twins
from rayline.features.checks.findings import Anomaly, Example, Findings, counts, merge_findings
from rayline.features.checks.quarantine import QuarantineWriter
from rayline.features.checks.rules import column_breaks
from rayline.features.checks.twins import Twins
from rayline.features.checks.validation import Judge, complete, find, refuse, validate
from rayline.features.hashing import row_hashes
from rayline.features.reading.arrow_values import Values
from rayline.features.reading.batch import Batch
from rayline.features.schemas.schema import ColumnSchema, Schema

SCHEMA = Schema(
    (
        ColumnSchema("n", "numeric", minimum=0.0, maximum=10.0),
        ColumnSchema("c", "categorical", nullable=True, levels=("1", "a")),
        ColumnSchema("b", "boolean", nullable=True),
        ColumnSchema("d", "datetime", nullable=True, minimum=0.0, maximum=2e15),
        ColumnSchema("i", "numeric", integer=True, minimum=0.0, maximum=100.0),
    ),
    "y",
    "binary",
    ("no", "yes"),
)
GOOD = {
    "n": [1.0, 2.0],
    "c": ["a", "1.0"],
    "b": [True, None],
    "d": ["2011-01-01", None],
    "i": [1, 2],
    "y": ["yes", "no"],
}
LENIENT = ValidateConfig(warn_limit=1.0)


def found(schema: Schema = SCHEMA, checks: ValidateConfig = LENIENT, **columns: object) -> dict[str, Anomaly]:
    judge = Judge(schema, checks)
    anomalies = judge.verdict(judge(pa.table({**GOOD, **columns})).findings)
    return {f"{each.column}.{each.rule}": each for each in anomalies}


def test_good_data_has_no_anomalies() -> None:
    assert found() == {}
    assert found(n=[1, 10], c=[1, None], b=[0, 1], i=[1.0, 2.0], extra=["x", "y"]) == {}


@pytest.mark.parametrize(
    ("column", "values", "rule", "policy", "message", "example"),
    [
        ("n", ["1", "many"], "type", "fail", "is not a finite number", Example(1, "'many'")),
        ("n", [1.0, float("inf")], "type", "fail", "is not a finite number", Example(1, "inf")),
        ("n", [1.0, 11.0], "range", "warn", "is outside 0 to 10", Example(1, "11.0")),
        ("n", [-1.5, 1.0], "range", "warn", "is outside 0 to 10", Example(0, "-1.5")),
        ("n", [1.0, None], "missing", "warn", "has no value, where the schema has always seen one", Example(1, "")),
        ("c", ["a", "z"], "domain", "warn", "is a level that the schema does not list: 1, a", Example(1, "'z'")),
        ("b", [2, 1], "type", "fail", "is not true, false, 0 or 1", Example(0, "2")),
        ("d", ["soon", None], "type", "fail", "is not an ISO 8601 date or time", Example(0, "'soon'")),
        ("d", ["1960-01-01", None], "range", "warn", "is outside 1970-01-01 to 2033-05-18", Example(0, "'1960-01-01'")),
        ("i", [3, -1], "negative", "fail", "is negative, where the schema starts at 0", Example(1, "-1")),
        ("i", [3.5, 1], "integer", "warn", "is not a whole number", Example(0, "3.5")),
        ("y", ["yes", "maybe"], "target", "fail", "is not one of the classes no, yes", Example(1, "'maybe'")),
        ("y", ["yes", None], "target", "fail", "has no value in the target", Example(1, "")),
    ],
)
def test_what_breaks_the_schema_is_counted(
    column: str, values: list[object], rule: str, policy: str, message: str, example: Example
) -> None:
    anomalies = found(**{column: values})
    assert list(anomalies) == [f"{column}.{rule}"]
    anomaly = anomalies[f"{column}.{rule}"]
    assert anomaly.message.startswith(message)
    assert (anomaly.policy, anomaly.rows, anomaly.share, anomaly.examples) == (policy, 1, 0.5, (example,))


def test_an_array_of_another_shape_is_told_by_the_shape() -> None:
    no, second = np.array([False, False]), np.array([False, True])
    column = ColumnSchema("v", "image", shape=(2, 3))
    array = pa.chunked_array([pa.array([[[1.0] * 3] * 2, [[1.0] * 3]])])
    (found_break,) = column_breaks(array, Values(np.zeros((2, 6)), no, second), column)
    assert (found_break.rule, found_break.message) == ("shape", "is not an array of 2 by 3 finite numbers")
    assert found_break.rows.tolist() == [False, True]


def test_a_missing_column_is_told_with_the_one_it_may_be_now() -> None:
    table = pa.table({"m": [1.0], **{name: values[:1] for name, values in GOOD.items() if name not in ("n", "y")}})
    told = {each.column: (each.rule, each.message, each.policy) for each in validate(table, SCHEMA)}
    assert told == {
        "n": ("presence", "column is missing", "fail"),
        "y": ("presence", "column is missing", "fail"),
    }
    table = table.append_column("y", pa.array(["yes"]))
    assert [each.message for each in validate(table, SCHEMA)] == ["column is missing: is it 'm' now?"]


def test_a_served_table_has_no_target() -> None:
    table = pa.table({name: values for name, values in GOOD.items() if name != "y"})
    assert find(table, SCHEMA, "SERVING").tallies == {}
    assert [place[:2] for place in find(table, SCHEMA, "TRAINING").tallies] == [("y", "presence")]
    training = replace(SCHEMA, columns=(*SCHEMA.columns, ColumnSchema("w", "numeric", environments=("TRAINING",))))
    assert find(table, training, "SERVING").tallies == {}


def test_an_optional_column_may_be_missing_and_is_filled_with_nothing() -> None:
    optional = replace(SCHEMA, columns=(*SCHEMA.columns, ColumnSchema("o", "numeric", required=False)))
    table = pa.table(GOOD)
    assert find(table, optional).tallies == {}
    assert complete(table, optional).column("o").null_count == 2
    assert complete(table.drop_columns(["d"]), SCHEMA).schema == table.drop_columns(["d"]).schema


def test_rows_mean_and_hash_the_same_whatever_stood_in_others() -> None:
    texts = pa.table({**GOOD, "n": ["1", " 2.0"], "b": ["true", ""], "d": ["2011-01-01", "2011-01-01T10:00:00"]})
    typed = pa.table({**GOOD, "n": [1, 2], "d": [datetime(2011, 1, 1), datetime(2011, 1, 1, 10)]})
    assert row_hashes(complete(texts, SCHEMA)).tolist() == row_hashes(complete(typed, SCHEMA)).tolist()


def test_a_regressions_target_has_bounds() -> None:
    schema = Schema((), "y", "regression", answer=ColumnSchema("y", "numeric", True, minimum=1.0, maximum=9.0))
    anomalies = validate(pa.table({"y": [1, 9, -2, 12, 3]}), schema)
    assert [(each.rule, each.examples) for each in anomalies] == [
        ("negative", (Example(2, "-2"),)),
        ("range", (Example(3, "12"),)),
    ]


@pytest.mark.parametrize(("rows", "policy"), [(1, "warn"), (2, "warn"), (3, "fail")])
def test_a_warning_of_many_rows_stops_the_run(rows: int, policy: str) -> None:
    schema = Schema((ColumnSchema("c", "categorical", levels=("a",)),), "y", "binary", ("no", "yes"))
    table = pa.table({"c": ["z"] * rows + ["a"] * (8 - rows), "y": ["yes"] * 8})
    (anomaly,) = validate(table, schema)
    assert (anomaly.policy, anomaly.rows) == (policy, rows)


def test_gaps_are_limited_by_the_column_or_by_the_table() -> None:
    columns = (ColumnSchema("a", "numeric", nullable=True, max_missing=0.5), ColumnSchema("b", "numeric"))
    schema = Schema(columns, "y", "binary", ("no", "yes"), max_missing=0.1)
    half = pa.table({"a": [1, None, 3, None], "b": [1, 2, 3, 4], "y": ["no"] * 4})
    assert validate(half, schema) == ()
    more = pa.table({"a": [1, None, None, None], "b": [None, 2, 3, 4], "y": ["no"] * 4})
    told = {each.column: (each.rule, each.share, each.message) for each in validate(more, schema)}
    assert told == {
        "a": ("max_missing", 0.75, "has no value, where at most 50.0% of the rows may"),
        "b": ("max_missing", 0.25, "has no value, where at most 10.0% of the rows may"),
    }


def test_what_must_not_repeat_and_how_many_copies_there_may_be() -> None:
    schema = Schema(
        (ColumnSchema("k", "categorical", nullable=True, unique=True),),
        "y",
        "binary",
        ("no", "yes"),
        min_rows=10,
        max_duplicates=0.1,
    )
    table = pa.table({"k": ["a", "b", None, "a", None, "c"], "y": ["no", "no", "yes", "no", "yes", "no"]})
    told = {each.rule: each for each in validate(table, schema)}
    assert {rule: (each.column, each.rows, each.examples) for rule, each in told.items()} == {
        "unique": ("k", 1, (Example(3, "as in row 0"),)),
        "duplicates": ("", 2, (Example(3, "as in row 0"), Example(4, "as in row 2"))),
        "rows": ("", 0, ()),
    }
    assert "6 rows, where the schema asks for 10" in str(told["rows"])


VALUES = st.none() | st.sampled_from(["1", "a", "z", "many", "-5", "2.5"])


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30), st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_findings_are_the_same_in_any_cut(values: list[str | None], cuts: list[int], right: bool) -> None:
    rows = len(values)
    array = pa.array(values, pa.string())
    table = pa.table({"n": array, "c": array, "b": pa.nulls(rows), "d": pa.nulls(rows), "i": array, "y": array})
    schema = replace(
        SCHEMA,
        columns=(*SCHEMA.columns[:1], replace(SCHEMA.columns[1], unique=True, max_missing=0.2), *SCHEMA.columns[2:]),
        max_duplicates=0.0,
    )
    edges = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    parts = [find(table.slice(start, stop - start), schema) for start, stop in pairwise(edges)]
    whole = find(table, schema)
    if right and len(parts) > 1:
        merged = parts[-1]
        for each in reversed(parts[:-1]):
            merged = each.merged(merged)
    else:
        merged = merge_findings(parts)
    assert (merged.rows, merged.tallies) == (whole.rows, whole.tallies)
    assert Judge(schema).verdict(merged) == Judge(schema).verdict(whole)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(1, 50))
def test_copies_are_exact_while_they_fit_and_free_of_the_cut(values: list[int], size: int) -> None:
    hashes = np.random.default_rng(3).integers(0, 2**64, 41, dtype=np.uint64)[values]
    merged = Twins()
    for start in range(0, len(hashes), size):
        merged = merged.merged(Twins.of(hashes[start : start + size]), start)
    count, again = merged.copies(3)
    assert (count, again) == Twins.of(hashes).copies(3)
    assert count == len(values) - len(set(values))
    for each in again:
        assert values[each.row] == values[each.first]
        assert each.first == values.index(values[each.row]) < each.row


def test_beyond_its_room_the_number_of_copies_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "MOST", 4_096)
    hashes = np.random.default_rng(1).integers(0, 2**64, 40_000, dtype=np.uint64)
    hashes[30_000:] = hashes[:10_000]
    whole = Twins.of(hashes)
    cut = Twins()
    for start in range(0, len(hashes), 7_000):
        cut = cut.merged(Twins.of(hashes[start : start + 7_000]), start)
    assert not whole.exact
    assert whole.copies(3) == cut.copies(3)
    assert abs(whole.copies()[0] - 10_000) < 1_000


QUARANTINE = ValidateConfig(
    policies=PoliciesConfig(type="quarantine", target="quarantine", domain="quarantine"), quarantine_limit=0.6
)


def test_rows_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": ["1", "many", "3", "4"],
            "c": ["a", "z", "1", "a"],
            "b": [True] * 4,
            "d": [None] * 4,
            "i": [1] * 4,
            "y": ["no", "no", "maybe", "yes"],
        }
    )
    judge = Judge(SCHEMA, QUARANTINE)
    judged = judge(Batch(table, SCHEMA))
    assert not judged.broken
    assert judged.rows_of(table).column("n").to_pylist() == ["1", "4"]
    with QuarantineWriter(tmp_path / "aside") as writer:
        writer.write(None, 10)
        writer.write(judged.aside, 4)
        writer.write(judged.aside, 4)
    kept = pyarrow.parquet.read_table(tmp_path / "aside")
    assert writer.rows == kept.num_rows == 4
    assert kept.select(["_row", "_column", "_rule", "n", "y"]).to_pylist() == [
        {"_row": 11, "_column": "n; c", "_rule": "type; domain", "n": "many", "y": "no"},
        {"_row": 12, "_column": "y", "_rule": "target", "n": "3", "y": "maybe"},
        {"_row": 15, "_column": "n; c", "_rule": "type; domain", "n": "many", "y": "no"},
        {"_row": 16, "_column": "y", "_rule": "target", "n": "3", "y": "maybe"},
    ]
    assert kept.column("_reason")[0].as_py().startswith("'n' is not a finite number; 'c' is a level")
    anomalies = judge.refuse(judged.findings, "t.csv")
    assert {each.rule: each.policy for each in anomalies} == dict.fromkeys(("type", "target", "domain"), "quarantine")
    assert counts(anomalies) == {"type": 1, "target": 1, "domain": 1}


def test_too_many_rows_set_aside_stop_the_run() -> None:
    judge = Judge(SCHEMA, replace_limit(QUARANTINE, 0.4))
    findings = judge(pa.table({**GOOD, "n": ["many", "2"]})).findings
    with pytest.raises(
        ValidationFailed, match=r"1 of 2 rows \(50\.0%\) would be set aside.*40\.0%.*'n' is not a finite"
    ):
        judge.refuse(findings, "t.csv")


def replace_limit(checks: ValidateConfig, limit: float) -> ValidateConfig:
    return ValidateConfig(policies=checks.policies, quarantine_limit=limit)


def test_good_rows_stay_the_very_table() -> None:
    table = pa.table(GOOD)
    judged = Judge(SCHEMA, QUARANTINE)(table)
    assert judged.rows_of(table) is table
    assert (judged.aside, judged.findings.quarantined) == (None, 0)


def test_no_writer_no_folder(tmp_path: Path) -> None:
    with QuarantineWriter(tmp_path / "aside") as writer:
        writer.write(None, 4)
    assert not (tmp_path / "aside").exists()


def test_errors_refuse_and_warnings_do_not() -> None:
    judge = Judge(SCHEMA, LENIENT)
    refuse(judge.verdict(find(pa.table({**GOOD, "n": [11.0, None]}), SCHEMA)), "t.csv")
    with pytest.raises(
        ValidationFailed,
        match=r"'t\.csv' breaks its schema:\n  'b' is not true.* in 1 rows \(50\.0%\), for instance row 0: 2\n",
    ):
        judge.refuse(find(pa.table({**GOOD, "b": [2, 1]}), SCHEMA), "t.csv")


def test_no_rows_have_no_findings() -> None:
    table = pa.table(GOOD).slice(0, 0)
    findings = find(table, SCHEMA)
    assert findings == Findings()
    assert Judge(SCHEMA).verdict(findings) == ()
