"""What a team runs beside its cluster, for tests: PostgreSQL, an S3 server and MLflow's server, as real processes.

Each listens on the loopback alone, on a port of its own, and is stopped by its process id.
"""

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = ROOT / ".services"
"""Where ``tests/services/packages.sh`` unpacks Debian's packages."""

POSTGRESQL = "usr/lib/postgresql/15/bin"
DEADLINE_S = 240.0  # how long only decides how late a failure is told


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        return int(candidate.getsockname()[1])


def until(read: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    """Wait for a true value and return it; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return value


def prometheus_program() -> Path:
    """Return Prometheus' program: ``promtool`` lies beside it."""
    return UNPACKED / "usr" / "bin" / "prometheus"


@dataclass
class Process:
    """A server that is a process group of its own, and may be killed and started again.

    Attributes:
        name: in messages.
        command: its command line.
        port: on the loopback.
        log: the file for what it prints.
        env: variables beside those of this process.
        settings: further arguments of ``subprocess.Popen``.
        ready: tells whether it answers; None asks whether the port is open.
    """

    name: str
    command: list[str]
    port: int
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """The id of its first process; it must run."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers; one that still runs is killed first."""
        self.kill()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.env},
                **self.settings,
            )
        ready = self.ready or self._listens
        until(lambda: ready() or self._process.poll() is not None, f"{self.name}: {self.log}")  # type: ignore[union-attr]
        assert self._process.poll() is None, f"{self.name} ended: {self.log.read_text()[-3000:]}"

    def send(self, number: int) -> None:
        """Send a signal to all its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill all its processes at once, where it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> None:
        """Ask it to end, and kill what is left of it after a while."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def postgresql(*, durable: bool = False) -> Iterator[str]:
    """Run a PostgreSQL with an empty database ``mlflow``; yields its URI, the password in it.

    As root it runs as another user, which PostgreSQL wants.

    Args:
        durable: wait for the disk at each commit, as a real one does; tests need not.
    """
    folder = Path(tempfile.mkdtemp(prefix="rl-pg-"))
    password, port = secrets.token_hex(8), free_port()
    (folder / "password").write_text(password)
    settings = _as_another_user(folder)
    programs, env = _programs(folder, settings)
    env = {**env, "LC_ALL": "C", "HOME": str(folder), "TZ": "UTC"}
    try:
        initdb = [str(programs / "initdb"), "--pgdata", "data", "--username", "rayline", "--auth", "scram-sha-256"]
        made = subprocess.run(
            [*initdb, "--pwfile", "password", "--encoding", "UTF8", "--locale", "C", "--no-sync"],
            capture_output=True,
            text=True,
            env={**os.environ, **env},
            cwd=folder,
            **settings,
        )
        assert made.returncode == 0, made.stderr
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "timezone": "UTC"}
        if not durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(programs / "postgres"), "-D", str(folder / "data")]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        uri = f"postgresql://rayline:{password}@127.0.0.1:{port}"
        server = Process("PostgreSQL", command, port, folder / "log", env, {**settings, "cwd": folder})
        server.ready = lambda: _made_database(f"{uri}/postgres")
        try:
            server.start()
            yield f"{uri}/mlflow"
        finally:
            server.stop(signal.SIGINT)  # its "fast" shutdown: it ends the connections that are left
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_another_user(folder: Path) -> dict[str, Any]:
    """Return the arguments of ``subprocess`` by which a program runs as another user, who may write the folder."""
    if os.getuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            for each in (folder, *folder.iterdir()):
                os.chown(each, user.pw_uid, user.pw_gid)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("PostgreSQL refuses to run as root, and this machine has no user 'postgres' or 'nobody'")


