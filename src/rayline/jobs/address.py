"""Where a cluster's job server is, read from what people write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from rayline.errors import UsageError

DEFAULT = "http://127.0.0.1:8265"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def job_server(address: str | None, environment: Mapping[str, str] | None = None) -> str:
    """Return the job server's URL: as given, RAY_API_SERVER_ADDRESS, RAY_ADDRESS where it is one, or Ray's own.

    Args:
        address: a URL, or ``host:port`` for plain HTTP.
        environment: variables; default: those of this process.

    Raises:
        UsageError: it is no address of a job server.
    """
    environment = os.environ if environment is None else environment
    named = address or environment.get("RAY_API_SERVER_ADDRESS")
    if not named:
        joined = environment.get("RAY_ADDRESS", "")
        named = joined if joined.startswith(("http://", "https://")) else DEFAULT
    url = named if "://" in named else f"http://{named}"
    parts = urlsplit(url)
    if parts.scheme == "ray":
        raise UsageError(
            f"'{named}' is Ray Client's address. Jobs go to the dashboard's, such as http://{parts.hostname}:8265."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"'{named}' is no address of a job server: it must read http://HOST:8265, the dashboard's.")
    return url.rstrip("/")


def on_loopback(url: str) -> bool:
    """Tell whether a URL leads to this machine, or to a tunnel that begins on it."""
    return urlsplit(url).hostname in LOOPBACK
