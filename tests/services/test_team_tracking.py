"""The whole flow for a team: MLflow's server over PostgreSQL and a bucket, killed in the middle and back.

``rayline run`` with a Study and a service, then a second version with a rollout, as processes of their own. What
arrived is read where it lies: by SQL in PostgreSQL, and in the bucket.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from rayline import cluster, config
from rayline.config import Config
from rayline.storage import folder_of
from rayline.tuning import ledger
from team_services import Bucket, Process, free_port, query, until

NAME = "breast-cancer"
TRIALS, EPOCHS = 4, 4
LONG_S = 1200.0  # how long only decides how late a failure is told
PREFIX = "projects/breast-cancer"
ANALYSIS = {
    "interval": 0.5,
    "count": 1,
    "inconclusive_limit": 60,
    "metrics": [{"measure": "error_rate", "max": 0.5, "minimum_samples": 10}],
}
ROLLOUT = {"strategy": "canary", "steps": [{"set_weight": 50}, {"analysis": True}, {"set_weight": 100}]}
STUDY = {
    "trials": TRIALS,
    "cpus_per_trial": 0.5,
    "scheduler": "none",
    "space": {"train.learning_rate": {"low": 0.003, "high": 0.03, "log": True}},
}
SLOW = '''
import time
import torch

class Slow(torch.nn.Module):
    """A network whose step takes a while, so that there is a middle in which a server can be killed."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x):
        time.sleep(0.05)
        return self.layer(x)

def build(inputs, outputs, **options):
    return Slow(inputs, outputs)
