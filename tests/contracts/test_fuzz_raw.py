"""Requests changed at random and raw bytes on sockets: each has an answer, none is a 5xx, and the replica lives on."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_requests import LENGTH, Request, good_requests, hostile, raw_attacks
from live_app import listening
from protocol_app import App, Reply, send

POSTS = (
    "/churn/predict",
    "/churn/feedback",
    "/churn/invocations",
    "/churn/v2/models/churn/infer",
    "/churn/v2/models/churn/versions/1/infer",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["rows", "inputs", "instances", "dataframe_split", "dataframe_records", "outputs", "id", "parameters", "label"]
)


@pytest.fixture(scope="module", params=["mixed", "arrays"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp(request.param), request.param, peers=None)
    yield app
    app.log.close()


@pytest.fixture(scope="module")
def good(app: App) -> list[Request]:
    rows = [row for row in app.rows if all(value is not None for value in row.values())]
    return good_requests(rows, app.ask("GET", "/churn/v2/models/churn").json)


def answered(app: App, request: Request) -> Reply:
    """Return the answer; it is whole, no 5xx, and says why where it is a refusal."""
    reply = asyncio.run(
        send(app.endpoint, request.method, request.path, request.body, latin(request.headers), "127.0.0.1", 1)
    )
    assert reply.status < 500, (request, reply.raw)
    if reply.status >= 400:
        assert json.loads(reply.raw)["error"]
    return reply


def latin(headers: dict[str, str]) -> dict[str, str]:
    return {key: value.encode("latin-1", "replace").decode("latin-1") for key, value in headers.items()}


def test_the_good_requests_are_good(app: App, good: list[Request]) -> None:
    assert {answered(app, each).status for each in good[:-1]} == {200}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150)
def test_a_changed_request_is_answered(app: App, good: list[Request], seed: int) -> None:
    answered(app, hostile(Random(seed), good))


@given(
    path=st.sampled_from(POSTS), body=st.binary(max_size=300), length=st.none() | st.text("0123456789-x", max_size=6)
)
@settings(max_examples=100)
def test_any_bytes_are_answered(app: App, path: str, body: bytes, length: str | None) -> None:
    answered(app, Request("POST", path, {} if length is None else {LENGTH: length}, body))


@given(path=st.sampled_from(POSTS), body=st.dictionaries(KEYS, JSON, max_size=3) | JSON)
@settings(max_examples=100)
def test_any_json_is_answered(app: App, path: str, body: Any) -> None:
    answered(app, Request("POST", path, {}, json.dumps(body).encode("utf-8", "replace")))


def spoken(port: int, pieces: list[bytes]) -> list[bytes]:
    """Return the status lines that a real server answers to some bytes before it is silent or hangs up."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), 10) as wire:
        wire.settimeout(0.3)
        try:
            for piece in pieces:
                wire.sendall(piece)
                time.sleep(0.001)
            while part := wire.recv(65_536):
                data += part
        except OSError:
            pass
    return [line for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def test_a_real_server_lives_through_raw_bytes(app: App, good: list[Request]) -> None:
    with listening(app.endpoint) as port:
        for name, pieces in raw_attacks(good[0].body):
            said = spoken(port, pieces)
            assert not any(line.startswith(b"HTTP/1.1 5") for line in said), name
        deadline = time.monotonic() + 30
        _, pieces = next(raw_attacks(good[0].body))
        while spoken(port, pieces) != [b"HTTP/1.1 200 OK"]:
            assert time.monotonic() < deadline, "a good request is not answered any more"
