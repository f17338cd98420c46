"""Every query of the Grafana dashboard, asked of a real Prometheus that scrapes a cluster of ``cluster/local.sh``.

On it a training, a Study, and a service with a mirrored canary that goes bad: no panel stays empty, an alert fires. The
service is brought up as KubeRay brings it up, by the Serve configuration of ``cluster/kuberay/rayservice.yaml``.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster_files import documents
from prometheus_server import PROGRAMS, ROOT, Prometheus, prometheus
from rayline import cluster, config, flow, release
from rayline.config import Config
from rayline.demo.clients import Clients
from rayline.features.prepared import Prepared
from rayline.project import Project
from rayline.rollout import commands
from rayline.serving.service import Service
from service_world import FAULTY, wait_for

NAME = "wine"
PORTS = {
    "RAYLINE_GCS_PORT": 22520,
    "RAYLINE_DASHBOARD_PORT": 22521,
    "RAYLINE_METRICS_PORT": 22522,
    "RAYLINE_CLIENT_PORT": 22523,
    "RAYLINE_AGENT_PORT": 22524,
    "RAYLINE_SERVE_PORT": 22525,
    "RAYLINE_MLFLOW_PORT": 22526,
}
PROMETHEUS_PORT = 22527
DASHBOARD = json.loads((ROOT / "cluster/grafana/rayline.json").read_text())
SECONDS = 120.0

pytestmark = pytest.mark.skipif(
    not (PROGRAMS / "prometheus").exists(), reason="Prometheus is not here: tests/services/packages.sh unpacks it"
)


@dataclass
class Local:
    """A cluster of ``cluster/local.sh``."""

    state: Path
    temp: str

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", str(ROOT / "cluster/local.sh"), *arguments],
            env={**os.environ, **self.settings()},
            capture_output=True,
            text=True,
            timeout=480,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def settings(self) -> dict[str, str]:
        return {
            **{name: str(port) for name, port in PORTS.items()},
            "RAYLINE_CLUSTER_STATE": str(self.state),
            "RAYLINE_TEMP_DIR": self.temp,
            "RAYLINE_CPUS": "3",
            "RAYLINE_START_SECONDS": "150",
            "RAY_metrics_report_interval_ms": "2000",
            "PYTHONPATH": os.pathsep.join([str(FAULTY), str(ROOT / "src")]),
        }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("local")
    found = Local(folder / "state", f"/tmp/rl-dash-{os.getpid()}")
    try:
        exported = found("start", "--with-mlflow")
        for name, value in re.findall(r"(\w+)=(\S+)", exported):
            os.environ[name] = value
        yield found
    finally:
        cluster.disconnect()
        found("stop")


@pytest.fixture(scope="module")
def server(local: Local, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus on the shipped configuration and rules, in a hurry: every second, and alerts without a wait."""
    folder = tmp_path_factory.mktemp("prometheus")
    shipped = (ROOT / "cluster/prometheus/prometheus.yaml").read_text()
    hurried = re.sub(r"(_interval): 15s", r"\1: 1s", shipped)
    hurried = hurried.replace("/tmp/ray/", f"{local.temp}/")
    (folder / "prometheus.yaml").write_text(hurried)
    rules = (ROOT / "cluster/prometheus/rules.yaml").read_text()
    (folder / "rules.yaml").write_text(re.sub(r"for: \d+\w", "for: 1s", rules))
    with prometheus(folder, folder / "prometheus.yaml", PROMETHEUS_PORT) as found:
        yield found


def settings(folder: Path, **changes: Any) -> Config:
    return config.parse(
        {
            "name": NAME,
            "data": {"source": "sklearn:wine"},
            "features": {"target": "target"},
            "model": {"hidden": [8]},
            "train": {"epochs": 40, "batch_size": 16, "learning_rate": 0.01},
            "service": {
                "port": PORTS["RAYLINE_SERVE_PORT"],
                "num_cpus": 0.5,
                "capture": {"enabled": True, "file_seconds": 2},
            },
            "registry": {"tracking_uri": f"http://127.0.0.1:{PORTS['RAYLINE_MLFLOW_PORT']}"},
            "rollout": {
                "steps": [
                    {"set_mirror": 100},
                    {"pause": 8},
                    {"set_weight": 30},
                    {"analysis": True},
                    {"pause": True},
                    {"set_weight": 100},
                ],
                "analysis": {
                    "interval": 1,
                    "count": 2,
                    "inconclusive_limit": 200,
                    "metrics": [{"measure": "error_rate", "max": 0.1, "minimum_samples": 20}],
                },
            },
            "storage": str(folder),
            **changes,
        }
    )


