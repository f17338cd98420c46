"""What a live service keeps of its answers: captured, mirrored and judged by slice, and found again after a death."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from rayline.config import CaptureConfig, ServiceConfig
from rayline.errors import ConfigError
from rayline.features.reference import reference_of
from rayline.features.request_rows import request_rows
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.records.captured import captured
from rayline.serving.records.observation import ArmStats
from rayline.serving.service import Service, deploy
from rayline.serving.traffic.plan import LiveVersion, Mirror
from recording_app import state_of
from registry_examples import make_bundle, mixed_table

PORT = 22023
DEADLINE = 120.0
SERVICE = "rents"


@dataclass
class Live:
    service: Service
    storage: Path
    config: ServiceConfig
    version: LiveVersion
    rows: list[dict[str, Any]]

    def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        answer = httpx.post(f"{self.service.url}/predict", json={"rows": rows}, timeout=40)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def tell(self, request_id: str, labels: list[float]) -> httpx.Response:
        return httpx.post(f"{self.service.url}/feedback", json={"request_id": request_id, "label": labels}, timeout=40)

    def stats(self, number: int) -> ArmStats:
        return self.service.observe().since(None).get(number, ArmStats())

    def read_back(self, arm: str) -> dict[tuple[str, int], dict[str, Any]]:
        table = captured(self.storage, SERVICE)
        rows = table.to_pylist() if table is not None else []
        return {(row["_request_id"], row["_row"]): row for row in rows if row["_arm"] == arm}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    import ray
    from ray import serve

    storage, folder = tmp_path_factory.mktemp("storage"), tmp_path_factory.mktemp("bundles")
    before = dict(os.environ)
    os.environ.update(ingress_environment("127.0.0.1", PORT, str(storage), "haproxy"))
    table = mixed_table()
    schema, state = state_of(table)
    reference = reference_of(schema, state)
    bundles = [make_bundle(folder / str(seed), table, seed=seed, reference=reference) for seed in (1, 2)]
    one, two = (LiveVersion(n, str(each.path), each.digest) for n, each in enumerate(bundles, start=1))
    config = ServiceConfig(
        replicas=2,
        num_cpus=0.5,
        port=PORT,
        ingress="haproxy",
        slices=("grade",),
        capture=CaptureConfig(file_seconds=0.5, redact=("town",)),
    )
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        service = deploy(SERVICE, config, str(storage), one)
        service.load(two)
        yield Live(service, storage, config, one, request_rows(table, schema, bundles[0].features.input_columns))
        serve.shutdown()
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_a_live_service_captures_mirrors_and_judges_by_slice(live: Live) -> None:
    began = datetime.now(UTC)
    live.service.set_mirror(Mirror(2, 100))
    answers = [live.predict(live.rows[start : start + 4]) for start in range(0, 80, 4)]
    for answer in answers:
        assert live.tell(answer["request_id"], [10.0] * 4).status_code in (200, 202)
    eventually(lambda: live.stats(1).feedback == 80, "all truth is counted by the replica that answered")
    eventually(lambda: live.stats(2).shadow.rows == 80, "every row is mirrored")
    live.service.set_mirror(None)
    one, two = live.stats(1), live.stats(2)
    said = [each["prediction"] for answer in answers for each in answer["predictions"]]
    assert one.squared_error == pytest.approx(sum((value - 10.0) ** 2 for value in said))
    assert {name: (each.rows, each.feedback) for name, each in one.slices.items()} == {
        f"grade={n}": (20, 20) for n in (1, 2, 3, 4)
    }
    assert sum(one.feature_counts["size"].values()) == 80
    assert two.requests == 0
    assert sum(rows for rows, _ in two.shadow.slices.values()) == 80

    eventually(lambda: len(live.read_back("stable")) == len(live.read_back("shadow")) == 80, "all is captured")
    eventually(lambda: all(each["_truth"] for each in live.read_back("stable").values()), "all truth is on disk")
    kept = live.read_back("stable")
    for answer in answers:
        for row, each in enumerate(answer["predictions"]):
            found = kept[answer["request_id"], row]
            assert (found["_prediction"], found["_truth"]) == (each["prediction"], 10.0)
            assert began < found["_at"] < datetime.now(UTC)
            assert "town" not in found
    records = [each["records"] for each in live.service.status()["replicas"].values()]
    assert sum(each["capture"]["dropped"] + each["left_out"] for each in records) == 0


def test_truth_of_answers_whose_replica_was_killed_is_found_in_what_it_had_captured(live: Live) -> None:
    before = live.stats(1)
    answers = [live.predict(live.rows[:2]) for _ in range(20)]
    ids = {answer["request_id"] for answer in answers}
    eventually(lambda: ids <= {request_id for request_id, _ in live.read_back("stable")}, "all is on disk")
    replicas = live.service.status()["replicas"]
    tag, pid = next((name.removeprefix("replica-"), each["pid"]) for name, each in replicas.items())
    os.kill(pid, signal.SIGKILL)
    orphans = [each for each in sorted(ids) if each[-16:-8] == tag]
    assert orphans, "both replicas have answered"
    eventually(lambda: f"replica-{tag}" not in live.service.status()["replicas"], "its death is noticed")
    for request_id in orphans:
        assert live.tell(request_id, [1.0, 2.0]).status_code in (200, 202)
    eventually(
        lambda: live.stats(1).minus(before).feedback >= 2 * len(orphans), "truth is counted although nobody remembers"
    )
    found = sum(each["records"]["feedback"]["found_late"] for each in live.service.status()["replicas"].values())
    assert found == len(orphans)
    assert not list(live.storage.glob("services/*/capture/*/*/.*")), "a killed replica leaves whole files only"


def test_a_mistyped_column_is_refused_before_anything_starts(live: Live) -> None:
    redacting = ServiceConfig(port=PORT, capture=CaptureConfig(redact=("twon",)))
    with pytest.raises(ConfigError, match=r"service.capture.redact: .*'twon'.*'town'"):
        deploy("other", redacting, str(live.storage), live.version)
    with pytest.raises(ConfigError, match=r"service.slices: 'grads' .*'grade'"):
        deploy("other", ServiceConfig(port=PORT, slices=("grads",)), str(live.storage), live.version)
