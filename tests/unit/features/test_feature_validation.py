"""What breaks a schema is counted by column and rule."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import Config, DataConfig, FeaturesConfig
from rayline.errors import ValidationFailed
from rayline.features.schema import ColumnSchema, Schema
from rayline.features.validation import Anomaly, check_source, find, merge_findings, refuse, validate

SCHEMA = Schema(
    (
        ColumnSchema("n", "numeric", minimum=0.0, maximum=10.0),
        ColumnSchema("c", "categorical", nullable=True, levels=("1", "a")),
        ColumnSchema("b", "boolean", nullable=True),
        ColumnSchema("d", "datetime", nullable=True),
    ),
    "y",
    "binary",
    ("no", "yes"),
)
GOOD = {"n": [1.0, 2.0], "c": ["a", "1.0"], "b": [True, None], "d": ["2011-01-01", None], "y": ["yes", "no"]}


def found(**columns: object) -> dict[tuple[str, str], Anomaly]:
    anomalies = validate(pa.table({**GOOD, **columns}), SCHEMA)
    return {(each.column, each.severity): each for each in anomalies}


def test_good_data_has_no_anomalies() -> None:
    assert found() == {}
    assert found(n=[1, 10], c=[1, None], b=[0, 1], extra=["x", "y"]) == {}


@pytest.mark.parametrize(
    ("column", "values", "severity", "rule", "example"),
    [
        ("n", ["1", "many"], "error", "is not a finite number", "'many'"),
        ("n", [1.0, float("inf")], "error", "is not a finite number", "inf"),
        ("n", [1.0, 11.0], "warning", "is outside 0 to 10", "11.0"),
        ("n", [1.0, None], "warning", "has no value, where the schema has always seen one", ""),
        ("c", ["a", "z"], "warning", "is a level that the schema does not list", "'z'"),
        ("b", [2, 1], "error", "is not true, false, 0 or 1", "2"),
        ("d", ["soon", None], "error", "is not an ISO 8601 date or time", "'soon'"),
        ("y", ["yes", "maybe"], "error", "is not one of the classes no, yes", "'maybe'"),
        ("y", ["yes", None], "error", "has no value in the target", ""),
    ],
)
def test_what_breaks_the_schema_is_counted(
    column: str, values: list[object], severity: str, rule: str, example: str
) -> None:
    anomalies = found(**{column: values})
    assert set(anomalies) == {(column, severity)}
    anomaly = anomalies[column, severity]
    assert anomaly.rule.startswith(rule)
    assert (anomaly.rows, anomaly.share, anomaly.example) == (1, 0.5, example)


def test_a_missing_column_is_an_error() -> None:
    anomalies = validate(pa.table({name: values for name, values in GOOD.items() if name not in ("n", "y")}), SCHEMA)
    assert [(each.column, each.rule, each.severity) for each in anomalies] == [
        ("n", "column is missing", "error"),
        ("y", "column is missing", "error"),
    ]


@given(st.lists(st.none() | st.sampled_from(["1", "a", "z", "many", "-5"]), min_size=1, max_size=30), st.integers(1, 9))
def test_findings_add_up_over_blocks(values: list[str | None], size: int) -> None:
    rows = len(values)
    table = pa.table(
        {
            "n": pa.array(values, pa.string()),
            "c": pa.array(values, pa.string()),
            "b": pa.nulls(rows),
            "d": pa.nulls(rows),
            "y": ["yes"] * rows,
        }
    )
    parts = [find(table.slice(start, size), SCHEMA) for start in range(0, rows, size)]
    whole = find(table, SCHEMA)
    merged = merge_findings(parts)
    assert merged.rows == whole.rows
    assert {key: count for key, (count, _) in merged.counts.items()} == {
        key: count for key, (count, _) in whole.counts.items()
    }


def test_errors_refuse_and_warnings_do_not() -> None:
    refuse(validate(pa.table({**GOOD, "n": [11.0, None]}), SCHEMA), "t.csv")
    with pytest.raises(
        ValidationFailed, match=r"'t\.csv' breaks its schema:\n  'b': is not true.* in 1 rows \(50\.0%\).*instance 2"
    ):
        refuse(validate(pa.table({**GOOD, "b": [2, 1]}), SCHEMA), "t.csv")


def test_another_file_is_checked_against_the_projects_schema(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{index % 7}.5,{index % 2}\n" for index in range(50)))
    (tmp_path / "b.csv").write_text("x,y\n1.5,0\n9.5,2\n")
    config = Config(name="t", data=DataConfig(source=str(tmp_path / "a.csv")), features=FeaturesConfig(target="y"))
    assert check_source(config) == ()
    anomalies = check_source(config, str(tmp_path / "b.csv"))
    assert [(each.column, each.severity) for each in anomalies] == [("y", "error"), ("x", "warning")]
