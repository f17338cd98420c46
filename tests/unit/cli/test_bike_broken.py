"""The hourly rentals broken in ten ways: what `validate` says of each, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rayline.cli.app import run

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "bike_hour.csv"
pytestmark = pytest.mark.skipif(not DATA.is_file(), reason="the shared data sets are not here")

Rows = list[list[str]]


def at(rows: Rows, column: str) -> int:
    return rows[0].index(column)


def written(folder: Path, rows: Rows) -> str:
    file = folder / "broken.csv"
    file.write_text("".join(",".join(row) + "\n" for row in rows))
    return str(file)


def renamed(rows: Rows) -> Rows:
    return [[name.replace("windspeed", "wind_speed") for name in rows[0]], *rows[1:]]


def text_in_a_number(rows: Rows) -> Rows:
    rows[101][at(rows, "temp")] = "warm"
    return rows


def new_category(rows: Rows) -> Rows:
    rows[8][at(rows, "weathersit")] = "9"
    return rows


def negative_count(rows: Rows) -> Rows:
    rows[1_001][at(rows, "cnt")] = "-5"
    return rows


def duplicated(rows: Rows) -> Rows:
    return [*rows, *rows[1:501]]


def gaps(rows: Rows) -> Rows:
    place = at(rows, "hum")
    for number, row in enumerate(rows[1:]):
        if number % 5 < 2:
            row[place] = ""
    return rows


def swapped(rows: Rows) -> Rows:
    first, second = at(rows, "mnth"), at(rows, "hr")
    for row in rows[1:]:
        row[first], row[second] = row[second], row[first]
    return rows


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bike")
    assert run(["init", str(DATA), "--target", "cnt", "--out", str(folder)]) == 0
    return folder / "rayline.yaml"


@pytest.fixture
def rows() -> Rows:
    return [line.split(",") for line in DATA.read_text().splitlines()]


def said(capsys: pytest.CaptureFixture[str], project: Path, data: str) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = run(["validate", str(project), data, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("broken", "code", "column", "rule", "message", "count", "example"),
    [
        (renamed, 1, "windspeed", "presence", "column is missing: is it 'wind_speed' now?", 17_379, None),
        (text_in_a_number, 1, "temp", "type", "is not a finite number", 1, (100, "'warm'")),
        (
            new_category,
            0,
            "weathersit",
            "domain",
            "is a level that the schema does not list: 1, 2, 3, 4",
            1,
            (7, "9"),
        ),
        (negative_count, 1, "cnt", "negative", "is negative, where the schema starts at 1", 1, (1_000, "-5")),
        (
            duplicated,
            1,
            "",
            "duplicates",
            "rows are copies of another, where at most 1.0% of them may",
            500,
            (17_379, "as in row 0"),
        ),
        (gaps, 1, "hum", "max_missing", "has no value, where at most 5.0% of the rows may", 6_952, (0, "")),
        (
            swapped,
            1,
            "mnth",
            "domain",
            "is a level that the schema does not list: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … (12 in all)",
            8_741,
            (0, "0"),
        ),
    ],
    ids=["renamed", "text", "category", "negative", "duplicates", "missing", "swapped"],
)
def test_what_is_broken_is_told_with_its_rows(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    project: Path,
    rows: Rows,
    broken: Callable[[Rows], Rows],
    code: int,
    column: str,
    rule: str,
    message: str,
    count: int,
    example: tuple[int, str] | None,
) -> None:
    got, values = said(capsys, project, written(tmp_path, broken(rows)))
    assert got == code
    assert values["valid"] is (code == 0)
    anomalies = values["anomalies"]
    assert isinstance(anomalies, list)
    assert len(anomalies) == 1
    found = anomalies[0]
    assert (found["column"], found["rule"], found["message"], found["rows"]) == (column, rule, message, count)
    assert found["policy"] == ("fail" if code else "warn")
    first = found["examples"][0] if found["examples"] else None
    if example is not None:
        assert (first["row"], first["value"]) == example


def test_exchanged_columns_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], project: Path, rows: Rows
) -> None:
    _, values = said(capsys, project, written(tmp_path, swapped(rows)))
    assert values["hints"] == [
        "the values of 'mnth' and 'hr' seem to be exchanged: each column fits the other's schema"
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [(0, "is empty. Give a file with a header and rows."), (1, "has a header and no rows. Give one with data.")],
    ids=["empty file", "only a header"],
)
def test_a_file_without_rows_is_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], project: Path, rows: Rows, lines: int, message: str
) -> None:
    file = written(tmp_path, rows[:lines])
    capsys.readouterr()
    assert run(["validate", str(project), file]) == 2
    told = capsys.readouterr().err
    assert file in told
    assert message in told


def test_a_byte_order_mark_and_quoted_newlines_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], project: Path, rows: Rows
) -> None:
    whole = [[*row, '"rain,\nthen ""sun"""'] for row in rows]
    whole[0][-1] = '"a note\nof two lines"'
    file = tmp_path / "marked.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "".join(",".join(row) + "\r\n" for row in whole).encode())
    code, values = said(capsys, project, str(file))
    assert (code, values["valid"], values["anomalies"], values["rows"]) == (0, True, [], 17_379)


def test_leaks_are_found_without_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rayline.yaml"
    file.write_text(f"name: bike\ndata: {{source: {DATA}}}\nfeatures: {{target: cnt}}\n")
    code = run(["validate", str(file), "--json"])
    leaks = {each["kind"]: each for each in json.loads(capsys.readouterr().out)["leakage"]}
    assert code == 0
    assert leaks["sum"]["reason"].startswith("casual + registered = cnt")
    assert leaks["sum"]["columns"] == ["casual", "registered"]
    assert leaks["identifier"]["columns"] == ["instant"]
    assert "by: time, column: dteday" in leaks["time"]["reason"]
    assert run(["validate", str(file), "--set", "validate.policies.leakage=fail"]) == 1
    assert "casual + registered = cnt" in capsys.readouterr().out
