"""Tokens on real connections, which an ingress shares among its clients: each request shows its own."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_app import listening
from protocol_app import App
from rayline.serving.http.access import Tokens

ASK, ADMIN = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("binary"), "binary", tokens=Tokens(ASK.encode(), ADMIN.encode()))
    yield app
    app.log.close()


def status(connection: http.client.HTTPConnection, method: str, path: str, body: object, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request(method, f"/churn{path}", None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    reply.read()
    assert (reply.getheader("www-authenticate") is not None) == (reply.status == 401)
    return reply.status


def test_each_request_of_a_connection_shows_its_own_token(app: App) -> None:
    rows = {"rows": app.rows}
    with listening(app.endpoint) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(3):
            assert status(connection, "POST", "/predict", rows, None) == 401
            assert status(connection, "POST", "/predict", rows, ASK) == 200
            assert status(connection, "POST", "/predict", rows, ASK) == 200
            assert status(connection, "POST", "/predict", rows, None) == 401
            assert status(connection, "POST", "/predict", rows, "x" * 32) == 401
            assert status(connection, "POST", "/predict", rows, ADMIN) == 200
            assert status(connection, "GET", "/", None, ASK) == 403
            assert status(connection, "GET", "/", None, ADMIN) == 200
            assert status(connection, "GET", "/v2/health/ready", None, None) == 200
            assert status(connection, "GET", "/openapi.json", None, None) == 401
        connection.close()


def test_a_stranger_with_the_token_shows_it_each_time(tmp_path: Path) -> None:
    app = App(tmp_path, "binary", tokens=Tokens(None, ADMIN.encode()), peers=frozenset({"198.51.100.1"}))
    rows = {"rows": app.rows}
    with listening(app.endpoint) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for token, expected in ((None, 403), (ADMIN, 200), (None, 403), (ADMIN, 200), ("x" * 32, 403)):
            assert status(connection, "POST", "/predict", rows, token) == expected
        connection.close()
    app.log.close()


def test_the_document_says_that_a_token_is_needed(app: App) -> None:
    document = app.ask("GET", "/churn/openapi.json", None, {"authorization": f"Bearer {ASK}"}).json
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/churn/v2/health/ready"]["get"]["security"] == []
    assert "401" in document["paths"]["/churn/predict"]["post"]["responses"]
