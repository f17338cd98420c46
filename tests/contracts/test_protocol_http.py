"""The HTTP of a service, as its clients see it: one replica's ASGI application on real bundles, without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol_app import TAG, App, send
from rayline.serving.host import Host
from rayline.serving.http import frontdoor
from rayline.serving.http.endpoint import Endpoint
from rayline.serving.records.feedback import Answers, Feedback, FeedbackLog

# Ray Serve's own models use what Pydantic has deprecated.
SERVE_IMPORT = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")
TASKS = ("binary", "multiclass", "regression", "mixed")


@pytest.fixture(scope="module", params=TASKS)
def any_app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp(request.param), request.param)
    yield app
    app.log.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("binary"), "binary")
    yield app
    app.log.close()


def test_a_prediction_is_the_bundles_own(any_app: App) -> None:
    for number, bundle in enumerate(any_app.bundles, start=1):
        reply = any_app.predict(any_app.rows, x_rayline_version=str(number))
        assert reply.status == 200
        assert reply.json["predictions"] == bundle.predictor().predict(any_app.rows).records()
        assert (reply.json["model"], reply.json["version"]) == ("churn", number)
        assert reply.headers["x-rayline-version"] == str(number)
        assert reply.headers["x-request-id"] == reply.json["request_id"]
        assert reply.headers["content-type"] == "application/json"


def test_feedback_is_joined_to_the_version_that_answered(any_app: App) -> None:
    for number in (1, 2):
        counters = any_app.host.table.versions[number].counters
        before = counters.snapshot()
        answer = any_app.predict(any_app.rows[:1], x_rayline_version=str(number)).json
        said = answer["predictions"][0]
        label = said.get("label", said.get("prediction"))
        reply = any_app.ask("POST", "/churn/feedback", {"request_id": answer["request_id"], "label": label})
        assert (reply.status, reply.json["status"]) == (200, "joined")
        gained = counters.snapshot().minus(before)
        assert (gained.requests, gained.feedback, gained.absolute_error) == (1, 1, 0.0)
        assert gained.correct == (1 if "label" in said else 0)


def test_a_session_sticks(app: App) -> None:
    seen = {
        session: {app.predict(app.rows[:1], x_session_id=session).json["version"] for _ in range(5)}
        for session in map(str, range(40))
    }
    assert all(len(versions) == 1 for versions in seen.values())
    assert {version for versions in seen.values() for version in versions} == {1, 2}


def test_a_pin_to_a_version_that_is_not_live_is_404_with_the_live_ones(app: App) -> None:
    reply = app.predict(app.rows[:1], x_rayline_version="9")
    assert reply.status == 404
    assert reply.json["live"] == [1, 2]


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        ({"mean area": ...}, "mean area", "send every input column"),
        ({"mean area": "large"}, "mean area", "number"),
        ({"mean arae": 1.0}, "mean arae", "Did you mean 'mean area'?"),
        ({"mean area": [1]}, "mean area", "is not a finite number"),
        ({"mean area": {"m2": 1}}, "mean area", "must be a number, text, true, false, null or a list of numbers"),
    ],
)
def test_a_bad_row_is_422_with_row_column_value_and_rule(
    app: App, change: dict[str, Any], column: str, rule: str
) -> None:
    bad = {key: value for key, value in {**app.rows[1], **change}.items() if value is not ...}
    before = {number: each.counters.snapshot() for number, each in app.host.table.versions.items()}
    reply = app.predict([app.rows[0], bad])
    assert reply.status == 422
    assert (reply.json["row"], reply.json["column"]) == (1, column)
    assert rule in reply.json["rule"]
    assert {"value", "error"} <= reply.json.keys()
    assert {number: each.counters.snapshot() for number, each in app.host.table.versions.items()} == before


TOO_MANY = json.dumps({"rows": [{}] * 101}).encode()


@pytest.mark.parametrize(
    ("body", "rule"), [(b"{", "is not JSON"), (b'{"rows": []}', "send 1 to 100"), (TOO_MANY, "send 1 to 100")]
)
def test_a_bad_body_is_422_with_the_rule(app: App, body: bytes, rule: str) -> None:
    reply = app.ask("POST", "/churn/predict", body)
    assert reply.status == 422
    assert rule in reply.json["rule"]


def test_null_is_a_missing_value(app: App) -> None:
    assert app.predict([{**app.rows[0], "mean area": None}]).status == 200


def test_a_body_in_parts_and_a_large_one_are_answered(app: App) -> None:
    body = {"rows": app.rows[:1] * 100}
    reply = app.ask("POST", "/churn/predict", body, {"x-rayline-version": "1"}, parts=7)
    assert reply.status == 200
    assert len(reply.json["predictions"]) == 100


HEALTH = ("v2/health/live", "v2/health/ready", "v2/models/churn/ready", "v2/models/churn/versions/2/ready")


@pytest.mark.parametrize("path", HEALTH)
def test_health(app: App, path: str) -> None:
    assert app.ask("GET", f"/churn/{path}").status == 200


def test_the_model_page_names_inputs_and_outputs(any_app: App) -> None:
    page = any_app.ask("GET", "/churn/v2/models/churn").json
    assert page["name"] == "churn"
    assert page["versions"] == ["1", "2"]
    assert {each["name"] for each in page["inputs"]} == set(any_app.rows[0])
    assert page["outputs"]
    assert any_app.ask("GET", "/churn/v2/models/churn/versions/2").json["versions"] == ["2"]


@pytest.mark.parametrize("path", ["/", ""])
def test_a_service_tells_its_traffic(app: App, path: str) -> None:
    page = app.ask("GET", f"/churn{path}").json
    assert page["stable"] == 1
    assert page["weights"] == {"1": 50, "2": 50}
    assert [each["version"] for each in page["versions"]] == [1, 2]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/churn/nothing", 404),
        ("GET", "/churn/v2/models/other", 404),
        ("GET", "/churn/v2/models/churn/versions/9", 404),
        ("GET", "/churn/v2/models/churn/versions/x/ready", 404),
        ("GET", "/churned/predict", 404),
        ("GET", "/churn/predict", 405),
        ("POST", "/churn/", 405),
        ("DELETE", "/churn/feedback", 405),
    ],
)
def test_what_is_not_there_is_told_as_json(app: App, method: str, path: str, status: int) -> None:
    reply = app.ask(method, path)
    assert reply.status == status
    assert reply.json["error"]
    assert ("allow" in reply.headers) == (status == 405)


def test_only_the_clusters_own_nodes_may_connect(app: App) -> None:
    assert app.ask("GET", "/churn/", client="198.51.100.9").status == 403


def test_truth_for_another_replica_is_passed_on(app: App) -> None:
    reply = app.ask("POST", "/churn/feedback", {"request_id": "1-0badbeef00000001", "label": "benign"})
    assert reply.status == 202
    assert app.passed_on[-1] == ("0badbeef", "1-0badbeef00000001", ["benign"])


def test_bad_feedback_is_422(app: App) -> None:
    assert app.ask("POST", "/churn/feedback", {"request_id": "x", "label": 1}).status == 422
    assert app.ask("POST", "/churn/feedback", {"label": 1}).status == 422


def test_a_replica_without_a_plan_is_not_ready(tmp_path: Path) -> None:
    host, answers, log = Host("new", on_change=lambda: None), Answers(TAG), FeedbackLog(tmp_path / "log")
    joiner = Feedback(host, answers, log, TAG)
    endpoint = Endpoint("new", host, answers, joiner, pass_on=lambda *_: None, peers=None)
    for method, path in (("GET", "/new/"), ("GET", "/new/v2/health/ready"), ("POST", "/new/predict")):
        assert asyncio.run(send(endpoint, method, path, b'{"rows":[{}]}', {}, "127.0.0.1", 1)).status == 503
    log.close()


def test_a_version_at_fault_is_500_and_counted_as_an_error(tmp_path: Path) -> None:
    app = App(tmp_path, "regression")
    served = app.host.table.versions[2]
    served.predictor.network.layers[-1][1][:] = float("inf")  # type: ignore[attr-defined]
    reply = app.predict(app.rows[:1], x_rayline_version="2")
    assert reply.status == 500
    assert "no number" in reply.json["error"]
    assert served.counters.snapshot().errors == 1
    assert app.predict(app.rows[:1], x_rayline_version="1").status == 200
    app.log.close()


def test_an_answer_reaches_the_ingress_in_one_write(app: App) -> None:
    class Transport:
        """What uvicorn writes to."""

        def __init__(self) -> None:
            self.writes: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.writes.append(data)

    class Cycle:
        """What uvicorn gives an application to send with."""

        def __init__(self, transport: Transport) -> None:
            self.transport = transport

        async def send(self, message: Any) -> None:
            head = b"head " if message["type"] == "http.response.start" else message["body"]
            self.transport.write(head)

    wire = Transport()
    cycle = Cycle(wire)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/churn/v2/health/live", "client": None, "headers": []}
    asyncio.run(app.endpoint(scope, receive, cycle.send))
    assert wire.writes == [b'head {"live":true}']
    assert cycle.transport is wire


async def serve_answers(scope: Any, receive: Any, forward: Any) -> None:
    headers = [(b"content-length", b"6"), (b"x-request-id", b"ours"), (b"X-Request-ID", b"serve")]
    await forward({"type": "http.response.start", "status": 200, "headers": headers})
    await forward({"type": "http.response.body", "body": b"behind"})


def test_the_front_door_answers_its_own_paths_and_leaves_the_rest_to_serve(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontdoor, "_endpoint", None)
    frontdoor.open_for(app.endpoint)
    [middleware] = frontdoor.middlewares()
    door = middleware.cls(serve_answers, *middleware.args, **middleware.kwargs)
    mine = asyncio.run(send(door, "GET", "/churn/v2/health/live", b"", {}, "127.0.0.1", 1))
    assert mine.json == {"live": True}
    with pytest.raises(AssertionError, match="a header came twice"):
        asyncio.run(send(door, "GET", "/-/healthz", b"", {}, "127.0.0.1", 1))


@SERVE_IMPORT
def test_behind_the_plain_proxy_an_answer_has_one_request_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontdoor, "_endpoint", None)
    [middleware] = frontdoor.middlewares()
    reply = asyncio.run(send(middleware.cls(serve_answers), "GET", "/x", b"", {}, "127.0.0.1", 1))
    assert (reply.raw, reply.headers["x-request-id"]) == (b"behind", "ours")


@SERVE_IMPORT
def test_other_applications_on_the_cluster_pay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontdoor, "_endpoint", None)
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: "that of another application")
    assert frontdoor.middlewares() == []


def test_the_application_starts_and_stops_as_asgi_asks(app: App) -> None:
    asked = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    said: list[str] = []

    async def receive() -> Any:
        return asked.pop(0)

    async def keep(message: Any) -> None:
        said.append(message["type"])

    asyncio.run(app.endpoint({"type": "lifespan"}, receive, keep))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