def _programs(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, dict[str, str]]:
    """Return the folder of PostgreSQL's programs and the variables they need: the machine's, else the unpacked ones."""
    if (Path("/") / POSTGRESQL / "postgres").exists() and not os.environ.get("RAYLINE_UNPACK_POSTGRESQL"):
        return Path("/") / POSTGRESQL, {}
    top = UNPACKED
    with suppress(OSError):  # the other user may not enter the folder that this checkout lies in
        if subprocess.run([top / POSTGRESQL / "pg_ctl", "--version"], capture_output=True, **settings).returncode >= 0:
            return top / POSTGRESQL, _libraries(top)
    top = folder / "unpacked"
    for part in ("usr/lib", "usr/share/postgresql"):
        shutil.copytree(UNPACKED / part, top / part, symlinks=True)
    return top / POSTGRESQL, _libraries(top)


def _libraries(top: Path) -> dict[str, str]:
    found = sorted(str(each) for each in (top / "usr" / "lib").glob("*-linux-gnu*"))
    return {"LD_LIBRARY_PATH": os.pathsep.join(found)} if found else {}


def _made_database(uri: str) -> bool:
    import psycopg2

    try:
        connection = psycopg2.connect(uri)
    except psycopg2.OperationalError:  # it is starting
        return False
    try:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE mlflow")
    finally:
        connection.close()
    return True


def query(uri: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask a PostgreSQL, and return all rows."""
    import psycopg2

    connection = psycopg2.connect(uri)
    try:
        cursor = connection.cursor()
        cursor.execute(statement, values)
        return list(cursor.fetchall())
    finally:
        connection.close()


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket on a server of its own.

    Attributes:
        name: of the bucket.
        endpoint: URL of the server.
        env: the variables by which every S3 client finds it (``AWS_*`` and MLflow's own).
    """

    name: str
    endpoint: str
    env: Mapping[str, str]

    def keys(self, prefix: str = "") -> list[str]:
        """Return the names of all objects below a prefix, in order."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def client(self) -> Any:
        """Return a boto3 client of the server."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.env["AWS_REGION"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )


@contextmanager
def s3(folder: Path, name: str = "team") -> Iterator[Bucket]:
    """Run an S3 server (moto's) with an empty bucket."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    env = {
        "AWS_ACCESS_KEY_ID": "rayline",
        "AWS_SECRET_ACCESS_KEY": "rayline-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = Process("the S3 server", command, port, folder / "s3.log")
    try:
        server.start()
        bucket = Bucket(name, endpoint, env)
        bucket.client().create_bucket(Bucket=name)
        yield bucket
    finally:
        server.stop()


def mlflow_server(
    folder: Path, backend: str, artifacts: str, env: Mapping[str, str], *, workers: int = 1, port: int = 0
) -> Process:
    """Return MLflow's server as ``cluster/mlflow-server.sh`` starts it, not yet started.

    Args:
        folder: for its log and its temporary files.
        backend: URI of its database.
        artifacts: URI of the folder or bucket that it keeps artifacts in; clients reach them through it alone.
        env: further variables, such as those of a ``Bucket``.
        workers: processes that answer.
        port: on the loopback; 0 picks one.
    """
    port = port or free_port()
    settings = {
        "PYTHON": sys.executable,
        # The driver is named: the one that SQLAlchemy 2.1 takes without a name is another one than MLflow's own.
        "MLFLOW_BACKEND_URI": backend.replace("postgresql://", "postgresql+psycopg2://"),
        "MLFLOW_ARTIFACTS": artifacts,
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": str(workers),
        "MLFLOW_STATE": str(folder),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its processes for jobs would outlive it
    }
    script = str(ROOT / "cluster" / "mlflow-server.sh")
    command, log = ["bash", script], folder / "mlflow.log"
    ready = partial(healthy, port)
    return Process("MLflow's server", command, port, log, {**env, **settings}, {"cwd": folder}, ready)


def healthy(port: int, path: str = "/health") -> bool:
    """Tell whether an HTTP server on the loopback answers 200."""
    with socket.socket() as probe:
        probe.settimeout(2)
        with suppress(OSError):
            probe.connect(("127.0.0.1", port))
            probe.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            return b" 200 " in probe.recv(100)
    return False
