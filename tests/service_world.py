"""A live service for tests: one cluster, bundles of real data, clients that ask again and again."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from rayline.config import ServiceConfig
from rayline.registry.bundle import Bundle
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import Service, deploy
from rayline.serving.traffic.plan import LiveVersion
from registry_examples import make_bundle, real_table

DEADLINE = 120.0
PAUSE_S = 0.01  # what is killed and comes back beside the clients needs the processors, too
FAULTY = Path(__file__).parent / "faulty_versions"


@dataclass
class World:
    """A service ``churn`` with version 1, and bundles that may become further versions."""

    service: Service
    config: ServiceConfig
    folder: Path
    bundles: dict[int, Bundle] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.bundles[1].example]

    def version(self, number: int, *, task: str = "binary", **given: Any) -> LiveVersion:
        """A version of its own bundle, made the first time."""
        if number not in self.bundles:
            self.bundles[number] = make_bundle(self.folder / str(number), real_table(task), seed=number)
        bundle = self.bundles[number]
        return LiveVersion(number, str(bundle.path), bundle.digest, **given)

    def fault(self, number: int, what: str) -> None:
        """Have a version go bad from now on; with an empty word, be well again."""
        path = self.bundles[number].path
        file = path.with_name(path.name + ".fault")
        file.with_suffix(".stands").unlink(missing_ok=True)
        if what:
            file.write_text(what)
        else:
            file.unlink(missing_ok=True)

    def stands(self, number: int) -> bool:
        """Whether a call of a version has come to stand still since its fault, ``hang`` or ``slow``, was set."""
        path = self.bundles[number].path
        return path.with_name(path.name + ".stands").exists()

    def predict(self, **headers: str) -> httpx.Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return httpx.post(f"{self.service.url}/predict", json={"rows": self.rows[:1]}, headers=named, timeout=40)

    def split(self, weights: dict[int, int], stable: int = 1) -> int:
        return self.service.set_weights(stable=stable, weights=weights)


@contextmanager
def a_world(folder: Path, port: int, **settings: Any) -> Iterator[World]:
    """Start a cluster and a service on it."""
    import ray
    from ray import serve

    before = dict(os.environ)
    storage = folder / "storage"
    ingress = settings.pop("ingress", "haproxy")
    os.environ.update(ingress_environment("127.0.0.1", port, str(storage), ingress))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FAULTY), *filter(None, [before.get("PYTHONPATH")])])
    config = ServiceConfig(**{"port": port, "ingress": ingress, "num_cpus": 0.4} | settings)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        bundle = make_bundle(folder / "bundles" / "1", real_table("binary"), seed=1)
        live = LiveVersion(1, str(bundle.path), bundle.digest)
        yield World(deploy("churn", config, str(storage), live), config, folder / "bundles", {1: bundle})
        serve.shutdown()
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


@dataclass
class Load:
    """Clients that ask again and again, each on one connection, until told to stop."""

    world: World
    clients: int = 4
    answers: list[tuple[float, int, int]] = field(default_factory=list)
    """Per answer: when it was asked, its status and the version that gave it, 0 where none is named."""
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        self.more(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def statuses(self, number: int, since: float = 0.0) -> Counter[int]:
        return Counter(status for sent, status, version in self.answers if version == number and sent >= since)

    def more(self, count: int, number: int | None = None, status: int | None = None) -> None:
        """Wait for so many further answers: all, or of a version, or of a status."""

        def seen() -> int:
            return sum(
                (number is None or version == number) and (status is None or told == status)
                for _, told, version in list(self.answers)
            )

        wanted = seen() + count
        wait_for(lambda: seen() >= wanted, f"{count} more answers of version {number} with status {status}")

    def _run(self) -> None:
        body = {"rows": self.world.rows[:1]}
        with httpx.Client(base_url=self.world.service.url, timeout=40) as client:
            while not self._stop.wait(PAUSE_S):
                sent = time.monotonic()
                try:
                    reply = client.post("/predict", json=body)
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))
                    continue
                version = int(reply.headers.get("x-rayline-version", 0))
                self.answers.append((sent, reply.status_code, version))


def wait_for(holds: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
