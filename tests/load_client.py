"""Clients of a service in a process of their own: a bounded rate, and one retry, as the client contract allows.

``python load_client.py PORT PATH RATE BODY OUT`` writes a line for each request to OUT until it is ended: when it was
sent (Unix time), why its first try failed and why its retry did; both empty where it was answered.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

CLIENTS = 4
WAIT_S = 10.0


@dataclass(frozen=True)
class Asked:
    """One request: when it was sent, and why its first try and its retry failed; empty where they did not."""

    at: float
    first: str
    retry: str


class Load:
    """The process, while it is entered."""

    def __init__(self, folder: Path, port: int, path: str, row: dict[str, Any], rate: float = 100.0) -> None:
        self._body, self._out = folder / "body.json", folder / "asked.jsonl"
        self._body.write_text(json.dumps({"rows": [row]}))
        self._out.write_text("")
        self._arguments = [str(port), path, f"{rate:g}", str(self._body), str(self._out)]

    def __enter__(self) -> Load:
        self._process = subprocess.Popen([sys.executable, __file__, *self._arguments])
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def asked(self, since: float = 0.0) -> list[Asked]:
        """Return the requests that were sent at a Unix time or later."""
        lines = self._out.read_text().split("\n")[:-1]
        return [each for each in (Asked(*json.loads(line)) for line in lines) if each.at >= since]

    def answered(self, count: int = 20) -> bool:
        """Tell whether the latest requests were all answered at the first try."""
        latest = self.asked()[-count:]
        return len(latest) == count and not any(each.first for each in latest)


def ask(connection: http.client.HTTPConnection, path: str, body: bytes) -> str:
    """Ask once; return what went wrong. A connection that failed is opened anew by the next request."""
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        said = reply.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__
    return "" if reply.status == 200 else f"{reply.status} {said[:100].decode(errors='replace').strip()}"


def work(port: int, path: str, pause: float, body: bytes, out: IO[str]) -> None:
    """Ask for ever."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + pause, time.monotonic())  # a wait is not made good by a burst
        at = time.time()
        first = ask(connection, path, body)
        retry = ask(connection, path, body) if first else ""
        out.write(json.dumps([at, first, retry]) + "\n")


def main(port: int, path: str, rate: float, body: Path, out: Path) -> None:
    """Ask with several clients at once, each on one connection."""
    with out.open("a", buffering=1) as lines:
        given = (port, path, CLIENTS / rate, body.read_bytes(), lines)
        threads = [threading.Thread(target=work, args=given, daemon=True) for _ in range(CLIENTS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
