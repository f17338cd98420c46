"""Nothing of a project lies on the machine that drives it: the flow on S3, its driver killed, another machine goes on.

Three disks: of the cluster's processes, of the first driver and of the second; what one of them has finished reaches
another through the bucket alone. At the end everything is stopped, and another reads what happened.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from rayline import cluster
from rayline.serving.http.ingress import ingress_environment
from team_services import Bucket, Process, free_port, mlflow_server, until

NAME = "cancer"
LONG_S = 500.0
SLOW = '''
import time
import torch

class Slow(torch.nn.Module):
    """A network whose step takes a while, so that there is a middle in which a driver can be killed."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x):
        time.sleep(0.02)
        return self.layer(x)

def build(inputs, outputs, **options):
    return Slow(inputs, outputs)
'''


@dataclass
class Story:
    """One project in a bucket, and the cluster that it runs on."""

    folder: Path
    bucket: Bucket
    env: dict[str, str]
    url: str

    def driver(self, machine: str, *arguments: str) -> subprocess.Popen[str]:
        """Start the command line as on a machine with a disk of its own."""
        project = self.folder / machine
        project.mkdir(exist_ok=True)
        for name in ("rayline.yaml", "slow.py"):
            (project / name).write_text((self.folder / name).read_text())
        return subprocess.Popen(
            [sys.executable, "-m", "rayline.cli.app", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=project,
            env={**self.env, "RAYLINE_SCRATCH": str(self.folder / f"disk-{machine}")},
        )

    def told(self, machine: str, *arguments: str) -> Any:
        """Run the command line to its end, and return what it printed as JSON."""
        with self.driver(machine, *arguments, "--json") as process:
            printed, errors = process.communicate(timeout=LONG_S)
        assert process.returncode == 0, f"{printed}\n{errors}"
        return json.loads(printed[min(place for place in map(printed.find, "{[") if place >= 0) :])

    def holder(self) -> int:
        """Return the process that holds the project, as the bucket has it; 0 where none does."""
        key = f"story/ledger/{NAME}/driver.lock"
        if key not in self.bucket.keys(key):
            return 0
        return int(json.load(self.bucket.client().get_object(Bucket=self.bucket.name, Key=key)["Body"])["process"])

    def trials(self) -> list[dict[str, Any]]:
        """Return the trials that have ended, as the bucket has them."""
        keys = [key for key in self.bucket.keys("story/studies/") if key.endswith("/trials.jsonl")]
        if not keys:
            return []
        text = self.bucket.client().get_object(Bucket=self.bucket.name, Key=keys[0])["Body"].read().decode()
        return [line for line in map(json.loads, text.splitlines()) if line["event"] == "ended"]


@pytest.fixture
def tracking(bucket: Bucket, tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "mlflow").mkdir()
    backend = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    server = mlflow_server(tmp_path / "mlflow", backend, f"s3://{bucket.name}/mlflow", bucket.env)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def story(bucket: Bucket, tmp_path: Path, tracking: Process, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    for name, value in {**bucket.env, "RAYLINE_SCRATCH": str(tmp_path / "disk-cluster")}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "slow.py").write_text(SLOW)
    port = free_port()
    config = {
        "name": NAME,
        "data": {"source": "sklearn:breast_cancer"},
        "features": {"target": "target"},
        "model": {"builder": "slow:build"},
        "train": {"epochs": 3, "patience": 0, "use_gpu": False},
        "tune": {
            "trials": 3,
            "cpus_per_trial": 0.5,
            "max_concurrent": 1,
            "scheduler": "none",
            "space": {"train.learning_rate": {"low": 0.003, "high": 0.03, "log": True}},
        },
        "registry": {"tracking_uri": f"http://127.0.0.1:{tracking.port}"},
        "rollout": {"strategy": "all_at_once"},
        "service": {"port": port, "capture": {"enabled": True, "file_seconds": 1}},
        "storage": f"s3://{bucket.name}/story",
    }
    (tmp_path / "rayline.yaml").write_text(json.dumps(config))
    home = tmp_path / "head"
    cluster.connect(home, environment=ingress_environment("127.0.0.1", port, str(home), "auto"))
    head = cluster.alive(home)
    assert head is not None
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": head.token_path}
    cluster.disconnect()
    env = {**os.environ, **head.environment, **token, "RAY_ADDRESS": head.address}
    try:
        yield Story(tmp_path, bucket, env, f"http://127.0.0.1:{port}/{NAME}")
    finally:
        cluster.stop(home)


def test_a_killed_driver_is_followed_by_one_on_another_machine_and_history_outlives_the_cluster(story: Story) -> None:
    with story.driver("one", "run", "rayline.yaml") as first:
        until(lambda: story.trials() or first.poll() is not None, "the first trial in the bucket", LONG_S)
        assert first.poll() is None, first.communicate()
        first.kill()
    before = {trial["number"]: trial["at"] for trial in story.trials()}

    with story.driver("two", "run", "rayline.yaml", "--json") as second:
        until(lambda: story.holder() == second.pid or second.poll() is not None, "the second driver", LONG_S)
        with story.driver("three", "run", "rayline.yaml") as late:
            printed, errors = late.communicate(timeout=LONG_S)
        assert late.returncode == 1, printed + errors
        assert f"project '{NAME}' is being run by process {second.pid} on" in " ".join((printed + errors).split())
        printed, errors = second.communicate(timeout=LONG_S)
    assert second.returncode == 0, f"{printed}\n{errors}"
    told = json.loads(printed[printed.index("{") :])
    assert told["steps"]["tune"]["trials"] == 3
    assert {
        number: at for number, at in ((each["number"], each["at"]) for each in story.trials()) if number in before
    } == (before), "a trial that had ended was not run again"

    with httpx.Client(timeout=60) as client:
        example = json.loads(next((story.folder / "disk-two").rglob("input_example.json")).read_text())
        answer = client.post(f"{story.url}/predict", json={"rows": example[:1]}).json()
        assert answer["version"] == 1
        client.post(f"{story.url}/feedback", json={"request_id": answer["request_id"], "label": 1})
    captured = f"story/services/{NAME}/capture/"
    until(lambda: story.bucket.keys(captured), "what was captured in the bucket")
    until(lambda: story.bucket.keys(f"story/services/{NAME}/feedback/"), "the truth in the bucket")

    again = story.told("two", "run", "rayline.yaml", "--set", "train.epochs=2")
    assert (again["released"]["version"], again["released"]["phase"]) == (2, "Healthy")

    cluster.stop(story.folder / "head")
    history = story.told("four", "rollout", "history", NAME, "--config", "rayline.yaml")
    assert [(each["phase"], each["canary"]) for each in history] == [("Healthy", 2)]
    lineage = story.told("four", "lineage", f"{NAME}@2", "--config", "rayline.yaml")
    assert lineage["version"] == 2
    assert not (story.folder / "disk-four" / f"rayline@s3/{story.bucket.name}/story/features").exists()