def resolved(query: str) -> str:
    """A query as Grafana sends it, with everything chosen."""
    for variable, value in {"$__rate_interval": "20s", "$service": ".*", "$project": ".*"}.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def queries() -> list[tuple[str, str]]:
    panels = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
    return [(panel["title"], resolved(target["expr"])) for panel in panels for target in panel["targets"]]


def deployed(first: Config, folder: Path) -> list[str]:
    """Have Serve bring up the service from the RayService's own configuration; return its replicas."""
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    project = folder / "rayline.yaml"
    project.write_text(yaml.safe_dump(config.plain(first)))
    resource = next(each for each in documents("kuberay/rayservice.yaml") if each["kind"] == "RayService")
    declared = yaml.safe_load(resource["spec"]["serveConfigV2"])
    [application] = declared["applications"]
    application |= {"name": NAME, "route_prefix": f"/{NAME}", "args": {"config": str(project)}}
    declared["http_options"] = {"host": "127.0.0.1", "port": first.service.port}
    # What `serve deploy` and KubeRay's operator do.
    client = ServeSubmissionClient(f"http://127.0.0.1:{PORTS['RAYLINE_DASHBOARD_PORT']}")
    client.deploy_applications(declared)
    wait_for(lambda: answers(release.service_url(first)), "the declared service to answer", 2 * SECONDS)
    return sorted(Service.connect(NAME, first.storage).status()["replicas"])


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def break_version(service: Service, number: int) -> None:
    path = Path(service.plan().version(number).path)
    path.with_name(path.name + ".fault").write_text("raise")


def test_every_panel_has_data_and_an_alert_fires(
    local: Local, server: Prometheus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    began = time.time()
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    status = local("status")
    assert status.count("running, process") == 2, status
    page = f"http://127.0.0.1:{PORTS['RAYLINE_DASHBOARD_PORT']}/api/jobs/"
    assert httpx.get(page).status_code == 401
    assert httpx.get(page, headers={"Authorization": f"Bearer {token.read_text()}"}).status_code == 200

    folder = tmp_path_factory.mktemp("project")
    first = settings(folder)
    outcome = flow.run(first, until="register")
    replicas = deployed(first, folder)
    search = {"trials": 4, "cpus_per_trial": 0.5, "space": {"train.learning_rate": {"low": 0.001, "high": 0.03}}}
    better = settings(folder, tune=search, model={"hidden": [16]}, train={"epochs": 20, "batch_size": 16})
    flow.run(better, until="register")
    assert deployed(first, folder) == replicas, "the same configuration again changes nothing"
    prepared = Prepared.load(outcome.result("features")["path"])
    table = prepared.test_table()
    rows = table.select(list(prepared.features.input_columns)).to_pylist()
    with Clients(release.service_url(first), rows, table.column("target").to_pylist()):
        release.start(Project(better), 2)

        def waits() -> bool:
            state = commands.status(NAME, storage=better.storage)
            assert not state.final, state.message
            return state.paused_for == "promote" and state.weight == 30

        wait_for(waits, "the canary at 30 %", SECONDS)
        open_ones = dict.fromkeys(queries())

        def all_answered() -> bool:
            for each in open_ones:
                open_ones[each] = open_ones[each] or server.seen(each[1], began, time.time())
            return all(open_ones.values())

        try:
            wait_for(all_answered, "every panel to have data", SECONDS)
        finally:
            for (title, query), values in open_ones.items():
                print(f"{title} | {query} | {values[-1] if values else 'EMPTY'}")
        assert len(open_ones) > 25
        for name, asked in (("service", "ray_rayline_weight"), ("project", "ray_rayline_train_epoch")):
            assert server.get(f"label/{name}/values", **{"match[]": asked}) == [NAME]
        assert "RaylineServiceErrors" not in server.firing()

        break_version(Service.connect(NAME, better.storage), 2)
        wait_for(lambda: "RaylineServiceErrors" in server.firing(), "the alert of errors", SECONDS)
        assert server.series('ALERTS{alertname="RaylineServiceErrors", version="1"}') == []
        commands.abort(NAME, storage=better.storage, reason="it answers with errors")
        wait_for(lambda: "RaylineRolloutDegraded" in server.firing(), "the alert of the rollout", SECONDS)


def test_stop_leaves_no_process_of_its_own_behind(local: Local) -> None:
    cluster.disconnect()
    stopped = local("stop")
    assert "stopped head" in stopped
    assert "stopped mlflow" in stopped
    listed = subprocess.run(["ps", "-ww", "-e", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert local.temp not in listed
    assert str(local.state) not in listed
    assert "not running" in local("status", code=1)
