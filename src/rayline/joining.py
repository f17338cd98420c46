"""Why a cluster cannot be joined: each cause with its own way out.

Ray tells most of them alike, and after minutes where nothing listens: "Failed to connect to Ray cluster". So what
listens at the address is asked before, which takes milliseconds.
"""

from __future__ import annotations

import http.client
import re
import socket
import time
from typing import Literal

Listener = Literal["nothing", "control", "refuses", "http", "other", "unknown"]

TIMEOUT_S = 5.0
BACK_S = 10.0
_METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def refusal(address: str, token: str, source: str, *, patience: float = BACK_S) -> str:
    """Return why a cluster cannot be joined, and the way out; nothing where it can, or where only trying tells.

    Args:
        address: ``host:port`` of its control port, or ``auto``.
        token: the secret; empty for none.
        source: where it was found, or that none was.
        patience: seconds in which a head that is being started anew may come back.
    """
    deadline = time.monotonic() + patience
    while True:
        found = listening(address, token)
        if found not in ("nothing", "other") or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    match found:
        case "refuses" if not token:
            return (
                f"the cluster at {address} asks for a token, and {source}. Set RAY_AUTH_TOKEN_PATH to the file that "
                "the cluster was started with."
            )
        case "refuses":
            return (
                f"the cluster at {address} refuses the token from {source}: it was started with another one. Set "
                "RAY_AUTH_TOKEN_PATH to that cluster's file."
            )
        case "nothing":
            return (
                f"nothing listens at '{address}'. Check host and port: the control port is the one that "
                "`ray start --head` names, 6379 by default."
            )
        case "http":
            return (
                f"'{address}' is an HTTP address such as a dashboard's, not a cluster's control port (6379 by "
                "default). Send jobs there with `rayline submit CONFIG --address`."
            )
        case "other":
            return f"what listens at '{address}' is no Ray cluster. Check host and port."
        case _:
            return ""


def why_not(address: str, error: Exception) -> str:
    """Return why joining failed although something listens there, and the way out."""
    said = str(error)
    if "Version mismatch" in said and (found := _VERSIONS.findall(said)):
        theirs, ours = found[0], found[-1]
        return (
            f"the cluster at '{address}' runs Ray {theirs[0]} on Python {theirs[1]}, this process Ray {ours[0]} on "
            f"Python {ours[1]}: a driver needs the same Ray and the same minor version of Python. Send the work as a "
            "job instead (`rayline submit`), which runs on the cluster's own, or use an environment like its image."
        )
    return (
        f"Ray at '{address}' cannot be joined: {_short(said)}. Check the address, the token (RAY_AUTH_MODE, "
        "RAY_AUTH_TOKEN_PATH) and that the cluster runs the same Ray and Python versions."
    )


def listening(address: str, token: str) -> Listener:
    """Tell what listens at ``host:port``; ``unknown`` for an address of another form, such as ``auto``."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or "/" in host:
        return "unknown"
    try:
        socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
    except OSError:
        return "nothing"
    return _control(address, token) or ("http" if _speaks_http(host, int(port)) else "other")


def _control(address: str, token: str) -> Literal["control", "refuses"] | None:
    """Ask as a Ray process does when it joins."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(_METHOD)
        metadata = [("authorization", f"Bearer {token}")] if token else None
        try:
            call(b"", timeout=TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return "refuses"
            return None if error.code() == grpc.StatusCode.UNAVAILABLE else "control"
    return "control"


def _speaks_http(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/api/version")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no reason was given"
