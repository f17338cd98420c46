"""Validation on Ray Data: large sources by blocks, and rows set aside while the features step goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from rayline.check import check
from rayline.config import Config, DataConfig, FeaturesConfig, PoliciesConfig, ValidateConfig
from rayline.errors import ValidationFailed
from rayline.features import sources
from rayline.features.pipeline import Prepared, prepare
from rayline.features.schemas.inference import infer
from rayline.features.schemas.proposal import with_limits
from rayline.features.schemas.schema_text import schema_text
from rayline.project import Project

pytestmark = pytest.mark.usefixtures("ray_cluster")

CHANCE = np.random.default_rng(8)


def table_of(rows: int = 600) -> pa.Table:
    size = CHANCE.normal(size=rows).round(6)
    return pa.table(
        {"kind": CHANCE.choice(["a", "b"], rows), "size": size, "y": (size + CHANCE.normal(size=rows)).round(6)}
    )


def project(folder: Path, good: pa.Table, lines: dict[int, str], **checks: object) -> Config:
    """Write a schema of good rows, and a source in which some lines are others."""
    (folder / "schema.yaml").write_text(schema_text(with_limits(infer(good, "y").schema, good)))
    pyarrow.csv.write_csv(good, folder / "a.csv")
    text = (folder / "a.csv").read_text().splitlines()
    for row, line in lines.items():
        text[row + 1] = line
    (folder / "a.csv").write_text("\n".join(text) + "\n")
    return Config(
        name="t",
        data=DataConfig(source=str(folder / "a.csv")),
        features=FeaturesConfig(target="y"),
        validate=ValidateConfig(schema=str(folder / "schema.yaml"), **checks),  # type: ignore[arg-type]
        storage=str(folder / "state"),
    )


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_rows_are_set_aside_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    good = table_of()
    bad = {41: '"a",many,0.5', 300: '"z",0.5,2', 599: '"a",0.5,'}
    policies = PoliciesConfig(type="quarantine", domain="quarantine", target="quarantine")
    config = project(tmp_path, good, bad, policies=policies)
    if large:
        monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
        monkeypatch.setattr(sources, "HEAD_BYTES", 500)
    whole = prepare(config, tmp_path / "whole")
    cut = prepare(config, tmp_path / "cut", rows_per_block=70)
    for done in (whole, cut):
        kept = pyarrow.parquet.read_table(done.path / "quarantine")
        assert [(each["_row"], each["_rule"], each["_column"]) for each in kept.to_pylist()] == [
            (41, "type", "size"),
            (300, "domain", "kind"),
            (599, "target", "y"),
        ]
        assert kept.column("size")[0].as_py() == "many"
        assert sum(done.facts.rows.values()) == 597
    assert (whole.facts.quarantined, whole.facts.anomalies) == (3, {"type": 1, "domain": 1, "target": 1})
    assert whole.facts == cut.facts == Prepared.load(tmp_path / "cut").facts
    assert whole.features == cut.features
    pyarrow.csv.write_csv(good.filter(~np.isin(np.arange(600), list(bad))), tmp_path / "b.csv")
    clean = Config(name="t", data=DataConfig(source=str(tmp_path / "b.csv")), features=config.features)
    assert prepare(clean, tmp_path / "clean").facts.digest == whole.facts.digest


def test_a_run_stops_past_the_share_that_may_be_set_aside(tmp_path: Path) -> None:
    bad = {row: f'"z",0.5,{row}' for row in range(0, 60, 2)}
    config = project(tmp_path, table_of(), bad, policies=PoliciesConfig(domain="quarantine"), quarantine_limit=0.04)
    with pytest.raises(ValidationFailed, match=r"30 of 600 rows \(5\.0%\) would be set aside.*4\.0%"):
        prepare(config, tmp_path / "out", rows_per_block=100)
    assert not (tmp_path / "out").exists()


def schema_span(table: pa.Table) -> str:
    sizes = table.column("size").to_numpy()
    return f"{sizes.min():.10g} to {sizes.max():.10g}"


def test_the_schema_file_counts_and_not_the_data(tmp_path: Path) -> None:
    good = table_of()
    config = project(tmp_path, good, {7: '"a",99,2', 8: '"c",0.5,2'})
    prepared = prepare(config, tmp_path / "out")
    assert prepared.features.schema.column("kind").levels == ("a", "b")
    assert prepared.facts.anomalies == {"range": 1, "domain": 1}
    assert [text.split(" in ")[0] for text in prepared.facts.warnings] == [
        "'kind' is a level that the schema does not list: a, b",
        f"'size' is outside {schema_span(good)}",
    ]
    bad = project(tmp_path, table_of(), {7: '"a",many,2'})
    with pytest.raises(ValidationFailed, match=r"'size' is not a finite number in 1 rows .* row 7: 'many'"):
        prepare(bad, tmp_path / "out", rows_per_block=50)


@pytest.mark.parametrize("wrong", [False, True], ids=["readable", "text in a number"])
def test_a_large_source_is_checked_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool) -> None:
    rows = 3_000
    good = table_of(rows)
    bad = {2_900: '"z",0.5,2', 2_950: '"a",999,2'} | ({2_990: '"a",many,2'} if wrong else {})
    config = project(tmp_path, good, bad)
    at_once = check(config, update=True)
    monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
    monkeypatch.setattr(sources, "HEAD_BYTES", 20_000)
    monkeypatch.setattr(Project, "connect", lambda self: None)
    by_blocks = check(config, update=True)
    assert by_blocks.rows == at_once.rows == rows
    assert [
        (each.column, each.rule, each.rows, [one.row for one in each.examples]) for each in by_blocks.anomalies
    ] == [(each.column, each.rule, each.rows, [one.row for one in each.examples]) for each in at_once.anomalies]
    assert by_blocks.proposal == at_once.proposal
    assert by_blocks.valid is not wrong
    json.dumps([str(each) for each in by_blocks.anomalies])
