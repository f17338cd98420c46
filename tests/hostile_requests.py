"""Hostile requests to a service: good ones of each protocol, changed at random, and raw bytes for a real socket.

The same seed gives the same requests. What is right about an answer is small: it is whole, and it is no 5xx.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

LENGTH = "inference-header-content-length"
TEXTS = (
    "",
    "x",
    "NaN",
    "-1",
    "1e999",
    "\x00",
    "\ud800",
    "ä" * 300,
    "9" * 400,
    "__class__",
    "../../etc/passwd",
    "{}",
    "true",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.0, -0.0, 1e-320, 1e308, -1e308, 0.1, 1e100, 99e99)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, [[1], [2, 3]], [1e9] * 40)
METHODS = ("POST",) * 16 + ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "X")


@dataclass(frozen=True)
class Request:
    """One request as ASGI has it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def good_requests(rows: list[dict[str, Any]], metadata: dict[str, Any], service: str = "churn") -> list[Request]:
    """Return one good request of each protocol for rows that have no gap."""
    model = f"/{service}/v2/models/{service}"
    tensors, binary, tail = [], [], b""
    for each in metadata["inputs"]:
        values = [row[each["name"]] for row in rows]
        shape = [len(rows), *each["shape"][1:]]
        values = [str(value) for value in values] if each["datatype"] == "BYTES" else values
        tensors.append({"name": each["name"], "shape": shape, "datatype": each["datatype"], "data": values})
        packed = _packed(each["datatype"], values)
        facts = {"name": each["name"], "shape": shape, "datatype": each["datatype"]}
        binary.append({**facts, "parameters": {"binary_data_size": len(packed)}})
        tail += packed
    head = json.dumps({"id": "7", "inputs": binary, "parameters": {"binary_data_output": True}}).encode()
    columns = list(rows[0])
    split = {"columns": columns, "data": [list(row.values()) for row in rows]}
    flat = not any(isinstance(value, list) for value in rows[0].values())
    csv = "\n".join([",".join(columns), *(",".join(str(value) for value in row.values()) for row in rows)])
    return [
        _json(f"/{service}/predict", {"rows": rows}),
        _json(f"/{service}/invocations", {"dataframe_split": split}),
        _json(f"/{service}/invocations", {"dataframe_records": rows}),
        _json(f"/{service}/invocations", {"inputs": {name: [row[name] for row in rows] for name in columns}}),
        *([Request("POST", f"/{service}/invocations", {"content-type": "text/csv"}, csv.encode())] if flat else []),
        _json(f"{model}/infer", {"inputs": tensors}),
        Request("POST", f"{model}/versions/1/infer", {LENGTH: str(len(head))}, head + tail),
        _json(f"/{service}/feedback", {"request_id": "1-00c0ffee00000001", "label": "x"}),
    ]


def hostile(random: Random, good: list[Request]) -> Request:
    """Return one request that began as a good one."""
    request = random.choice(good)
    for _ in range(random.randint(1, 3)):
        request = random.choice(_CHANGES)(random, request)
    return request


def _packed(datatype: str, values: Any) -> bytes:
    import numpy as np

    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in values)
    return np.array(values, {"FP64": "<f8", "FP32": "<f4", "BOOL": "?"}[datatype]).tobytes()


def _json(path: str, value: Any) -> Request:
    return Request("POST", path, {"content-type": "application/json"}, json.dumps(value).encode())


def _nasty(random: Random) -> Any:
    kind = random.random()
    if kind < 0.35:
        return random.choice(TEXTS)
    if kind < 0.7:
        return random.choice(NUMBERS)
    return copy.deepcopy(random.choice(OTHERS))


def _change_value(random: Random, request: Request) -> Request:
    """Change, drop or add one value at any depth of the JSON."""
    length = request.headers.get(LENGTH, "")
    size = int(length) if length.isdecimal() and len(length) < 12 else len(request.body)
    try:
        value = json.loads(request.body[:size])
    except (ValueError, RecursionError):
        return request
    at: Any = value
    while isinstance(at, dict | list) and at:
        key = random.choice(list(at)) if isinstance(at, dict) else random.randrange(len(at))
        if not isinstance(at[key], dict | list) or not at[key] or random.random() < 0.3:
            action = random.random()
            if action < 0.7:
                at[key] = _nasty(random)
            elif action < 0.85:
                del at[key]
            elif isinstance(at, dict):
                at[random.choice(TEXTS)] = _nasty(random)
            else:
                at.insert(key, _nasty(random))
            break
        at = at[key]
    head = json.dumps(value).encode()
    headers = {**request.headers, LENGTH: str(len(head))} if LENGTH in request.headers else request.headers
    return replace(request, headers=headers, body=head + request.body[size:])


def _change_bytes(random: Random, request: Request) -> Request:
    body = bytearray(request.body)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(body) + 1)
        action = random.randrange(5)
        if action == 0 and at < len(body):
            body[at] = random.randrange(256)
        elif action == 1:
            del body[at : at + random.randint(1, 40)]
        elif action == 2:
            body[at:at] = random.randbytes(random.randint(1, 12))
        elif action == 3:
            body[at:at] = random.choice(
                (b"[" * 3000, b'{"a":' * 3000, b"\xff\xfe", b"NaN", b"1e999", b"9" * 5000, b"\\u0000")
            )
        else:
            body = body[:at] + body[random.randrange(len(body) + 1) :]
    return replace(request, body=bytes(body))


