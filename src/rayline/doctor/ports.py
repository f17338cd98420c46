"""Are the ports free, or held by what should hold them?"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rayline import processes
from rayline.config import Config
from rayline.doctor.seam import Finding, Subject
from rayline.errors import ClusterError, ServiceError
from rayline.release import ask, service_url
from rayline.serving.http.ingress import check_port, ingress_environment

LISTENS = "0A"
OWN_PORTS = (
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
RAYS_PORTS = {6379: "the head", 8265: "the dashboard and the job server"}


class PortCheck:
    """Looks at the service's port, at those that its ingress takes besides, and at Ray's usual ones.

    A port that two programs listen on with SO_REUSEPORT looks sound to both: each gets a part of the requests.
    """

    name = "ports"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        found = [] if subject.config is None else list(_service(subject.config))
        held = {port: holder for port in RAYS_PORTS if not _free("127.0.0.1", port) and (holder := _who(port))}
        if not held:
            return [*found, Finding("ok", f"{' and '.join(map(str, RAYS_PORTS))} (Ray's own) are free")]
        said = " and ".join(f"{port} ({RAYS_PORTS[port]}) is held by {holder}" for port, holder in held.items())
        return [*found, Finding("notice", said, "A head that is started by hand here needs other ports.")]


def _service(config: Config) -> Sequence[Finding]:
    service = config.service
    where = f"{service.host}:{service.port}"
    move = "Stop it, or set service.port to another."
    try:
        said = ask(service_url(config), service.access)
    except ServiceError as error:
        return [Finding("failed", f"{where}: {error} It is {_who(service.port) or 'not ours'}".rstrip("."), move)]
    if said is None:
        try:
            check_port(service.host, service.port)
        except ClusterError:
            holder = _who(service.port) or "another program"
            return [Finding("failed", f"{where} (service.port) is held by {holder}", move)]
        return [Finding("ok", f"{where} (the service's) is free"), *_ingress(config)]
    if said.get("service", config.name) != config.name:
        return [Finding("failed", f"{where} (service.port) is held by service '{said['service']}'", move)]
    roots = {ancestor_of(pid) for pid in listeners(service.port)}
    if len(roots) > 1:
        programs = " and ".join(f"'{_shown(each)}' (process {each})" for each in sorted(roots))
        seen = f"two programs listen on port {service.port} at once, and each gets a part of the requests: {programs}"
        return [Finding("failed", seen, "Stop the one that should not.")]
    return [Finding("ok", f"{where} (the service's): version {said['stable']} of '{config.name}' answers")]


def _ingress(config: Config) -> Sequence[Finding]:
    """Return which of the ingress's other ports are taken; nothing where all are free."""
    service = config.service
    settings = ingress_environment(service.host, service.port, config.storage, service.ingress)
    taken = [port for name in OWN_PORTS if name in settings and not _free("127.0.0.1", port := int(settings[name]))]
    if not taken:
        return []
    said = " and ".join(f"{port} by {_who(port) or 'another program'}" for port in taken)
    return [Finding("failed", f"HAProxy's own ports are held: {said}", "Stop it, or set service.port to another.")]


def _free(host: str, port: int) -> bool:
    with suppress(ClusterError):
        check_port(host, port)
        return True
    return False


def _who(port: int) -> str:
    """Return who listens on a port, empty where that cannot be seen."""
    pids = listeners(port)
    return f"'{_shown(pids[0])}' (process {pids[0]})" if pids else ""


def _shown(pid: int) -> str:
    """Return the beginning of a command line, without the folder of its program."""
    program, space, rest = command_of(pid).partition(" ")
    return f"{Path(program).name}{space}{rest}"[:60]


def listeners(port: int) -> list[int]:
    """Return the processes that listen on a port, as far as this user may see them."""
    sockets = _listening(port)
    folders = [each for each in Path("/proc").iterdir() if each.name.isdecimal()] if sockets else []
    return sorted(int(each.name) for each in folders if _holds(each / "fd", sockets))


def command_of(pid: int) -> str:
    """Return the command line of a process, empty where it has ended."""
    return next((each.command for each in processes.listed(pid)), "")


def ancestor_of(pid: int) -> int:
    """Return the oldest process that a process descends from, below the one that starts all others."""
    parents = {each.pid: each.parent for each in processes.listed()}
    while parents.get(pid, 1) > 1:
        pid = parents[pid]
    return pid


def _listening(port: int) -> set[str]:
    """Return the sockets that listen on a port, as links of open files name them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{words[9]}]")
    return found


def _holds(files: Path, sockets: set[str]) -> bool:
    with suppress(OSError):
        for each in files.iterdir():
            with suppress(OSError):
                if os.readlink(each) in sockets:
                    return True
    return False


def reaches(host: str, port: int, seconds: float) -> str:
    """Return why a connection cannot be made, empty where it can."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return ""
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
