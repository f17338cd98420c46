"""A real Prometheus for tests: from Debian's packages as ``make test-services`` unpacks them, on loopback."""

from __future__ import annotations

import json
import math
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service_world import wait_for

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / ".services" / "usr" / "bin"


@dataclass(frozen=True)
class Prometheus:
    """A server that runs."""

    url: str

    def get(self, path: str, **asked: Any) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def seen(self, query: str, since: float, until: float) -> list[float]:
        """The finite values of a query over a time, of all its series: what a panel would draw."""
        found = self.get("query_range", query=query, start=since, end=until, step=1)["result"]
        values = [float(text) for series in found for _, text in series["values"]]
        return [value for value in values if math.isfinite(value)]

    def series(self, query: str) -> list[dict[str, str]]:
        """The labels of what a query gives now."""
        return [each["metric"] for each in self.get("query", query=query)["result"]]

    def firing(self) -> set[str]:
        return {each["labels"]["alertname"] for each in self.get("alerts")["alerts"] if each["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, config: Path, port: int) -> Iterator[Prometheus]:
    """Start a server on a configuration, and stop it."""
    log = (folder / "prometheus.log").open("wb")
    command = [str(PROGRAMS / "prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: process.poll() is not None or _ready(server), "Prometheus to be ready")
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()


def _ready(server: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
