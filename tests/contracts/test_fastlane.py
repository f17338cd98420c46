"""Connections taken over from a real HTTP server: any bytes get the answer that the server alone would give."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from protocol_app import App
from rayline.serving.http import fastlane
from rayline.serving.http.frontdoor import FrontDoor
from rayline.serving.versions.answering import Limits

LIMITS = Limits(max_rows=100, max_ongoing=3, max_queued=1, max_body=20_000)
WAIT = 10.0


async def serve_says(scope: Any, receive: Any, send: Any) -> None:
    """What stands behind the front door."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"behind"})


class Server:
    """The application on uvicorn, as a replica runs it, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.app = App(folder, "binary", LIMITS)
        front = FrontDoor(serve_says, self.app.endpoint)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(front, lifespan="off", log_config=None, http="httptools", timeout_keep_alive=60)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self.socket]))

    def stop(self) -> None:
        self.server.should_exit = True

    def taken_over(self) -> int:
        return sum(isinstance(each, fastlane.Connection) for each in list(self.server.server_state.connections))


class Client:
    """A raw keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.file = self.socket.makefile("rb")

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value
        return status, headers, self.file.read(int(headers["content-length"]))

    def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        self.send(raw)
        return self.reply()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("fastlane"))
    yield server
    server.stop()
    server.thread.join(WAIT)
    assert not server.thread.is_alive()
    server.app.log.close()


@pytest.fixture
def client(server: Server, rows: bytes) -> Iterator[Client]:
    """A connection that was taken over."""
    client = Client(server.port)
    before = server.taken_over()
    assert client.ask(post(rows))[0] == 200
    until(lambda: server.taken_over() == before + 1)
    yield client
    client.close()
    until(lambda: server.taken_over() <= before)


@pytest.fixture(scope="module")
def rows(server: Server) -> bytes:
    return json.dumps({"rows": server.app.rows[:1]}).encode()


def post(body: bytes, *headers: str, path: str = "/churn/predict", length: int | None = None) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: here",
        *headers,
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def test_an_answer_is_that_of_the_full_server(server: Server, client: Client, rows: bytes) -> None:
    other = Client(server.port)
    slow = other.ask(post(rows, "x-rayline-version: 2"))
    fast = client.ask(post(rows, "X-Rayline-Version: 2"))
    other.close()
    for status, headers, body in (slow, fast):
        answer = json.loads(body)
        assert status == 200
        assert headers["x-request-id"] == answer["request_id"]
        assert headers["x-rayline-version"] == "2" == str(answer["version"])
    assert list(fast[1]) == list(slow[1])
    assert json.loads(fast[2])["predictions"] == json.loads(slow[2])["predictions"]


def test_sessions_stick_as_everywhere(server: Server, client: Client, rows: bytes) -> None:
    for number in range(20):
        version = client.ask(post(rows, f"x-session-id: s{number}"))[1]["x-rayline-version"]
        assert version == str(server.app.host.choose(f"s{number}", None).live.number)


def test_requests_that_come_together_are_answered_in_order(client: Client, rows: bytes) -> None:
    pins = [1, 2, 2, 1, 2] * 4
    client.send(b"".join(post(rows, f"x-rayline-version: {pin}") for pin in pins))
    assert [int(client.reply()[1]["x-rayline-version"]) for _ in pins] == pins


def test_many_refused_requests_at_once_do_not_exhaust_the_stack(client: Client) -> None:
    client.send(post(b"{}") * 1500)
    assert {client.reply()[0] for _ in range(1500)} == {422}


@pytest.mark.parametrize("cut", [1, 20, 60, 120, 400])
def test_a_request_may_come_in_pieces(client: Client, rows: bytes, cut: int) -> None:
    whole = post(rows)
    for start in range(0, len(whole), cut if cut > 1 else len(whole) - 1):
        client.send(whole[start : start + (cut if cut > 1 else len(whole) - 1)])
        time.sleep(0.002)  # so that the pieces arrive apart, which the answer may not show
    assert client.reply()[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /churn/v2/health/ready HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (b"GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (b"GET /churn/predict HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (post(b'{"request_id": "no", "label": 1}', path="/churn/feedback"), 422),
        (post(b"not json"), 422),
        (post(b'{"rows": [{"x": 1}]}'), 422),
        (post(b"{}", "x-rayline-version: 9"), 404),
        (post(b" " * 20_001), 413),
        (post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"") + b"2\r\n{}\r\n0\r\n\r\n", 422),
        (post(b"{}", "Expect: 100-continue"), 100),
        (post(b"{}", "A: b").replace(b"HTTP/1.1", b"HTTP/1.0"), 422),
        (post(b"{}", path="/churn/predict?a=1"), 422),
    ],
)
def test_everything_else_goes_back_to_the_server(client: Client, rows: bytes, raw: bytes, status: int) -> None:
    client.send(raw)
    if status == 100:
        assert client.file.readline().split()[1] == b"100"
        client.file.readline()
        status = 422
    found, headers, _ = client.reply()
    assert found == status
    if headers.get("connection") != "close" and b"HTTP/1.0" not in raw:
        assert client.ask(post(rows))[0] == 200, "the connection lives on"


