"""The door to Ray: connect to the cluster that was named, or keep a local one of our own.

A local cluster outlives the command that started it, so that a service goes on answering. It is a head node in its
own process group with a token of its own, recorded in ``storage/cluster.json`` and stopped by its process id alone:
other Ray clusters on the machine are never touched.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from rayline import joining, processes
from rayline.auth_token import NONE, Token, find_token
from rayline.errors import ClusterError
from rayline.ports import CLIENT, free_port
from rayline.storage import folder_of

NAMESPACE = "rayline"
"""The Ray namespace of every actor that Rayline names."""

ON_THE_HEAD = {"node:__internal_head__": 0.001}
"""The resources of an actor that must live on the head's node, as Serve's controller does: worker nodes come and go."""

_replaced: dict[str, str | None] = {}
"""Variables of the shell in whose place those of a cluster stand, until this process leaves it."""

_heads: dict[int, subprocess.Popen[bytes]] = {}
"""Heads that this process started, by process id: kept so that they are reaped when they are stopped here."""

GcsStorage = Literal["memory", "rocksdb"]

INGRESS_SETTINGS = "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"
"""The variable that names a file in the folder which the command line of a head's own ingress names too."""

WORKER_NICENESS = {"RAY_worker_niceness": "5"}
"""What Ray's workers start with: behind what people do on this machine, with room for training to come behind them."""

START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 20.0
RETURN_TRIES = 3  # a busy machine may not start a node within the half minute that Ray gives it

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A head node that Rayline started: its process, its address and what it was started with.

    Attributes:
        environment: the variables beside those of the shell.
        cpus: None for as many as the machine has.
    """

    pid: int
    address: str
    token_path: str
    log: str
    environment: dict[str, str]
    gcs_storage: GcsStorage = "memory"
    cpus: int | None = None

    @property
    def port(self) -> int:
        """The port of its control service, which worker nodes and drivers come back to."""
        return int(self.address.rpartition(":")[2])


def connect(
    storage: str | Path,
    *,
    address: str | None = None,
    environment: Mapping[str, str] | None = None,
    gcs_storage: GcsStorage = "memory",
) -> None:
    """Connect this process to Ray, once.

    An existing connection is kept. Then ``address`` or ``RAY_ADDRESS`` decides; without either, the local cluster of
    ``storage`` is used, and started where none is alive. One that died is started again; where it kept its state on
    disk, on the same port and with that state: actors and services that it had come back by themselves.

    Args:
        storage: the project's state folder.
        address: ``host:port`` or ``auto``.
        environment: variables that a local cluster must start with, such as those of the HTTP ingress.
        gcs_storage: where a local head keeps the cluster's state: ``memory``, or ``rocksdb`` to survive its own death.

    Raises:
        ClusterError: the cluster cannot be reached or started.
    """
    import ray

    if ray.is_initialized():
        return
    named = address or os.environ.get("RAY_ADDRESS")
    if named:
        _join(named, _authenticate())
        return
    with _only_one(folder_of(storage)):
        head = alive(storage) or _start(folder_of(storage), dict(environment or {}), gcs_storage)
    _set(head.environment)
    use_token(head.token_path)
    _join(head.address)


def alive(storage: str | Path) -> LocalCluster | None:
    """Return the local cluster of ``storage`` where its head process still runs, else None. Does not load Ray."""
    head = last(storage)
    return head if head is not None and _is_head(head.pid) else None


def last(storage: str | Path) -> LocalCluster | None:
    """Return the local cluster of ``storage`` that was started last and not stopped: it may have died. Else None."""
    try:
        return LocalCluster(**json.loads(_record(folder_of(storage)).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def stop(storage: str | Path) -> bool:
    """Stop the local cluster of ``storage`` and everything that runs on it; False where none was running."""
    head = alive(storage)
    if head is None:
        _forget(folder_of(storage))
        return False
    disconnect()
    started = processes.descendants(head.pid)
    os.kill(head.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_DEADLINE_S
    while _is_head(head.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes.kill(head.pid, started)
    if head.pid in _heads:
        _heads.pop(head.pid).wait()
    _forget(folder_of(storage))
    return True


def _forget(storage: Path) -> None:
    """Forget a cluster that was stopped: none may come back from what it left."""
    end_leftovers(storage)
    _record(storage).unlink(missing_ok=True)
    shutil.rmtree(_state_folder(storage), ignore_errors=True)


def end_leftovers(storage: str | Path) -> None:
    """Kill the ingress of a head that died where it lives on: it holds the service's port, and leads nowhere."""
    head = last(storage)
    named = head.environment.get(INGRESS_SETTINGS) if head is not None and not _is_head(head.pid) else None
    if named is None:
        return
    folder = f" {Path(named).parent}/"
    for each in processes.living():
        if folder in each.command:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each.pid, signal.SIGKILL)


