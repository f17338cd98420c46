"""`plan` compares what is live with what the run would release, and a trial with the room for it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayline import config
from rayline.config import Config
from rayline.ledger import Record
from rayline.preview import PlannedStep, preview
from rayline.project import Project

CPUS = os.cpu_count() or 1


@contextmanager
def live(stable: int, weights: dict[int, int]) -> Iterator[int]:
    """Answer as a service does that says these shares; give its port."""
    said = json.dumps({"stable": stable, "weights": {str(number): weight for number, weight in weights.items()}})

    class Said(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Said) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def loaded(folder: Path, port: int, **sections: Any) -> Config:
    (folder / "table.csv").write_text("size,label\n" + "1,a\n2,b\n" * 30)
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label"}}
    file = folder / "rayline.yaml"
    file.write_text(json.dumps({**values, "service": {"port": port}, **sections}))
    return config.load(file)


def planned(wanted: Config, step: str) -> PlannedStep:
    return next(each for each in preview(wanted) if each.step == step)


def finished(project: Project, *, blessed: bool = True) -> None:
    """Write every step as finished: version 3, judged beside no champion."""
    judged = project.key("bless", None)
    keys = {"bless": judged, "register": project.key("register", judged)}
    results = {"bless": {"blessed": blessed}, "register": {"version": 3}}
    for step in ("features", "train", "evaluate", "skew", "bless", "register"):
        project.ledger.write(Record(step, keys.get(step, project.key(step)), 1.0, results.get(step, {})))


@pytest.mark.parametrize(
    ("stable", "weights", "cached", "words"),
    [
        (3, {3: 100}, True, "version 3 has all traffic"),
        (2, {2: 100}, False, "a rollout to version 3 follows"),
        (2, {2: 90, 3: 10}, False, "version 3 10 %: the rollout is followed"),
        (3, {3: 100, 4: 0}, False, "a rollout to version 4 is under way"),
        (3, {3: 90, 4: 10}, False, "a rollout to version 4 is under way"),
    ],
)
def test_release_is_cached_only_where_the_registered_version_has_all_traffic(
    tmp_path: Path, stable: int, weights: dict[int, int], cached: bool, words: str
) -> None:
    with live(stable, weights) as port:
        wanted = loaded(tmp_path, port)
        project = Project(wanted)
        finished(project)
        step = planned(wanted, "release")
    assert step.cached is cached
    assert words in step.why


def test_a_version_that_is_not_blessed_is_not_released(tmp_path: Path) -> None:
    wanted = loaded(tmp_path, 1)
    finished(Project(wanted), blessed=False)
    step = planned(wanted, "release")
    assert not step.cached
    assert step.why.startswith("version 3 is not blessed: the run ends here")


def test_a_version_that_was_taken_back_is_foreseen_to_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SimpleNamespace(kind="rollout", phase="Degraded", canary=3, stable=2, message="its error rate was 0.4")
    monkeypatch.setattr("rayline.rollout.commands.last", lambda name, storage: ended)
    monkeypatch.setattr("rayline.rollout.commands.history", lambda name, storage: (ended,))
    with live(2, {2: 100}) as port:
        wanted = loaded(tmp_path, port)
        finished(Project(wanted))
        step = planned(wanted, "release")
    assert not step.cached
    assert step.why.startswith("version 3 was taken back and is refused: its error rate was 0.4; insist")


def test_release_of_what_is_not_registered_yet_is_to_do(tmp_path: Path) -> None:
    with live(1, {1: 100}) as port:
        step = planned(loaded(tmp_path, port), "release")
    assert (step.cached, step.why) == (False, "version 1 serves: a rollout follows (canary)")


def tuned(folder: Path, **tune: Any) -> PlannedStep:
    section = {"trials": 100_000, "space": {"train.batch_size": {"choose": [8, 16]}}, **tune}
    return planned(loaded(folder, 1, tune=section), "tune")


def test_a_study_takes_what_this_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    step = tuned(tmp_path)
    assert step.cpus == CPUS
    assert f"one trial needs 1 CPUs, this machine has {CPUS}" in step.why
    assert tuned(tmp_path, max_concurrent=1).cpus == 1


def test_a_trial_that_no_machine_here_can_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert f"needs {CPUS + 1} CPUs and this machine has {CPUS}: too few" in tuned(tmp_path, cpus_per_trial=CPUS + 1).why


def test_of_a_cluster_elsewhere_only_the_need_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    step = tuned(tmp_path, cpus_per_trial=500, max_concurrent=3)
    assert step.cpus == 1500
    assert step.why.endswith("one trial needs 500 CPUs of the cluster")


@pytest.mark.parametrize(
    ("train", "cpus", "words"),
    [
        ({}, 0, "in this process, on its GPU where it has one"),
        ({"use_gpu": False}, 0, "in this process"),
        ({"num_workers": 2, "use_gpu": False}, 2, f"2 workers, each with 1 CPU; this machine has {CPUS} CPUs"),
        ({"num_workers": 2, "use_gpu": True}, 2, "2 workers, each with 1 CPU and 1 GPU; this machine"),
        ({"num_workers": 2}, 2, "each with 1 CPU, GPUs where the cluster has one for each"),
        ({"num_workers": [1, 4]}, 4, "1 to 4 workers, as many as there is room for"),
        ({"num_workers": CPUS + 1}, CPUS + 1, "CPUs: too few"),
    ],
)
def test_a_training_tells_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any], cpus: int, words: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    step = planned(loaded(tmp_path, 1, train=train), "train")
    assert step.cpus == cpus
    assert words in step.why