PIN = "x-rayline-version: 1"
HOSTILE = [
    post(b"{}", PIN, "Content-Length: 2"),
    post(b"{}", PIN, "Content-Length: 3"),
    post(b"{}", PIN, "Content-Length: -1"),
    post(b"{}", PIN, "Content-Length: +2"),
    post(b"{}", PIN, "Transfer-Encoding: chunked"),
    post(b"{}", PIN, "Transfer-Encoding: keep-alive"),
    post(b"{}", PIN, "Expect: keep-alive"),
    post(b"{}", PIN, "A : b"),
    post(b"{}", PIN, "A: b\nC: d"),
    post(b"{}", PIN, " folded: b"),
    post(b"{}", PIN, "A: \x00"),
    post(b"{}", PIN, "Connection: close"),
    post(b"{}", PIN, "Connection: upgrade"),
    post(b"{}", PIN, "A: " + "b" * 70_000),
    post(b"{}", PIN, *(f"A{place}: b" for place in range(300))),
    post(b"{}", PIN).replace(b"\r\n", b"\n"),
    post(b"{}", PIN).replace(b"HTTP/1.1", b"HTTP/1.1 "),
    post(b"{}", PIN).replace(b"POST", b"post"),
    post(b"{}", PIN).replace(b"Content-Length: 2", b"Content-Length: 2, 2"),
    post(b"{}", PIN).replace(b"Content-Length: 2", "Content-Length: \u0662".encode()),
    b"\x00" * 100,
    b"\r\n" * 4,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bytes_are_answered_as_by_the_full_server(server: Server, client: Client, raw: bytes) -> None:
    def said(to: Client) -> bytes:
        to.send(raw)
        to.socket.shutdown(socket.SHUT_WR)
        return re.sub(rb"(?i)date: [^\r]*", b"", to.file.read())

    fresh = Client(server.port)
    expected = said(fresh)
    fresh.close()
    assert said(client) == expected


def test_a_stopping_server_answers_what_is_under_way_and_closes(tmp_path: Path) -> None:
    server = Server(tmp_path)
    body = json.dumps({"rows": server.app.rows[:1]}).encode()
    clients = [Client(server.port) for _ in range(2)]
    for client in clients:
        assert client.ask(post(body))[0] == 200
    until(lambda: server.taken_over() == 2)
    slow = Slow(server.app)
    clients[0].send(post(body))
    until(lambda: slow.passes)
    server.stop()
    assert clients[1].file.read() == b"", "an idle connection is closed"
    slow.go.set()
    status, headers, answer = clients[0].reply()
    assert (status, headers["connection"]) == (200, "close")
    assert json.loads(answer)["predictions"]
    assert clients[0].file.read() == b""
    for client in clients:
        client.close()
    server.thread.join(WAIT)
    assert not server.thread.is_alive()
    server.app.log.close()


class Slow:
    """Makes the versions of an application slow, until they may go on."""

    def __init__(self, app: App) -> None:
        self.go = threading.Event()
        self.passes = 0
        choose = app.host.choose
        slow = self

        class Version:
            def __init__(self, served: Any) -> None:
                self._served = served

            def __getattr__(self, name: str) -> Any:
                return getattr(self._served, name)

            def seconds(self, rows: int) -> float:
                return 1.0

            def predict_many(self, requests: Any) -> Any:
                slow.passes += 1
                assert slow.go.wait(WAIT)
                return self._served.predict_many(requests)

        known: dict[int, Any] = {}
        app.host.choose = lambda *key: known.setdefault(id(choose(*key)), Version(choose(*key)))  # type: ignore[method-assign]


def test_more_requests_than_may_wait_are_told_to_come_again(tmp_path: Path) -> None:
    server = Server(tmp_path)
    body = json.dumps({"rows": server.app.rows[:1]}).encode()
    clients = [Client(server.port) for _ in range(5)]
    for client in clients:
        assert client.ask(post(body))[0] == 200
    until(lambda: server.taken_over() == 5)
    slow = Slow(server.app)
    for count, client in enumerate(clients[:4], start=1):
        client.send(post(body, "x-rayline-version: 1"))
        until(lambda count=count: server.app.endpoint.answering.under_way == count)
    status, headers, answer = clients[4].ask(post(body))
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert "4 requests under way" in json.loads(answer)["error"]
    clients[3].close()  # it waits for its pass, and nobody waits for it any more
    until(lambda: server.app.endpoint.answering.under_way == 3)
    slow.go.set()
    assert [client.reply()[0] for client in clients[:3]] == [200] * 3
    assert clients[4].ask(post(body))[0] == 200
    for client in (*clients[:3], clients[4]):
        client.close()
    server.stop()
    server.thread.join(WAIT)
    server.app.log.close()


def test_an_unknown_server_keeps_its_connections(server: Server, monkeypatch: pytest.MonkeyPatch, rows: bytes) -> None:
    monkeypatch.setattr(fastlane, "SERVER", "another.server")
    before = server.taken_over()
    client = Client(server.port)
    assert [client.ask(post(rows))[0] for _ in range(3)] == [200] * 3
    assert server.taken_over() == before
    client.close()
