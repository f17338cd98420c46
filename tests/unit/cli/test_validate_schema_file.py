"""`init` writes a schema that `validate` checks against, and `--update` proposes to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayline import config
from rayline.cli.app import run
from rayline.features.schemas.schema_file import read_schema
from rayline.project import Project

GOOD = "id,size,colour,label\n" + "".join(
    f"{100 + n},{n * 7 % 13},{'red' if n % 3 else 'blue'},{'yes' if n % 2 else 'no'}\n" for n in range(60)
)
WORSE = "160,99,green,yes\n161,,red,no\n162,3,red,no\n"


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "table.csv").write_text(GOOD)
    assert run(["init", str(tmp_path / "table.csv"), "--target", "label", "--out", str(tmp_path)]) == 0
    assert "schema.yaml" in capsys.readouterr().out.replace("\n", "")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    code = run(["validate", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def rules(values: dict[str, object]) -> dict[str, tuple[str, str]]:
    anomalies = values["anomalies"]
    assert isinstance(anomalies, list)
    return {each["column"]: (each["rule"], each["policy"]) for each in anomalies}


def test_init_writes_a_schema_that_its_data_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = config.load(folder / "rayline.yaml")
    assert loaded.validate.schema == str(folder / "schema.yaml")
    schema = read_schema(folder / "schema.yaml")
    assert (schema.names, schema.target, schema.max_missing) == (("size", "colour"), "label", 0.05)
    code, values = told(capsys, str(folder / "rayline.yaml"))
    assert (code, values["schema"], values["anomalies"], values["rows"]) == (0, "file", [], 60)


def test_init_keeps_a_schema_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text(GOOD)
    (tmp_path / "schema.yaml").write_text("mine")
    arguments = ["init", str(tmp_path / "table.csv"), "--target", "label", "--out", str(tmp_path)]
    assert run(arguments) == 2
    assert "schema.yaml" in capsys.readouterr().err.replace("\n", "")
    assert (tmp_path / "schema.yaml").read_text() == "mine"
    assert not (tmp_path / "rayline.yaml").exists()
    assert run([*arguments, "--force"]) == 0


def test_a_change_is_proposed_as_a_diff_and_applied_only_when_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, schema = str(folder / "rayline.yaml"), folder / "schema.yaml"
    before = schema.read_text()
    (folder / "later.csv").write_text(GOOD + WORSE)
    later = str(folder / "later.csv")
    assert run(["validate", file, later, "--update"]) == 0
    said = capsys.readouterr().out
    assert "+  colour: {kind: categorical, domain: [blue, green, red]}" in said
    assert "-  colour: {kind: categorical, domain: [blue, red]}" in said
    assert "@@" in said
    assert schema.read_text() == before
    code, values = told(capsys, file, later)
    assert (code, values["counts"]) == (0, {"range": 1, "missing": 1, "domain": 1})
    code, values = told(capsys, file, later, "--update", "--yes")
    assert (code, values["applied"], values["anomalies"]) == (0, True, [])
    size, colour = read_schema(schema).columns
    assert (size.maximum, size.nullable, colour.levels) == (99.0, True, ("blue", "green", "red"))
    code, values = told(capsys, file, later, "--update")
    assert (code, values["diff"], values["anomalies"]) == (0, "", [])


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_the_answer_decides(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    monkeypatch.setattr("rayline.cli.show.confirmed", lambda question: answer)
    (folder / "later.csv").write_text(GOOD + WORSE)
    assert run(["validate", str(folder / "rayline.yaml"), str(folder / "later.csv"), "--update"]) == 0
    assert (read_schema(folder / "schema.yaml").columns[0].maximum == 99.0) is answer
    assert ("changed" in capsys.readouterr().out) is answer


def test_columns_that_the_features_drop_stay_in_the_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = folder / "schema.yaml"
    schema.write_text(schema.read_text().replace("columns:\n", "columns:\n  id: {kind: numeric, unique: true}\n"))
    (folder / "later.csv").write_text(GOOD + WORSE)
    code, values = told(capsys, str(folder / "rayline.yaml"), str(folder / "later.csv"), "--update", "--yes")
    assert (code, values["applied"]) == (0, True)
    assert "  id: {kind: numeric, unique: true}\n" in schema.read_text()


def test_what_cannot_be_read_is_no_change_of_the_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "later.csv").write_text(GOOD + "163,big,red,no\n")
    code, values = told(capsys, str(folder / "rayline.yaml"), str(folder / "later.csv"), "--update", "--yes")
    assert (code, values["diff"], rules(values)) == (1, "", {"size": ("type", "fail")})


def test_without_a_schema_file_there_is_nothing_to_update(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["validate", str(folder / "rayline.yaml"), "--update", "--set", "validate.schema=null"])
    assert code == 2
    assert "rayline init" in capsys.readouterr().err


def test_served_data_has_no_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "served.csv").write_text("size,colour\n3,red\n")
    arguments = (str(folder / "rayline.yaml"), str(folder / "served.csv"))
    code, values = told(capsys, *arguments)
    assert (code, rules(values)) == (1, {"label": ("presence", "fail")})
    code, values = told(capsys, *arguments, "--environment", "SERVING")
    assert (code, values["valid"], values["environment"]) == (0, True, "SERVING")


@pytest.mark.parametrize(
    ("setting", "code", "policy"),
    [
        ("validate.policies.domain=fail", 1, "fail"),
        ("validate.policies.domain=quarantine", 0, "quarantine"),
        ("validate.warn_limit=0", 1, "fail"),
    ],
)
def test_a_policy_decides(
    folder: Path, capsys: pytest.CaptureFixture[str], setting: str, code: int, policy: str
) -> None:
    (folder / "later.csv").write_text(GOOD + "160,3,green,yes\n")
    got, values = told(capsys, str(folder / "rayline.yaml"), str(folder / "later.csv"), "--set", setting)
    assert (got, rules(values), values["counts"]) == (code, {"colour": ("domain", policy)}, {"domain": 1})


def test_more_rows_set_aside_than_allowed_is_a_no(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "later.csv").write_text(GOOD + "160,3,green,yes\n" * 5)
    settings = ("--set", "validate.policies.domain=quarantine")
    code, values = told(capsys, str(folder / "rayline.yaml"), str(folder / "later.csv"), *settings)
    assert (code, values["valid"]) == (1, False)
    assert values["hints"] == [
        "5 of 65 rows (7.7%) would be set aside, more than validate.quarantine_limit allows (5.0%)"
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("validate.policies.domian=warn", "Did you mean 'domain'?"),
        ("validate.policies.domain=wrn", "Did you mean 'warn'?"),
        ("validate.policies.type=warn", "Known: fail, quarantine."),
        ("validate.policies.unique=quarantine", "Known: fail, warn."),
        ("validate.shcema=x.yaml", "Did you mean 'schema'?"),
        ("validate.schema=other.yaml", "does not exist"),
    ],
)
def test_a_mistyped_setting_names_the_nearest(
    folder: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    assert run(["validate", str(folder / "rayline.yaml"), "--set", setting]) == 2
    assert words in capsys.readouterr().err


def test_the_table_names_column_rule_policy_share_and_rows(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayline.cli.show.console._width", 200)
    (folder / "later.csv").write_text(GOOD + "160,big,red,yes\n161,huge,red,no\n")
    assert run(["validate", str(folder / "rayline.yaml"), str(folder / "later.csv")]) == 1
    said = capsys.readouterr().out
    for word in ("size", "type", "fail", "3.23%", "row 60: 'big'", "row 61: 'huge'", "is not a finite number"):
        assert word in said


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "wine"])
def test_bundled_sets_fit_the_schema_that_init_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["init", f"sklearn:{name}", "--target", "target", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    code, values = told(capsys, str(tmp_path / "rayline.yaml"), "--update")
    assert (code, values["anomalies"], values["leakage"], values["diff"]) == (0, [], [], "")


def test_an_edited_schema_makes_another_features_step(folder: Path) -> None:
    file, schema = folder / "rayline.yaml", folder / "schema.yaml"
    before = Project(config.load(file)).key("features")
    schema.write_text("# reviewed\n" + schema.read_text())
    assert Project(config.load(file)).key("features") == before
    schema.write_text(schema.read_text().replace("max: 12", "max: 20"))
    assert Project(config.load(file)).key("features") != before