def disconnect() -> None:
    """Leave the cluster, so that this process may join another.

    A driver that stays connected waits a minute for a stopped head to come back. Serve keeps its client of the old
    cluster beyond that, and there is no public way but a whole shutdown to make it forget.
    """
    if "ray" not in sys.modules:
        return
    importlib.import_module("ray").shutdown()
    _unset()
    serve = sys.modules.get("ray.serve.context")
    if serve is not None:
        serve._set_global_client(None)


def use_token(path: str) -> None:
    """Authenticate this process to Ray by the token file at ``path``.

    Ray reads these variables when it is first imported. A driver may have imported it long before, so what Ray keeps of
    them is read anew; there is no public way to ask for that.
    """
    _set(_token_environment(path))
    _read_token_anew()


def _set(variables: Mapping[str, str]) -> None:
    for name in variables:
        _replaced.setdefault(name, os.environ.get(name))
    os.environ.update(variables)


def _unset() -> None:
    """Take back what the cluster needed: the next one of this process has another token, and maybe another ingress."""
    if not _replaced:
        return
    for name, value in _replaced.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _replaced.clear()
    _read_token_anew()


def _read_token_anew() -> None:
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _authenticate() -> Token:
    """Use the token of this shell, where there is one: Ray does so by itself only for the cluster that it starts."""
    mode, token = os.environ.get("RAY_AUTH_MODE"), find_token()
    if mode is None:
        _set({"RAY_AUTH_MODE": "token" if token.value else "disabled"})
    _read_token_anew()  # a notebook may have set them after it imported Ray
    return token if mode != "disabled" else NONE


def _join(address: str, token: Token | None = None) -> None:
    import ray

    if token is not None and (refused := joining.refusal(address, token.value, token.source)):
        raise ClusterError(refused)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise ClusterError(joining.why_not(address, error)) from error


