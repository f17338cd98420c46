"""Ports of this machine that nobody listens on."""

from __future__ import annotations

import secrets
import socket

from rayline.errors import ClusterError


def free_port(from_port: int = 20000) -> int:
    """Return a free port outside the range that Ray gives to its workers (10002 to 19999). Raises ``ClusterError``."""
    offset = secrets.randbelow(2000)
    for port in range(from_port + offset, from_port + offset + 500):
        with socket.socket() as candidate:
            try:
                candidate.bind(("", port))
            except OSError:
                continue
            return port
    raise ClusterError(f"no free port between {from_port + offset} and {from_port + offset + 500}.")
