"""The Grafana dashboard through Grafana's own SDK, Prometheus's files through promtool, the workflow by its schema."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster_files import CLUSTER, document, text
from prometheus_server import PROGRAMS
from rayline import meters
from rayline.serving.records import metrics

SDK = "grafana_foundation_sdk"
DASHBOARD = json.loads(text("grafana/rayline.json"))
PANELS = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
COUNTERS = (
    "rayline_requests",
    "rayline_errors",
    "rayline_rows",
    "rayline_feedback_rows",
    "rayline_latency_seconds_bucket",
    *metrics.BY_VERSION,
    *metrics.BY_SERVICE,
)
KNOWN = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in (*meters.GAUGES, "rayline_weight")}
needs_promtool = pytest.mark.skipif(
    not (PROGRAMS / "promtool").exists(), reason="promtool is not here: tests/services/packages.sh unpacks it"
)


def lost(mine: Any, theirs: Any, at: str = "") -> list[str]:
    """What of mine is not in theirs; what they add does not count."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return [
            found
            for key, value in mine.items()
            for found in (lost(value, theirs[key], f"{at}/{key}") if key in theirs else [f"{at}/{key}"])
        ]
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return [
            found
            for place, pair in enumerate(zip(mine, theirs, strict=True))
            for found in lost(*pair, f"{at}[{place}]")
        ]
    return [] if mine == theirs else [f"{at}: {mine!r} became {theirs!r}"]


def read_and_written(dashboard: dict[str, Any]) -> dict[str, Any]:
    """A dashboard after Grafana's SDK has read it and written it again, without what it does not know."""
    pytest.importorskip(SDK)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    written: dict[str, Any] = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    return written


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    assert lost(DASHBOARD, read_and_written(DASHBOARD)) == []
    assert lost({**DASHBOARD, "titel": "x"}, read_and_written({**DASHBOARD, "titel": "x"})) == ["/titel"]


def test_panels_lie_beside_each_other_and_have_ids_of_their_own() -> None:
    assert len({each["id"] for each in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_shows_what_it_must() -> None:
    queries = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    for shown in (
        "requests_total",
        "errors_total",
        "histogram_quantile(0.99",
        "feature_drift",
        "prediction_drift",
        "train_rows_per_second",
        "study_trials",
        "rollout_step",
        "rollout_verdicts",
    ):
        assert shown in queries
    assert all(panel["description"] for panel in PANELS)


@pytest.mark.parametrize("path", ["grafana/rayline.json", "prometheus/rules.yaml"])
def test_only_metrics_that_are_told_are_asked_for(path: str) -> None:
    asked = set(re.findall(r"\bray_rayline_\w+", text(path)))
    assert asked
    assert asked <= KNOWN, asked - KNOWN


def test_grafana_finds_dashboard_and_prometheus() -> None:
    source = document("grafana/provisioning/datasources/rayline.yaml")["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://CHANGE-ME-prometheus:9090")
    provider = document("grafana/provisioning/dashboards/rayline.yaml")["providers"][0]
    assert provider["type"] == "file"
    assert provider["options"]["path"].endswith("/rayline.json")


@needs_promtool
def test_promtool_takes_configuration_and_rules() -> None:
    for what, path in (("config", "prometheus.yaml"), ("rules", "rules.yaml")):
        done = subprocess.run(
            [str(PROGRAMS / "promtool"), "check", what, str(CLUSTER / "prometheus" / path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_every_alert_fires_on_what_it_is_for_and_on_nothing_else() -> None:
    done = subprocess.run(
        [str(PROGRAMS / "promtool"), "test", "rules", str(Path(__file__).with_name("alerts.yaml"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = Path(__file__).with_name("alerts.yaml").read_text()
    rules = [rule["alert"] for group in document("prometheus/rules.yaml")["groups"] for rule in group["rules"]]
    assert [name for name in rules if f"alertname: {name}\n" not in tested] == []


def test_github_takes_the_workflow() -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    path = CLUSTER / "github/deploy.yaml"
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = document("github/deploy.yaml")["jobs"]["deploy"]["steps"]
    said = " ".join(step.get("run", "") for step in steps)
    assert "rayline submit" in said
    assert "rollout status" in said
    assert "--wait" in said
