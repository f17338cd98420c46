"""Ports of this machine that nobody listens on, and who takes which, so that clusters beside each other do not meet.

10002 to 19999      Ray's workers
20000 to 21999      local heads: their control ports, then those of Ray Client
22600 to 26599      the ingress' own pages, four for each address of a service (``serving.http.ingress``)
26600 to 32700      replicas, a hundred for each address, around Serve's own 30000 to 30999
32768 to 60999      outgoing connections, as Linux has it
"""

from __future__ import annotations

import secrets
import socket

from rayline.errors import ClusterError

CONTROL, CLIENT = range(20_000, 21_000), range(21_000, 22_000)


def free_port(among: range = CONTROL) -> int:
    """Return a free port of a range, any of them. Raises ``ClusterError``."""
    offset = secrets.randbelow(len(among))
    for place in range(len(among)):
        port = among[(offset + place) % len(among)]
        with socket.socket() as candidate:
            try:
                candidate.bind(("", port))
            except OSError:
                continue
            return port
    raise ClusterError(f"no free port between {among[0]} and {among[-1]}.")