'''


@dataclass
class Team:
    """One project of a team, and where its things lie."""

    folder: Path
    database: str
    bucket: Bucket
    mlflow: Process
    port: int = field(default_factory=free_port)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The variables of a driver: the way to the bucket, a scratch folder, and short waits for MLflow."""
        waits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        return {**self.bucket.env, **waits, "RAYLINE_SCRATCH": str(self.folder / "scratch")}

    @property
    def storage(self) -> Path:
        """The folder through which this machine uses the project's storage."""
        return folder_of(self.config.storage)

    @property
    def config(self) -> Config:
        """The configuration as it stands."""
        return config.load(self.folder / "rayline.yaml")

    def write(self, **sections: Any) -> None:
        """Write the configuration."""
        raw = {
            "name": NAME,
            "data": {"source": "sklearn:breast_cancer"},
            "features": {"target": "target"},
            "train": {"epochs": EPOCHS, "patience": 0, "use_gpu": False},
            "storage": f"s3://{self.bucket.name}/{PREFIX}",
            "registry": {"tracking_uri": f"http://127.0.0.1:{self.mlflow.port}"},
            "service": {"port": self.port},
            "rollout": {**ROLLOUT, "analysis": ANALYSIS},
            **sections,
        }
        (self.folder / "rayline.yaml").write_text(json.dumps(raw))

    @contextmanager
    def driver(self, verb: str = "run", **env: str) -> Iterator[subprocess.Popen[str]]:
        """Run a verb of the command line as a process of its own."""
        with subprocess.Popen(
            [sys.executable, "-m", "rayline.cli.app", verb, "rayline.yaml", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def ended(self, driver: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for a driver's end, and return what it printed."""
        printed, errors = driver.communicate(timeout=LONG_S)
        assert driver.returncode == 0, f"{printed}\n{errors}"
        told: dict[str, Any] = json.loads(printed[printed.index("{") :])
        return told


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, postgresql_uri: str, bucket: Bucket, team_mlflow: Process
) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "slow.py").write_text(SLOW)
    made = Team(folder, postgresql_uri, bucket, team_mlflow)
    made.write()
    os.environ.update(made.env)  # the fixture `environment` takes them back
    try:
        yield made
    finally:
        cluster.stop(made.storage)


@contextmanager
def asking(team: Team) -> Iterator[list[int]]:
    """Ask the service without a pause; gives the statuses of all answers, 0 where there was none."""
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).data
    body, statuses, stop = {"rows": frame.head(1).to_dict("records")}, list[int](), threading.Event()

    def run() -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                try:
                    statuses.append(client.post(f"http://127.0.0.1:{team.port}/{NAME}/predict", json=body).status_code)
                except httpx.HTTPError:
                    statuses.append(0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def runs_of(team: Team) -> list[tuple[str, str, str | None]]:
    """Return id, status and parent of each run of the project, as PostgreSQL has them."""
    return query(
        team.database,
        "SELECT r.run_uuid, r.status, t.value FROM runs r JOIN experiments e USING (experiment_id)"
        " LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'mlflow.parentRunId'"
        " WHERE e.name = %s AND r.lifecycle_stage = 'active'",
        NAME,
    )


def points_of(team: Team, metric: str) -> dict[str, tuple[int, int]]:
    """Return run to points and steps of a metric, as PostgreSQL has them."""
    counted = "SELECT run_uuid, count(*), count(DISTINCT step) FROM metrics WHERE key = %s GROUP BY run_uuid"
    return {run: (points, steps) for run, points, steps in query(team.database, counted, metric)}


def alias_of(team: Team, alias: str) -> int:
    """Return the version that an alias points at, as PostgreSQL has it."""
    asked = "SELECT version FROM registered_model_aliases WHERE name = %s AND alias = %s"
    return int(query(team.database, asked, NAME, alias)[0][0])


def trials_ended(team: Team) -> int:
    """Return how many trials the project's storage holds."""
    return sum(len(ledger.read(file)) for file in team.storage.glob("studies/*/trials.jsonl"))


def test_mlflow_is_killed_in_the_middle_and_the_same_command_goes_on_once_it_is_back(team: Team) -> None:
    team.write(model={"builder": "slow:build"}, tune=STUDY)
    with team.driver() as driver:
        until(lambda: len(runs_of(team)) > 1 or driver.poll() is not None, "the first trial in PostgreSQL", LONG_S)
        team.mlflow.kill()
        _, errors = driver.communicate(timeout=LONG_S)
    assert driver.returncode == 3, errors  # the environment failed
    assert "MLflow" in errors
    assert trials_ended(team) == TRIALS  # the Study went on to its end all the same

    team.mlflow.start()
    with team.driver() as driver:
        told = team.ended(driver)

    assert told["steps"]["tune"]["trials"] == TRIALS
    assert told["steps"]["register"]["version"] == 1
    study = told["steps"]["tune"]["study_run_id"]
    trials = {run: status for run, status, parent in runs_of(team) if parent == study}
    assert list(trials.values()) == ["FINISHED"] * TRIALS
    points = points_of(team, "valid_loss")
    assert [points[run] for run in trials] == [(EPOCHS, EPOCHS)] * TRIALS
    assert [run for run, _, parent in runs_of(team) if parent is None].count(study) == 1
    assert alias_of(team, "champion") == 1


def test_artifacts_went_through_the_server_into_its_bucket(team: Team) -> None:
    asked = "SELECT r.artifact_uri FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = %s"
    places = query(team.database, asked, NAME)
    assert {uri.partition(":")[0] for (uri,) in places} == {"mlflow-artifacts"}
    kept = team.bucket.keys("mlflow/")
    for file in ("/study/study.html", "/evaluation/evaluation.json", "/MLmodel", ".pt2"):
        assert [key for key in kept if key.endswith(file)], f"{file} is not among {kept}"


def test_a_second_version_takes_over_by_a_rollout_and_no_request_fails(team: Team) -> None:
    team.write(train={"epochs": 12, "use_gpu": False})
    with asking(team) as statuses, team.driver() as driver:
        team.told = team.ended(driver)

    assert team.told["steps"]["register"]["version"] == 2
    assert team.told["released"]["phase"] == "Healthy", team.told["released"]
    assert set(statuses) == {200}
    # The controller tells MLflow in its own time.
    until(lambda: alias_of(team, "champion") == 2, "the champion in PostgreSQL")
    ended = (
        "SELECT r.status FROM runs r JOIN experiments e USING (experiment_id) JOIN tags t USING (run_uuid)"
        " WHERE e.name = %s AND t.key = 'rayline.kind' AND t.value = 'rollout'"
    )
    until(lambda: query(team.database, ended, NAME) == [("FINISHED",)], "the rollout's run in PostgreSQL")


def test_another_machine_with_nothing_on_it_finds_all_of_it_in_the_bucket(team: Team, tmp_path: Path) -> None:
    kept = {key.removeprefix(f"{PREFIX}/").partition("/")[0] for key in team.bucket.keys(PREFIX)}
    assert {"ledger", "features", "studies", "runs", "bundles", "services"} <= kept

    with team.driver("register", RAYLINE_SCRATCH=str(tmp_path / "scratch")) as driver:
        there = team.ended(driver)["steps"]

    here = team.told["steps"]
    cached = ("features", "train", "evaluate", "skew")
    # A step that ran again would have taken another time.
    assert [there[step]["seconds"] for step in cached] == [here[step]["seconds"] for step in cached]
    assert there["register"]["version"] == 2
    versions = "SELECT count(*) FROM model_versions WHERE name = %s"
    assert query(team.database, versions, NAME) == [(2,)]
