"""What is too large, too deep or too slow for one request: told to its client, and never held against a version."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol_app import App
from rayline.serving import endpoint as endpoint_module
from rayline.serving.served import Served


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
