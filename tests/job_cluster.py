"""A head of its own with a job server, a dashboard and a token: what a laptop or a team submits jobs to."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rayline.processes import descendants
from rayline.serving.http.ingress import ingress_environment

DEADLINE_S = 240.0
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class JobCluster:
    """A head with a job server.

    Attributes:
        url: the job server's address.
        gcs: the control port's address, which `ray.init` takes and the job server does not.
        token: the file that holds its token.
        service_port: the port that its Serve ingress is set up for.
    """

    url: str
    gcs: str
    token: Path
    service_port: int
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """Return this shell's variables with those that a client of the cluster needs, and none of another one."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYLINE_"))}
        return {**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}


@contextmanager
def job_cluster(folder: Path, *, cpus: int = 2, first_port: int = 22110) -> Iterator[JobCluster]:
    """Run a head with token, dashboard and job server on loopback; it and all below it end with the block."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    temporary = Path(tempfile.mkdtemp(prefix="rl-jobs-", dir="/tmp"))  # its sockets need a short path
    process, cluster = None, None
    try:
        for attempt in range(ATTEMPTS):  # Ray gives a node half a minute, and a busy machine may take longer
            log = folder / f"head-{attempt}.log"
            process, cluster = _start(folder, token, temporary, log, cpus, _free_ports(8, first_port))
            if _answers(cluster, process, log):
                break
            _end(process)
        else:
            raise AssertionError(f"no head came up in {ATTEMPTS} attempts:\n{log.read_text()[-2000:]}")
        yield cluster
    finally:
        if process is not None:
            _end(process)
        shutil.rmtree(temporary, ignore_errors=True)


def _start(
    folder: Path, token: Path, temporary: Path, log: Path, cpus: int, ports: list[int]
) -> tuple[subprocess.Popen[bytes], JobCluster]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYLINE_"))}
    names = ["--port", "--dashboard-port", "--ray-client-server-port", "--dashboard-agent-listen-port"]
    names += ["--dashboard-agent-grpc-port", "--metrics-export-port", "--runtime-env-agent-port"]
    options = [word for name, port in zip(names, ports[:7], strict=True) for word in (name, str(port))]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
                *("--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1", "--include-dashboard", "true"),
                *("--num-cpus", str(cpus), "--temp-dir", str(temporary), *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **kept,
                "PATH": os.pathsep.join(
                    [str(Path(sys.executable).parent), kept["PATH"]]
                ),  # for `python` in entry points
                **ingress_environment("127.0.0.1", ports[7], str(folder)),
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            },
        )
    urls = (f"http://127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[0]}")
    return process, JobCluster(*urls, token, ports[7], process.pid)


def _answers(cluster: JobCluster, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until the node runs and its job server answers; False where the head ended before."""
    request = urllib.request.Request(
        f"{cluster.url}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token.read_text()}"}
    )
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if "Ray runtime started" in log.read_text(errors="replace"):
            with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
                if answer.status == 200:
                    return True
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    below = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    for pid, command in below.items():
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").strip() == command:
                os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _free_ports(count: int, first: int) -> list[int]:
    found = []
    for port in range(first, first + 80):
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"fewer than {count} free ports from {first}")
