"""A live service on Ray Serve behind HAProxy: traffic, weight changes under load, and deaths that nobody notices."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from rayline.config import ServiceConfig
from rayline.errors import ClusterError, NotFoundError, ServiceError, UsageError
from rayline.registry.bundle import Bundle
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.names import live_state_handle
from rayline.serving.service import Service, deploy
from rayline.serving.traffic.plan import LiveVersion
from registry_examples import make_bundle, real_table

PORT = 18150
DEADLINE = 120.0


@dataclass
class Live:
    service: Service
    versions: dict[int, LiveVersion]
    bundles: dict[int, Bundle]
    config: ServiceConfig
    rows: list[dict[str, Any]]

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return httpx.post(f"{self.service.url}/{path}", json=body, headers=named, timeout=40)

    def predict(self, **headers: str) -> httpx.Response:
        return self.post("predict", {"rows": self.rows[:1]}, **headers)

    def split(self, weights: dict[int, int]) -> int:
        return self.service.set_weights(stable=1, weights=weights)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    import ray
    from ray import serve

    storage = tmp_path_factory.mktemp("storage")
    folder = tmp_path_factory.mktemp("bundles")
    before = dict(os.environ)
    os.environ.update(ingress_environment("127.0.0.1", PORT, str(storage), "haproxy"))
    table = real_table("binary")
    bundles = {seed: make_bundle(folder / str(seed), table, seed=seed) for seed in (1, 2)}
    versions = {number: LiveVersion(number, str(each.path), each.digest) for number, each in bundles.items()}
    config = ServiceConfig(replicas=2, num_cpus=0.5, port=PORT, ingress="haproxy")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        service = deploy("churn", config, str(storage), versions[1])
        service.load(versions[2])
        yield Live(service, versions, bundles, config, [dict(row) for row in bundles[1].example])
        serve.shutdown()
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


@dataclass
class Load:
    """Clients that ask without a pause, each on one connection, until told to stop.

    ``tries`` is 2 where a replica is killed: what it was writing in that moment nobody can take back, and a client may
    ask once more, as a prediction changes nothing.
    """

    live: Live
    clients: int = 4
    tries: int = 1
    answers: list[tuple[float, int]] = field(default_factory=list)
    """Per answered request: when it was sent, and the version that answered."""
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        self.until(lambda: len(self.answers) > 50)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not holds():
            assert time.monotonic() < deadline, "the deadline passed"
            time.sleep(0.01)

    def more(self, count: int) -> None:
        """Wait for so many further answers."""
        seen = len(self.answers)
        self.until(lambda: len(self.answers) >= seen + count)

    def _run(self, number: int) -> None:
        body = {"rows": self.live.rows[:1]}
        with httpx.Client(base_url=self.live.service.url, timeout=40) as client:
            while not self._stop.is_set():
                said = [self._ask(client, body)]
                while said[-1] is not None and len(said) < self.tries:
                    said.append(self._ask(client, body))
                if said[-1] is not None:
                    self.failed.append(said[-1])

    def _ask(self, client: httpx.Client, body: object) -> str | None:
        """Ask once; return what went wrong."""
        sent = time.monotonic()
        try:
            reply = client.post("/predict", json=body)
        except httpx.HTTPError as error:
            return repr(error)
        if reply.status_code != 200:
            return reply.text
        self.answers.append((sent, int(reply.headers["x-rayline-version"])))
        return None


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def two_replicas_follow(live: Live) -> bool:
    replicas = live.service.status()["replicas"].values()
    generation = live.service.plan().generation
    return len(replicas) == 2 and all(each["generation"] == generation for each in replicas)


def test_an_answer_is_the_bundles_own_and_names_its_version(live: Live) -> None:
    for number, bundle in live.bundles.items():
        reply = live.post("predict", {"rows": live.rows}, x_rayline_version=str(number))
        assert reply.json()["predictions"] == bundle.predictor().predict(live.rows).records()
        assert reply.headers["x-rayline-version"] == str(number)
        assert reply.headers.get_list("x-request-id") == [reply.json()["request_id"]]


def test_sessions_stick_across_replicas(live: Live) -> None:
    live.split({1: 50, 2: 50})
    chosen = {f"s{n}": {live.predict(x_session_id=f"s{n}").json()["version"] for _ in range(6)} for n in range(20)}
    assert all(len(versions) == 1 for versions in chosen.values())
    assert set.union(*chosen.values()) == {1, 2}


def test_bad_requests_are_told_why(live: Live) -> None:
    row = dict(live.rows[0])
    del row["mean area"]
    assert live.post("predict", {"rows": [row]}).json()["column"] == "mean area"
    assert live.post("predict", {"rows": []}).status_code == 422
    assert live.predict(x_rayline_version="9").status_code == 404
    assert httpx.get(f"{live.service.url}/v2/health/ready", timeout=40).json() == {"ready": True}


def test_a_weight_change_under_load_is_with_every_replica_when_it_returns(live: Live) -> None:
    with Load(live) as load:
        for weights, only in (({1: 100}, 1), ({2: 100}, 2), ({1: 100}, 1), ({2: 100}, 2), ({1: 100}, 1)):
            live.split(weights)
            settled = time.monotonic()
            load.more(100)
            later = {version for sent, version in load.answers if sent > settled}
            assert later == {only}
    assert load.failed == []


def test_what_was_answered_is_counted_for_its_version(live: Live) -> None:
    live.split({1: 100})
    before = live.service.observe()
    for _ in range(20):
        live.predict()
    for _ in range(5):
        live.predict(x_rayline_version="2")
    window = live.service.observe().since(before)
    assert {number: stats.requests for number, stats in window.items()} == {1: 20, 2: 5}
    assert sum(window[1].prediction_counts.values()) == 20
    assert window[1].latency(0.5)


def test_feedback_reaches_the_replica_that_answered(live: Live) -> None:
    live.split({1: 100})
    before = live.service.observe()
    answers, statuses = [], set()

    def both_ways() -> bool:
        """Whichever replica gets the truth: the one that answered, or the other, which passes it on."""
        for turn in range(8):
            answers.append(live.predict().json())
            if turn % 2:
                live.predict()
            truth = {"request_id": answers[-1]["request_id"], "label": answers[-1]["predictions"][0]["label"]}
            statuses.add(live.post("feedback", truth).status_code)
        return statuses == {200, 202}

    wait_for(both_ways, "truth at either replica")

    def counted() -> bool:
        stats = live.service.observe().since(before)[1]
        return (stats.feedback, stats.correct) == (len(answers), len(answers))

    wait_for(counted, "joined labels")
    folder = Path(live.service.storage) / "services" / "churn" / "feedback"

    def stored() -> bool:
        lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        matched = {line["request_id"] for line in lines if line["matched"]}
        return {each["request_id"] for each in answers} <= matched

    wait_for(stored, "stored records")


def test_a_killed_replica_fails_no_request_and_comes_back_with_the_plan(live: Live) -> None:
    live.split({1: 60, 2: 40})
    wait_for(lambda: two_replicas_follow(live), "two replicas")
    pids = {name: each["pid"] for name, each in live.service.status()["replicas"].items()}
    with Load(live, tries=2) as load:
        victim, pid = next(iter(pids.items()))
        os.kill(pid, signal.SIGKILL)
        load.more(200)
        generation = live.split({1: 70, 2: 30})
        load.until(lambda: victim not in live.service.status()["replicas"] and two_replicas_follow(live))
        load.more(200)
    assert load.failed == []
    assert {each["generation"] for each in live.service.status()["replicas"].values()} == {generation}


def test_a_killed_live_state_comes_back_from_disk_and_traffic_does_not_notice(live: Live) -> None:
    import ray

    generation = live.split({1: 80, 2: 20})
    counted = live.service.observe()
    pid = ray.get(live_state_handle("churn").__ray_call__.remote(lambda state: os.getpid()))
    with Load(live) as load:
        os.kill(pid, signal.SIGKILL)
        load.more(100)
        assert live.service.plan().generation == generation
        assert live.split({1: 85, 2: 15}) == generation + 1
        load.more(100)
    assert load.failed == []
    wait_for(lambda: two_replicas_follow(live), "both replicas to follow the plan that was read back")
    assert live.service.observe().since(counted)[1].requests > 0


def test_a_version_that_cannot_be_loaded_never_goes_live(live: Live, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"version 5 of 'churn' cannot be served: replica .*does not exist"):
        live.service.load(LiveVersion(5, str(tmp_path / "nowhere"), "0" * 64))
    assert live.service.plan().numbers == (1, 2)


def test_what_makes_no_sense_is_refused(live: Live) -> None:
    with pytest.raises(UsageError, match="not live"):
        live.split({1: 50, 7: 50})
    with pytest.raises(UsageError, match="still has traffic"):
        live.service.unload(1)
    with pytest.raises(NotFoundError, match="Did you mean 'churn'"):
        Service.connect("chrun", live.service.storage)
    assert Service.connect("churn", live.service.storage).plan() == live.service.plan()


def test_deploying_again_moves_no_traffic(live: Live) -> None:
    before = live.service.plan()
    with Load(live) as load:
        again = deploy("churn", live.config, live.service.storage, live.versions[2])
        load.more(50)
    assert load.failed == []
    assert again.plan() == before


def test_a_taken_port_is_told_before_anything_starts(live: Live, tmp_path: Path) -> None:
    from rayline.serving.http.ingress import check_port

    with pytest.raises(ClusterError, match=f"{PORT} cannot be listened on"):
        check_port("127.0.0.1", PORT)
