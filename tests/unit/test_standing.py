"""Where a project stands is told from its storage alone: what runs, what it serves, and when it was last seen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from rayline import config
from rayline.cli import show
from rayline.cli.app import run
from rayline.ledger import Ledger, Record
from rayline.release import live_of, live_url
from rayline.rollout.plans.plan import Plan, SetWeight
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.names import plan_path, service_folder
from rayline.serving.traffic.last_seen import EVERY_S, LastSeen, Seen, last_seen
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.traffic.plan_file import PlanFile
from rayline.standing import service_standing

ONE, TWO = LiveVersion(1, "/bundles/1", "a" * 64), LiveVersion(2, "/bundles/2", "b" * 64)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A project that was deployed, was at 10 % in a rollout and runs no more."""
    file = tmp_path / "rayline.yaml"
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label"}}
    file.write_text(yaml.safe_dump({**values, "service": {"port": 22499}}))
    storage = tmp_path / ".rayline"
    plan = TrafficPlan.first("table", ONE).adding(TWO).weighing(1, {1: 90, 2: 10})
    PlanFile(plan_path(storage, "table")).write(plan, 7)
    LastSeen(service_folder(storage, "table"), wall=lambda: 1_700_000_000.0).tell(2, plan.generation)
    Ledger(storage / "ledger" / "table").write(Record("features", "k", 1.5, {}))
    state = RolloutState(
        id="r1",
        kind="rollout",
        service="table",
        plan=Plan("canary", (SetWeight(10), SetWeight(100))),
        stable_version=ONE,
        canary_version=TWO,
        phase="Paused",
        paused_for="promote",
        weight=10,
        message="waits for a promotion",
        began=1.0,
        updated=2.0,
        experiment="table",
    )
    RolloutFiles(storage, "table").write(state)
    return file


class _Live(BaseHTTPRequestHandler):
    """What a service says of itself."""

    def do_GET(self) -> None:
        body = json.dumps({"service": "table", "stable": 1, "weights": {"1": 90, "2": 10}, "ready": True}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Say nothing."""


@contextmanager
def service_at_another_port(file: Path) -> Iterator[str]:
    """A service that was started before its port was changed in the configuration."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Live) as server:
        url = f"http://127.0.0.1:{server.server_port}/table"
        record = service_folder(file.parent / ".rayline", "table") / "service.json"
        record.write_text(json.dumps({"url": url, "settings": {}, "remote_on": {}}))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()


def test_a_service_that_runs_is_asked_where_it_was_started(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = config.load(file)
    moved_to = "http://127.0.0.1:22499/table"
    with service_at_another_port(file) as url:
        assert live_url(project) == moved_to  # it has no cluster: what answers there is another project's
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
        assert live_url(project) == url
        assert (live_of(project) or {})["stable"] == 1
        found = service_standing(project)
        assert found is not None
        assert (found.running, found.url) == (True, url)
    assert live_url(project) == moved_to  # it runs no more, and comes back where it is to be


def test_the_traffic_and_the_last_sign_of_life_are_told(file: Path) -> None:
    found = service_standing(config.load(file))
    assert found is not None
    assert (found.running, found.stable, dict(found.weights)) == (False, 1, {1: 90, 2: 10})
    assert (found.last_seen, found.replicas, found.generation) == (1_700_000_000.0, 2, 3)


def test_a_service_that_was_never_deployed_has_no_standing(file: Path) -> None:
    loaded = config.load(file)
    plan_path(loaded.storage, "table").unlink()
    assert service_standing(loaded) is None


def test_status_tells_that_nothing_runs_and_what_was(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show.console.width = 200
    assert run(["status", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "no local one runs" in said
    assert "not running; last seen 2023-11-1" in said
    assert "v1 90 %, v2 10 %; stable v1, plan 3" in said
    assert "Paused v1 → v2: waits for a promotion" in said
    assert "features" in said


def test_status_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "table", "--config", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cluster"] is None
    assert said["service"]["weights"] == {"1": 90, "2": 10}
    assert said["rollout"]["phase"] == "Paused"
    assert [each["step"] for each in said["steps"]] == ["features"]
    assert (said["versions"], said["tracking"]) == ([], "")


@pytest.mark.parametrize("verb", ["status", "history"])
def test_a_rollout_is_told_with_the_word_that_nothing_runs(
    file: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show.console.width = 200
    assert run(["rollout", verb, "table", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "waits for a promotion" in said
    assert "not running; last seen 2023-11-1" in said


def test_a_service_is_seen_now_and_then_and_never_half_written(tmp_path: Path) -> None:
    at = [100.0]
    seen = LastSeen(service_folder(tmp_path, "table"), wall=lambda: at[0], steady=lambda: at[0])
    seen.tell(1, 4)
    at[0] += EVERY_S / 2
    seen.tell(2, 5)
    assert last_seen(tmp_path, "table") == Seen(100.0, 1, 4)
    at[0] += EVERY_S
    seen.tell(2, 5)
    assert last_seen(tmp_path, "table") == Seen(115.0, 2, 5)
    assert [each.name for each in service_folder(tmp_path, "table").iterdir()] == ["seen.json"]


def test_a_disk_that_refuses_does_not_end_a_service(tmp_path: Path) -> None:
    (tmp_path / "services").write_text("not a folder")
    LastSeen(service_folder(tmp_path, "table")).tell(1, 1)
    assert last_seen(tmp_path, "table") is None