def _change_header(random: Random, request: Request) -> Request:
    name, values = random.choice(
        (
            (LENGTH, ("0", "-1", "1", "99999999999", "9" * 5000, "x", "1.5", str(len(request.body)), "\xb2")),
            ("x-rayline-version", ("1", "2", "9", "", "-1", "9" * 5000, "\xb2", "1e3")),
            ("x-session-id", ("", "a", "\xff" * 900, "9" * 5000)),
            (
                "content-type",
                ("", "text/csv", "application/json; charset=utf-8", "application/json;;", "x/y", "text/csv; charset=x"),
            ),
            ("content-encoding", ("gzip", "identity", "")),
            ("authorization", ("Bearer", "Bearer x", "\xff", "Basic \xff")),
        )
    )
    return replace(request, headers={**request.headers, name: random.choice(values)})


def _change_path(random: Random, request: Request) -> Request:
    part = random.choice(
        ("/churn", "/versions/1", "/versions/" + "9" * 5000, "/v2", "/infer", "/%00", "//", "/..", "/ä", "?x", "/ready")
    )
    at = random.randrange(len(request.path) + 1)
    paths = (request.path + part, request.path[:at] + part + request.path[at:], request.path[:at], request.path.upper())
    return replace(request, path=random.choice(paths) or "/")


def _change_method(random: Random, request: Request) -> Request:
    return replace(request, method=random.choice(METHODS))


def _random_body(random: Random, request: Request) -> Request:
    return replace(request, body=random.randbytes(random.choice((0, 1, 7, 100, 4000))))


_CHANGES: tuple[Callable[[Random, Request], Request], ...] = (
    *(_change_value,) * 8,
    *(_change_bytes,) * 4,
    *(_change_header,) * 3,
    _change_path,
    _change_method,
    _random_body,
)


def raw_attacks(body: bytes, path: str = "/churn/predict") -> Iterator[tuple[str, list[bytes]]]:
    """Give names and pieces of bytes for a socket; between pieces the sender waits a moment.

    Args:
        body: of a good request to ``path``.
        path: that takes it.
    """
    line = f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode()
    good = line + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def lying(value: bytes) -> bytes:
        return line + b"Content-Length: " + value + b"\r\n\r\n" + body

    yield "a good request", [good]
    for value in (b"-1", b"99999999999999999999", b"x", b"0x10", b"1e3", b"+5", b" ", b"5, 6", b"9" * 5000):
        yield f"a length of {value[:24]!r}", [lying(value)]
    yield "a length beyond the body", [lying(b"%d" % (len(body) + 1000))]
    yield "a length before the body", [lying(b"%d" % (len(body) - 5))]
    yield "a length beyond the limit", [lying(b"%d" % 2**31)]
    yield "two lengths", [line + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body]
    chunked = line + b"Transfer-Encoding: chunked\r\n\r\n"
    yield "good chunks", [chunked, b"%x\r\n" % len(body) + body + b"\r\n", b"0\r\n\r\n"]
    for size in (b"zz", b"-5", b"ffffffffffffffff", b"7fffffffffffffff", b"f" * 400):
        yield f"a chunk of {size[:20]!r}", [chunked + size + b"\r\n" + body]
    yield "length and chunks", [line + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + good]
    yield "many headers", [line + b"".join(b"h%d: v\r\n" % each for each in range(3000)) + b"\r\n"]
    yield "a long header", [line + b"h: " + b"v" * 400_000 + b"\r\n\r\n"]
    yield "a long path", [b"POST /churn/" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n"]
    yield "a header without an end", [line + b"x" * 5000]
    yield (
        "a body byte by byte",
        [line + b"Content-Length: %d\r\n\r\n" % len(body), *(body[at : at + 1] for at in range(8))],
    )
    yield "no body at all", [line + b"Content-Length: 100\r\n\r\n"]
    yield "many at once", [good * 60]
    yield "good, then garbage", [good, b"\x00\xff garbage\r\n\r\n"]
    yield "good, then a lie", [good, lying(b"-1")]
    yield "good, then half a head", [good, line[:20]]
    yield "good, then a long head", [good, line + b"h: " + b"v" * 40_000 + b"\r\n\r\n"]
    yield "bare line feeds", [good.replace(b"\r\n", b"\n")]
    yield "a folded header", [line + b"a: b\r\n c\r\nContent-Length: 2\r\n\r\n{}"]
    yield "nothing", [b""]
    yield "nothing but lines", [b"\r\n" * 5000]
    yield "another protocol", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    yield "TLS", [bytes.fromhex("16030100a5010000a10303") + bytes(160)]
    yield "zeros", [bytes(4096)]
    yield "an upgrade", [line + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}"]
    yield "expect", [line + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body), body]