@contextmanager
def _only_one(storage: Path) -> Iterator[None]:
    """Hold the cluster of a storage: of two commands that come at once, the second finds the head of the first."""
    storage.mkdir(parents=True, exist_ok=True)
    with (storage / "cluster.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(storage: Path, environment: dict[str, str], gcs_storage: GcsStorage) -> LocalCluster:
    """Start a head; where the last one died and its state is on disk, as that one, else anew."""
    former = last(storage)
    end_leftovers(storage)
    state = _state_folder(storage)
    if former is not None and former.gcs_storage == gcs_storage == "rocksdb" and state.is_dir():
        head = _started_again(storage, former)
        if head is not None:
            return head
    shutil.rmtree(state, ignore_errors=True)
    # A single node has nowhere to drain to: without this, stopping it waits half a minute.
    settings = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", **WORKER_NICENESS, **environment}
    if gcs_storage == "rocksdb":
        settings |= lasting_settings(storage)
    return _start_head(storage, free_port(), settings, gcs_storage)


def lasting_settings(storage: Path) -> dict[str, str]:
    """Return the variables of a head that keeps the cluster's state on disk, and of the nodes that wait for it."""
    return {
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(_state_folder(storage).resolve()),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "300",  # a worker node gives up a head after a minute otherwise
    }


def _started_again(storage: Path, former: LocalCluster) -> LocalCluster | None:
    """Start a dead head again on its port and state; None where it does not come up with them, as of a damaged file."""
    for _ in range(RETURN_TRIES):
        # Ray takes a worker node of the same address for another head where this file names it.
        Path(session_folder(storage), "ray_current_cluster").unlink(missing_ok=True)
        try:
            return _start_head(storage, former.port, former.environment, "rocksdb", former.cpus)
        except ClusterError as error:
            _LOG.warning("the head could not go on with the state in '%s': %s", _state_folder(storage), error)
    return None


def _start_head(
    storage: Path, port: int, settings: dict[str, str], gcs_storage: GcsStorage, cpus: int | None = None
) -> LocalCluster:
    token_path = _write_token(storage)
    log = storage / "cluster.log"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
    command += ["--node-ip-address", "127.0.0.1", "--include-dashboard", "false", "--disable-usage-stats"]
    held = (os.cpu_count() or 1) if cpus is None else cpus
    command += ["--num-cpus", str(held), "--ray-client-server-port", str(free_port(CLIENT))]
    command += ["--temp-dir", session_folder(storage)]
    with log.open("ab") as output:
        said_before = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **settings, "PATH": _path(), **_token_environment(str(token_path))},
        )
    try:
        _heads[process.pid] = process
        address = _await_address(process, log, port, said_before)
        head = LocalCluster(process.pid, address, str(token_path), str(log), settings, gcs_storage, cpus)
        _write(_record(storage), json.dumps(asdict(head), indent=2))
    except BaseException:  # Ctrl-C too: nobody would know of this head
        _abandon(process)
        raise
    return head


def _path() -> str:
    """Return the search path of a head: an entry point that says `python` then means the one that Ray runs on."""
    own = str(Path(sys.executable).parent)
    rest = [each for each in os.environ.get("PATH", os.defpath).split(os.pathsep) if each != own]
    return os.pathsep.join([own, *rest])


def _abandon(process: subprocess.Popen[bytes]) -> None:
    started = processes.descendants(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    processes.kill(process.pid, started)
    process.wait()
    _heads.pop(process.pid, None)


def _await_address(process: subprocess.Popen[bytes], log: Path, port: int, said_before: int) -> str:
    """Wait until the head listens. Ray gives its control port the node's own address, whatever was asked."""
    started = time.monotonic()
    marker = f":{port}'"
    while time.monotonic() - started < START_DEADLINE_S:
        text = log.read_bytes()[said_before:].decode(errors="replace")
        lines = [line for line in text.splitlines() if "ray start --address=" in line and marker in line]
        if lines:
            return lines[-1].split("--address='", 1)[1].split("'", 1)[0]
        if process.poll() is not None:
            raise ClusterError(f"the local Ray head ended with status {process.returncode}; its log is {log}.")
        time.sleep(0.05)
    raise ClusterError(f"the local Ray head did not start within {START_DEADLINE_S:.0f} s; its log is {log}.")


def _write_token(storage: Path) -> Path:
    path = storage / "cluster.token"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path.resolve()


def _token_environment(path: str) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": path}


def session_folder(storage: Path) -> str:
    """Return the folder of a local cluster's own files.

    Ray keeps Unix sockets in it, whose path may have 107 characters at most: a deep project folder would not do.
    """
    digest = blake2b(str(storage.resolve()).encode(), digest_size=5).hexdigest()
    return str(Path(tempfile.gettempdir()) / f"rayline-{digest}")


def _state_folder(storage: Path) -> Path:
    """Where a head of ``gcs_storage: rocksdb`` keeps the cluster's state, on this machine's own disk."""
    return Path(f"{session_folder(storage)}-state")


def _record(storage: Path) -> Path:
    return storage / "cluster.json"


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _is_head(pid: int) -> bool:
    """Tell whether the process is still ours: a process id alone may have been given to another program."""
    return any("start --head" in each.command for each in processes.living(pid))
