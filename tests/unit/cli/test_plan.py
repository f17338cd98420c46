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
from rayline.cli.app import run
from rayline.config import Config
from rayline.ledger import Record
from rayline.preflight import Verdict
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
    return next(each for each in preview(wanted).steps if each.step == step)


def need(step: PlannedStep) -> Verdict:
    (verdict,) = step.needs
    return verdict


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


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_study_takes_what_this_machine_has(tmp_path: Path) -> None:
    found = need(tuned(tmp_path))
    assert (found.outcome, found.need.most) == ("fits", CPUS)
    assert need(tuned(tmp_path, max_concurrent=1)).need.most == 1


def test_a_trial_that_no_machine_here_can_run_is_told(tmp_path: Path) -> None:
    found = need(tuned(tmp_path, cpus_per_trial=CPUS + 1))
    assert found.outcome == "never"
    assert "needs 1 CPU more than this machine has" in found.words


@pytest.mark.parametrize(
    ("train", "outcome", "words"),
    [
        ({"num_workers": 1, "use_gpu": False}, "", "in this process"),
        ({}, "", "in this process, on its GPU where it has one"),
        ({"num_workers": [1, CPUS + 2], "use_gpu": False}, "fits", f"{CPUS} of at most {CPUS + 2} training workers"),
        ({"num_workers": CPUS + 1, "use_gpu": False}, "never", "needs 1 CPU more than this machine has"),
        ({"num_workers": 1, "use_gpu": True}, "never", "needs 1 GPU more than this machine has"),
    ],
)
def test_a_training_tells_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any], outcome: str, words: str
) -> None:
    monkeypatch.setattr("rayline.capacity.here.gpus_here", lambda: 0)
    step = planned(loaded(tmp_path, 1, train=train), "train")
    assert [each.outcome for each in step.needs] == ([outcome] if outcome else [])
    assert words in (step.needs[0].words if outcome else step.why)


def test_what_is_cached_needs_nothing(tmp_path: Path) -> None:
    with live(3, {3: 100}) as port:
        wanted = loaded(tmp_path, port, train={"num_workers": CPUS + 1})
        finished(Project(wanted))
        found = preview(wanted)
    assert not any(step.needs for step in found.steps)
    assert not found.refused


def test_the_page_and_its_json_tell_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rayline.yaml"
    loaded(tmp_path, 1, train={"num_workers": CPUS + 1, "use_gpu": False})
    assert run(["plan", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["refused"]
    (asked,) = next(each for each in told["steps"] if each["step"] == "train")["needs"]
    assert (asked["least"], asked["each"], asked["outcome"]) == (CPUS + 1, {"CPU": 1.0}, "never")
    assert told["cluster"]["nodes"][0]["total"]["CPU"] == CPUS
    assert run(["plan", str(file)]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "table on this machine" in page
    assert f"refused train: {asked['words']}. {asked['way_out']}" in page
    assert not (tmp_path / ".rayline" / "cluster.json").exists()


def test_the_file_that_lies_here_or_that_the_variable_names_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plan", "--json"]) == 2
    assert "configuration 'rayline.yaml' does not exist. `rayline init" in capsys.readouterr().err
    loaded(tmp_path, 1)
    assert run(["plan", "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("RAYLINE_CONFIG", str(tmp_path / "rayline.yaml"))
    assert run(["plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == here["steps"]


def test_a_run_that_can_never_fit_ends_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded(tmp_path, 1, train={"num_workers": CPUS + 1, "use_gpu": False})
    for verb in ("run", "train"):
        assert run([verb, str(tmp_path / "rayline.yaml")]) == 3
        assert "nothing was started. train: needs 1 CPU more than this machine has" in capsys.readouterr().err
    left = {each.name for each in tmp_path.rglob("*") if each.is_file()}
    assert not any(name.startswith(("features", "cluster", "mlflow")) for name in left), left
