"""What is too large, too deep or too slow for one request: told to its client, and never held against a version."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol_app import App, send
from rayline.serving.http import endpoint as endpoint_module
from rayline.serving.versions.answering import Limits
from rayline.serving.versions.served import Served


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("binary"), "binary")
    yield app
    app.log.close()


@pytest.mark.parametrize("path", ["/churn/feedback", "/churn/predict"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_body_over_the_limit_is_413(app: App, monkeypatch: pytest.MonkeyPatch, path: str, parts: int) -> None:
    monkeypatch.setattr(app.endpoint, "limits", replace(app.endpoint.limits, max_body=1000))
    reply = app.ask("POST", path, b" " * 1001, parts=parts)
    assert reply.status == 413
    assert "1001 bytes were sent, and a body may have 1000" in reply.json["error"]


def test_a_label_too_large_to_count_is_422(tmp_path: Path) -> None:
    app = App(tmp_path, "regression")
    answer = app.predict(app.rows[:1]).json
    body = b'{"request_id": "%b", "label": %b}' % (answer["request_id"].encode(), b"9" * 400)
    reply = app.ask("POST", "/churn/feedback", body)
    assert reply.status == 422
    assert "must be a finite number" in reply.json["rule"]
    body = body.replace(b"9" * 400, b"9")
    assert app.ask("POST", "/churn/feedback", body).json["status"] == "joined"
    app.log.close()


@pytest.mark.parametrize("body", [b'{"rows":' + b"[" * 10_000, b'{"rows":[{"mean area":' + b"[" * 10_000])
def test_a_body_nested_too_deep_is_the_clients_fault(app: App, body: bytes) -> None:
    before = {number: each.counters.snapshot() for number, each in app.host.table.versions.items()}
    assert app.ask("POST", "/churn/predict", body).status == 422
    assert {number: each.counters.snapshot() for number, each in app.host.table.versions.items()} == before


@pytest.mark.parametrize(("rows", "row_seconds", "inline"), [(1, 0.001, True), (4, 0.001, False), (100, 0.0, True)])
def test_rows_that_cost_much_are_answered_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, row_seconds: float, inline: bool
) -> None:
    app = App(tmp_path, "multiclass")
    threads: list[str] = []

    class Slow:
        """A version of a known price that notes where it runs."""

        def __init__(self, served: Served) -> None:
            self._served = served

        def __getattr__(self, name: str) -> Any:
            return getattr(self._served, name)

        def seconds(self, count: int) -> float:
            return replace(self._served, call_seconds=0.0, row_seconds=row_seconds).seconds(count)

        def predict_many(self, requests: Any) -> Any:
            threads.append(threading.current_thread().name)
            return self._served.predict_many(requests)

    monkeypatch.setattr(endpoint_module, "INLINE_BYTES", 10_000_000)
    choose = app.host.choose
    monkeypatch.setattr(app.host, "choose", lambda *key: Slow(choose(*key)))
    assert app.predict(app.rows[:1] * rows).status == 200
    assert [name.startswith("rayline-slow") for name in threads] == [not inline]
    app.log.close()


class Stuck:
    """A version that answers when it is told to, and is known to be slow."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.go = threading.Event()
        self.passes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._served, name)

    def seconds(self, count: int) -> float:
        return 1.0

    def predict_many(self, requests: Any) -> Any:
        self.passes.append(len(requests))
        assert self.go.wait(10)
        return self._served.predict_many(requests)


def test_a_request_that_is_not_answered_in_time_is_503_and_counts_against_its_version(tmp_path: Path) -> None:
    app = App(tmp_path, "binary", Limits(timeout=0.05))
    stuck = Stuck(app.host.choose(None, "1"))
    app.host.choose = lambda *key: stuck  # type: ignore[method-assign, assignment, return-value]
    reply = app.predict(app.rows[:1])
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.headers["x-rayline-version"] == "1"
    assert "in the time that a request may take" in reply.json["error"]
    stuck.go.set()
    assert stuck.counters.snapshot().errors == 1
    app.log.close()


def test_a_body_that_does_not_come_is_503(tmp_path: Path) -> None:
    app = App(tmp_path, "binary", Limits(timeout=0.05))
    replies: list[Any] = []

    async def drips() -> Any:
        if not replies:
            replies.append("begun")
            return {"type": "http.request", "body": b"{", "more_body": True}
        return await asyncio.Event().wait()

    async def keep(message: Any) -> None:
        replies.append(message)

    scope = {"type": "http", "method": "POST", "path": "/churn/predict", "client": ("127.0.0.1", 1), "headers": []}
    asyncio.run(asyncio.wait_for(app.endpoint(scope, drips, keep), 10))
    assert replies[1]["status"] == 503
    assert b"did not come within" in replies[2]["body"]
    app.log.close()


def test_requests_beyond_what_a_replica_may_hold_are_503_and_the_others_are_answered(tmp_path: Path) -> None:
    app = App(tmp_path, "binary", Limits(max_ongoing=2, max_queued=1))
    stuck = Stuck(app.host.choose(None, "1"))
    app.host.choose = lambda *key: stuck  # type: ignore[method-assign, assignment, return-value]
    body = json.dumps({"rows": app.rows[:1]}).encode()

    async def ask() -> Any:
        def one() -> Any:
            return send(app.endpoint, "POST", "/churn/predict", body, {}, "127.0.0.1", 1)

        held = [asyncio.ensure_future(one()) for _ in range(3)]
        while app.endpoint.answering.under_way < 3:
            await asyncio.sleep(0)
        refused = await one()
        stuck.go.set()
        return refused, await asyncio.gather(*held), await one()

    refused, held, later = asyncio.run(ask())
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "3 requests under way" in refused.json["error"]
    assert [each.status for each in (*held, later)] == [200] * 4
    assert stuck.counters.snapshot().errors == 0, "the replica's load is no fault of the version"
    app.log.close()
