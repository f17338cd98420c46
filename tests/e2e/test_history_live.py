"""Joined for training, materialised, looked up live: a request without the joined columns gets the same answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml

from rayline import flow
from rayline.cli.app import run as rayline
from rayline.config import load
from rayline.registry.bundle import Bundle
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import Service, deploy
from rayline.serving.traffic.plan import LiveVersion

PORT = 18175
CUSTOMERS, ROWS = 40, 900
DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of orders, and one of what was known of each customer when."""
    folder = tmp_path_factory.mktemp("project")
    chance = np.random.default_rng(11)
    customer, day = (
        chance.integers(0, CUSTOMERS, ROWS),
        np.datetime64("2024-01-01") + chance.integers(0, 200, ROWS) * DAY,
    )
    income = chance.normal(size=(CUSTOMERS, 20)).round(3)
    known = np.datetime64("2024-01-01") + np.arange(20) * 10 * DAY
    latest = income[customer, np.clip((day - known[0]) // (10 * DAY), 0, 19)]
    orders = pa.table(
        {
            "customer": customer,
            "day": day,
            "basket": chance.normal(size=ROWS).round(3),
            "spent": (latest + 0.1 * chance.normal(size=ROWS)).round(4),
        }
    )
    pyarrow.csv.write_csv(orders, folder / "orders.csv")
    facts = pa.table(
        {
            "customer": np.repeat(np.arange(CUSTOMERS), 20),
            "seen": np.tile(known, CUSTOMERS),
            "income": income.reshape(-1),
            "region": pa.array(np.repeat(np.array(["north", "south"])[np.arange(CUSTOMERS) % 2], 20)),
        }
    )
    pyarrow.parquet.write_table(facts, folder / "customers.parquet")
    declared = {
        "name": "orders",
        "data": {"source": "orders.csv"},
        "features": {
            "target": "spent",
            "columns": {"basket": "numeric", "income": "numeric", "region": "categorical", "earlier": "numeric"},
            "join": [
                {
                    "name": "customers",
                    "source": "customers.parquet",
                    "keys": ["customer"],
                    "time": "seen",
                    "at": "day",
                    "ttl": "60d",
                }
            ],
            "windows": {
                "earlier": {"of": "spent", "by": ["customer"], "time": "day", "window": "30d", "aggregate": "mean"}
            },
        },
        "train": {"epochs": 3},
        "service": {"port": PORT},
    }
    (folder / "rayline.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def live(project: Path) -> Iterator[tuple[Service, Bundle]]:
    import ray
    from ray import serve

    config = load(project / "rayline.yaml")
    before = dict(os.environ)
    os.environ.update(ingress_environment("127.0.0.1", PORT, config.storage, "haproxy"))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        bundle = Bundle.load(flow.run(config, until="evaluate").result("evaluate")["bundle"])
        service = deploy("orders", config.service, config.storage, LiveVersion(1, str(bundle.path), bundle.digest))
        yield service, bundle
        serve.shutdown()
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


def ask(service: Service, rows: list[dict[str, Any]]) -> httpx.Response:
    return httpx.post(f"{service.url}/predict", json={"rows": rows}, timeout=40)


def test_the_columns_that_a_request_leaves_out_are_looked_up(
    live: tuple[Service, Bundle], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, bundle = live
    assert set(bundle.features.input_columns) == {"basket", "income", "region", "earlier"}
    at = "2024-07-20"
    short = [{"customer": number, "day": at, "basket": 0.5} for number in (3, 17, 39, 1_000)]
    refused = ask(service, short)
    assert (refused.status_code, "`rayline features materialize`" in refused.text) == (503, True)

    assert rayline(["features", "materialize", str(project / "rayline.yaml"), "--json"]) == 0
    tables = {each["table"]: each for each in json.loads(capsys.readouterr().out)["tables"]}
    assert (tables["orders/customers"]["keys"], tables["orders/customers"]["rows"]) == (CUSTOMERS, CUSTOMERS * 20)
    assert rayline(["features", "materialize", str(project / "rayline.yaml")]) == 0
    assert capsys.readouterr().out.count("unchanged") == 2

    known = by_hand(project, at)
    whole = [{"basket": 0.5, **known.get(row["customer"], nothing())} for row in short]
    answered, expected = ask(service, short), ask(service, whole)
    assert (answered.status_code, expected.status_code) == (200, 200), answered.text
    found = [each["prediction"] for each in answered.json()["predictions"]]
    assert found == pytest.approx([each["prediction"] for each in expected.json()["predictions"]], rel=1e-6)
    assert len(set(found)) == 4


def nothing() -> dict[str, Any]:
    return {"income": None, "region": None, "earlier": None}


def by_hand(project: Path, at: str) -> dict[int, dict[str, Any]]:
    """What was known of each customer then, in a loop."""
    moment = np.datetime64(at)
    facts = pyarrow.parquet.read_table(project / "customers.parquet").to_pylist()
    orders = pyarrow.csv.read_csv(project / "orders.csv").to_pylist()
    result: dict[int, dict[str, Any]] = {}
    for number in range(CUSTOMERS):
        past = [each for each in facts if each["customer"] == number and np.datetime64(each["seen"]) <= moment]
        newest = max(past, key=lambda each: each["seen"])
        spent = [
            each["spent"]
            for each in orders
            if each["customer"] == number and moment - 30 * DAY <= np.datetime64(each["day"]) < moment
        ]
        earlier = float(np.mean(spent)) if spent else None
        result[number] = {"income": newest["income"], "region": newest["region"], "earlier": earlier}
    return result
