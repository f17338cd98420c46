"""`rayline validate` checks what the features are made of: joined columns and windows too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from rayline.cli.app import run

CONFIG = """
name: shop
data: {source: orders.csv, split: {by: time, column: at}}
features:
  target: paid
  join:
    - {name: customers, source: customers.csv, keys: [customer], time: known, at: at}
  windows:
    before: {of: paid, by: [customer], time: at, lag: 1}
  columns: {price: numeric, score: numeric, before: numeric}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    chance = np.random.default_rng(2)
    rows = 200
    at = np.datetime64("2020-01-01") + np.arange(rows).astype("timedelta64[D]")
    customer = chance.integers(0, 5, rows)
    orders = {"customer": customer, "at": at, "price": chance.gamma(2, 5, rows), "paid": chance.gamma(2, 5, rows)}
    csv.write_csv(pa.table(orders), tmp_path / "orders.csv")
    known = np.repeat(np.datetime64("2019-12-01"), 5)
    csv.write_csv(
        pa.table({"customer": range(5), "known": known, "score": [0.5, 1.5, 2.0, 2.5, 3.0]}), tmp_path / "customers.csv"
    )
    (tmp_path / "shop.yaml").write_text(CONFIG)
    return tmp_path / "shop.yaml"


def test_joined_columns_and_windows_are_checked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["anomalies"] == []


def test_another_file_is_joined_where_it_lacks_the_columns(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = config.parent / "schema.yaml"
    schema.write_text(
        "format: 2\ntarget: paid\ntask: regression\ncolumns:\n  price: {kind: numeric}\n"
        "  score: {kind: numeric, min: 0, max: 1}\n  before: {kind: numeric, nullable: true, required: false}\n"
        "  paid: {kind: numeric, environments: [TRAINING]}\n"
    )
    config.write_text(CONFIG + "validate: {schema: schema.yaml, policies: {range: fail}}\n")
    assert run(["validate", str(config), str(config.parent / "orders.csv"), "--json"]) == 1
    (anomaly,) = json.loads(capsys.readouterr().out)["anomalies"]
    assert (anomaly["column"], anomaly["rule"]) == ("score", "range")
