"""The door to Ray: connect to the cluster that was named, or keep a local one of our own.

A local cluster outlives the command that started it, so that a service goes on answering. It is a head node in its
own process group with a token of its own, recorded in ``storage/cluster.json`` and stopped by its process id alone:
other Ray clusters on the machine are never touched.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rayline import joining
from rayline.auth_token import NONE, Token, find_token
from rayline.errors import ClusterError

NAMESPACE = "rayline"
"""The Ray namespace of every actor that Rayline names."""

_replaced: dict[str, str | None] = {}
"""Variables of the shell in whose place those of a cluster stand, until this process leaves it."""

_heads: dict[int, subprocess.Popen[bytes]] = {}
"""Heads that this process started, by process id: kept so that they are reaped when they are stopped here."""

START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 20.0
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A head node that Rayline started: its process, its address and what it was started with."""

    pid: int
    address: str
    token_path: str
    log: str
    environment: dict[str, str]


def connect(storage: str | Path, *, address: str | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Connect this process to Ray, once.

    An existing connection is kept. Then ``address`` or ``RAY_ADDRESS`` decides; without either, the local cluster of
    ``storage`` is used, and started where none is alive.

    Args:
        storage: the project's state folder.
        address: ``host:port`` or ``auto``.
        environment: variables that a local cluster must start with, such as those of the HTTP ingress.

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
    with _only_one(Path(storage)):
        head = alive(storage) or _start(Path(storage), dict(environment or {}))
    _set(head.environment)
    use_token(head.token_path)
    _join(head.address)


def alive(storage: str | Path) -> LocalCluster | None:
    """Return the local cluster of ``storage`` where its head process still runs, else None. Does not load Ray."""
    try:
        head = LocalCluster(**json.loads(_record(Path(storage)).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return head if _is_head(head.pid) else None


def stop(storage: str | Path) -> bool:
    """Stop the local cluster of ``storage`` and everything that runs on it; False where none was running."""
    head = alive(storage)
    if head is None:
        _record(Path(storage)).unlink(missing_ok=True)
        return False
    disconnect()
    started = _descendants(head.pid)
    os.kill(head.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_DEADLINE_S
    while _is_head(head.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    _kill(head.pid, started)
    if head.pid in _heads:
        _heads.pop(head.pid).wait()
    _record(Path(storage)).unlink(missing_ok=True)
    return True


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
        _read_token_anew()
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


def _start(storage: Path, environment: dict[str, str]) -> LocalCluster:
    token_path = _write_token(storage)
    log = storage / "cluster.log"
    port = _free_port()
    # A single node has nowhere to drain to: without this, stopping it waits half a minute.
    settings = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", **environment}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
    command += ["--node-ip-address", "127.0.0.1", "--include-dashboard", "false", "--disable-usage-stats"]
    command += ["--num-cpus", str(os.cpu_count() or 1), "--ray-client-server-port", str(_free_port(from_port=27000))]
    command += ["--temp-dir", _session_folder(storage)]
    with log.open("ab") as output:
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
        address = _await_address(process, log, port)
        head = LocalCluster(process.pid, address, str(token_path), str(log), settings)
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
    started = _descendants(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _kill(process.pid, started)
    process.wait()
    _heads.pop(process.pid, None)


def _await_address(process: subprocess.Popen[bytes], log: Path, port: int) -> str:
    """Wait until the head listens. Ray gives its control port the node's own address, whatever was asked."""
    started = time.monotonic()
    marker = f":{port}'"
    while time.monotonic() - started < START_DEADLINE_S:
        text = log.read_text(encoding="utf-8", errors="replace")
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


def _session_folder(storage: Path) -> str:
    # Ray keeps Unix sockets here, whose path may have 107 characters at most: a deep project folder would not do.
    digest = blake2b(str(storage.resolve()).encode(), digest_size=5).hexdigest()
    return str(Path(tempfile.gettempdir()) / f"rayline-{digest}")


def _record(storage: Path) -> Path:
    return storage / "cluster.json"


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _free_port(from_port: int = 20000) -> int:
    """Return a free port outside the range that Ray gives to its workers (10002 to 19999)."""
    offset = secrets.randbelow(2000)
    for port in range(from_port + offset, from_port + offset + 500):
        with socket.socket() as candidate:
            try:
                candidate.bind(("", port))
            except OSError:
                continue
            return port
    raise ClusterError(f"no free port between {from_port + offset} and {from_port + offset + 500}.")


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    state: str
    command: str


def _is_head(pid: int) -> bool:
    """Tell whether the process is still ours: a process id alone may have been given to another program."""
    return any(each.state[0] not in "ZX" and "start --head" in each.command for each in _processes(pid))


def _descendants(root: int) -> dict[int, str]:
    """Return the living processes below one, with their command lines."""
    children: dict[int, list[_Process]] = {}
    for each in _processes():
        children.setdefault(each.parent, []).append(each)
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        for each in children.get(waiting.pop(), ()):
            found[each.pid] = each.command
            waiting.append(each.pid)
    return found


def _kill(root: int, started: Mapping[int, str]) -> None:
    """Kill a head and what is left of the processes below it: Ray does not end what its workers started themselves."""
    for each in _processes():
        if each.pid == root or started.get(each.pid) == each.command:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)


def _processes(pid: int | None = None) -> list[_Process]:
    """Return this machine's processes, or the one of that id where there is one."""
    return _read_processes(pid) if (PROC / "self" / "stat").exists() else _listed_processes(pid)


def _read_processes(pid: int | None) -> list[_Process]:
    folders = [PROC / str(pid)] if pid is not None else [each for each in PROC.iterdir() if each.name.isdecimal()]
    found = []
    for folder in folders:
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is hidden from us
            continue
        # The program's name stands in parentheses and may hold some itself.
        state, parent = stat.rpartition(")")[2].split()[:2]
        found.append(_Process(int(folder.name), int(parent), state, words.replace("\0", " ").strip()))
    return found


def _listed_processes(pid: int | None) -> list[_Process]:
    chosen = ["-e"] if pid is None else ["-p", str(pid)]
    try:
        done = subprocess.run(
            ["ps", "-ww", *chosen, "-o", "pid=", "-o", "ppid=", "-o", "stat=", "-o", "args="],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ClusterError("processes cannot be listed: there is neither /proc nor the program 'ps'.") from error
    lines = [line.split(None, 3) for line in done.stdout.splitlines() if line.strip()]
    return [_Process(int(each[0]), int(each[1]), each[2], each[3] if len(each) > 3 else "") for each in lines]
