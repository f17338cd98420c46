"""`validate` checks against what the model was trained with, and against the own data only before that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rayline import config
from rayline.cli.app import run
from rayline.features.feature_set import FeatureSet
from rayline.features.prepared import DataFacts, replacing, write_values
from rayline.features.schemas.inference import schema_for
from rayline.features.sources import read_table
from rayline.ledger import Record
from rayline.project import Project

ROWS = [(n * 7 % 13, "red" if n % 3 else "blue", "yes" if n % 2 else "no") for n in range(60)]
HEADER = "size,colour,label"


def table(folder: Path, rows: list[tuple[object, ...]], header: str = HEADER, name: str = "table.csv") -> str:
    file = folder / name
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(file)


def project(folder: Path, **features: object) -> str:
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label", **features}}
    file = folder / "rayline.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


def trained(file: str, key: str = "a", *, at: int = 1) -> None:
    """Leave what a finished features step leaves, for the data as it is now."""
    loaded = config.load(file)
    whole = read_table(loaded.data)
    schema = schema_for(loaded.features, whole)
    fitted = FeatureSet.from_config(loaded.features, schema).fit(whole)
    home = Project(loaded)
    path = home.storage / "features" / key
    facts = DataFacts(loaded.data.source, "0" * 32, {"train": 60, "valid": 0, "test": 0}, schema.fingerprint)
    with replacing(path) as folder:
        write_values(folder, fitted, {}, facts)
    home.ledger.write(Record("features", key, 1.0, {"path": str(path)}, at))


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str], str]:
    """Return the exit code, the rule of each broken column and whose schema it was."""
    code = run(["validate", *arguments, "--json"])
    said = json.loads(capsys.readouterr().out)
    return code, {each["column"]: each["rule"] for each in said["anomalies"]}, said["schema"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["own data", "another file"])
@pytest.mark.parametrize(
    ("header", "row", "code", "column", "rule"),
    [
        ("width,colour,label", (3, "red", "yes"), 1, "size", "presence"),
        (HEADER, ("big", "red", "yes"), 1, "size", "type"),
        (HEADER, (3, "green", "yes"), 0, "colour", "domain"),
        (HEADER, (99, "red", "yes"), 0, "size", "range"),
        (HEADER, (3, "red", "maybe"), 1, "label", "target"),
    ],
    ids=["renamed column", "text in a number", "new category", "out of range", "new class"],
)
def test_data_is_checked_against_the_trained_schema(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    elsewhere: bool,
    header: str,
    row: tuple[object, ...],
    code: int,
    column: str,
    rule: str,
) -> None:
    table(tmp_path, ROWS)
    file = project(tmp_path)
    trained(file)
    if elsewhere:
        found = checked(capsys, file, table(tmp_path, [*ROWS[:9], row], header, "later.csv"))
    else:
        table(tmp_path, [*ROWS, row], header)
        found = checked(capsys, file)
    assert found == (code, {column: rule}, "features")


def test_the_newest_schema_that_the_configuration_still_describes_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project(tmp_path)
    table(tmp_path, ROWS)
    trained(file, "a", at=1)
    table(tmp_path, [*ROWS, (99, "green", "yes")])
    trained(file, "b", at=2)
    assert checked(capsys, file) == (0, {}, "features")
    assert checked(capsys, project(tmp_path, drop=["colour"])) == (0, {}, "data")


def test_before_training_the_own_data_gives_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path, ROWS)
    assert checked(capsys, project(tmp_path)) == (0, {}, "data")


@pytest.mark.parametrize(
    ("features", "row", "column"),
    [
        ({"columns": {"size": "numeric", "colour": "categorical"}}, ("big", "red", "yes"), "size"),
        ({}, (1e300, "red", "yes"), "size"),
        ({}, (3, "red", ""), "label"),
        ({"target": "size", "task": "regression"}, ("big", "red", "yes"), "size"),
    ],
    ids=["declared input", "inferred input", "no answer", "number to predict"],
)
def test_a_wrong_value_of_the_own_data_is_counted_and_not_an_error_of_usage(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    features: dict[str, object],
    row: tuple[object, ...],
    column: str,
) -> None:
    table(tmp_path, [*ROWS, row])
    code, found, _ = checked(capsys, project(tmp_path, **features))
    assert (code, column in found) == (1, True)


def test_an_answer_that_is_never_a_number_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path, ROWS)
    code, found, _ = checked(capsys, project(tmp_path, target="colour", task="regression"))
    assert (code, found) == (1, {"colour": "target"})
