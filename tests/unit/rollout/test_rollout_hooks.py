"""Hooks and outside measures: who is told, what is asked, and that neither ever moves or stops traffic."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rayline.config import HookConfig, parse
from rayline.errors import ConfigError
from rayline.rollout.analysis.external import Wanted
from rayline.rollout.engine import Order
from rayline.rollout.outside import measured
from rayline.rollout.plans.plan import Pause, Plan, SetWeight
from rayline.rollout.policy import verbs
from rollout_doubles import live_version
from rollout_world import MemoryFiles, World

PLAN = Plan("canary", (SetWeight(10), Pause(None), SetWeight(100)))
ALL = ("step", "pause", "abort", "completion")


@pytest.fixture
def world() -> Iterator[World]:
    world = World(Path("nowhere"), files=MemoryFiles())
    yield world
    world.engine.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let the module ``listeners`` have a function ``tell`` that keeps what it is told."""
    kept: list[dict[str, Any]] = []
    module = ModuleType("listeners")
    module.tell = kept.append  # type: ignore[attr-defined]
    module.fail = lambda body: 1 / 0  # type: ignore[attr-defined]
    module.hang = lambda body: time.sleep(30)  # type: ignore[attr-defined]
    module.measure = lambda service, version: version / 10  # type: ignore[attr-defined]
    module.lie = lambda service, version: "many"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "listeners", module)
    return kept


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """Start HTTP servers that answer by a function, each on a port of its own."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer(self)

            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}"

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


def say(handler: BaseHTTPRequestHandler, status: int, body: Any = None) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def start(world: World, *hooks: HookConfig) -> None:
    world.engine.start(Order("o1", "rollout", PLAN, live_version(2), None, "exp", hooks=hooks))
    world.settle()


def test_a_function_is_told_each_thing_once_in_order(world: World, told: list[dict[str, Any]]) -> None:
    start(world, HookConfig(on=ALL, function="listeners:tell"))
    assert [(each["event"], each["step"], each["weight"]) for each in told] == [
        ("step", 1, 10),
        ("step", 2, 10),
        ("pause", 2, 10),
    ]
    world.ask(verbs.promote)
    world.settle()
    assert told[-1] == {
        "id": told[-1]["id"],
        "event": "completion",
        "rollout": "o1",
        "service": "bikes",
        "kind": "rollout",
        "stable": 1,
        "canary": 2,
        "phase": "Healthy",
        "step": 4,
        "weight": 100,
        "reason": "v2 has all traffic",
        "at": 1000.0,
    }
    assert len({each["id"] for each in told}) == len(told)


def test_only_those_who_asked_for_it_are_told_of_an_abort(world: World, told: list[dict[str, Any]]) -> None:
    start(world, HookConfig(on=("abort",), function="listeners:tell"))
    assert told == []
    world.ask(verbs.abort, reason="not wanted")
    world.settle()
    assert [(each["event"], each["reason"], each["weight"]) for each in told] == [("abort", "not wanted", 0)]


def test_a_webhook_gets_json_and_a_key_and_is_asked_again_until_it_says_yes(world: World, server: Any) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        asked.append((handler.headers["idempotency-key"], body))
        say(handler, 503 if len(asked) < 3 else 204)

    start(world, HookConfig(on=("pause",), webhook=server(answer)))
    for _ in range(2):
        world.run(5)
    assert [key for key, _ in asked] == [asked[0][1]["id"]] * 3
    assert asked[0][1]["event"] == "pause"
    assert world.state.notes == ()
    assert not [each for each in world.state.decisions if each.what == "hook failed"]


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (HookConfig(on=ALL, function="listeners:fail"), "hook 'listeners:fail' failed: ZeroDivisionError"),
        (HookConfig(on=ALL, function="listeners:none"), "hook 'listeners:none' cannot be imported"),
        (HookConfig(on=ALL, function="nosuchmodule:x"), "No module named 'nosuchmodule'.*PYTHONPATH"),
        (HookConfig(on=ALL, function="listeners:hang", timeout=0.01), "did not return within 0.01 s"),
        (HookConfig(on=ALL, webhook="http://127.0.0.1:9/"), "webhook 'http://127.0.0.1:9/' failed: .*refused"),
    ],
    ids=["raises", "missing", "no module", "hangs", "nobody there"],
)
def test_a_hook_that_fails_is_reported_and_moves_no_traffic(
    world: World, told: list[dict[str, Any]], hook: HookConfig, why: str
) -> None:
    start(world, hook)
    assert world.weights == {1: 90, 2: 10}
    world.run(30, rounds=12)
    world.ask(verbs.promote)
    world.run(30, rounds=8)
    state = world.state
    assert (state.phase, world.weights, state.notes) == ("Healthy", {2: 100}, ())
    failed = [each.reason for each in state.decisions if each.what == "hook failed"]
    assert len(failed) == 5
    assert failed[0].startswith("a hook was not told of 'step', tried 4 times: ")
    assert re.search(why, failed[0]), failed[0]
    assert state.message == "v2 has all traffic", "the rollout's own reason stays"


def test_a_crash_loses_no_call(world: World, told: list[dict[str, Any]]) -> None:
    world.engine.start(
        Order(
            "o1", "rollout", PLAN, live_version(2), None, "exp", hooks=(HookConfig(on=ALL, function="listeners:tell"),)
        )
    )
    while world.engine.tick():
        pass
    assert told == []
    world.restarted()
    world.settle()
    assert [each["event"] for each in told] == ["step", "step", "pause"]


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ({"on": ["step"]}, "exactly one of 'webhook' and 'function'"),
        ({"on": ["step"], "webhook": "http://x", "function": "a:b"}, "exactly one of"),
        ({"on": [], "function": "a:b"}, "on"),
        ({"on": ["stop"], "function": "a:b"}, "stop"),
        ({"on": ["step"], "webhook": "ftp://x"}, "webhook"),
        ({"on": ["step"], "function": "a.b"}, "function"),
    ],
)
def test_a_hook_that_cannot_work_is_refused_before_anything_moves(hook: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse({"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "rollout": {"hooks": [hook]}})


def query(address: str) -> Wanted:
    return Wanted("q", "prometheus", "sum(rate(x[1m]))", address, "bikes", 2)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, "0.25"]}]}}, 0.25),
        (200, {"data": {"resultType": "scalar", "result": [1.0, "7"]}}, 7.0),
        (200, {"data": {"resultType": "vector", "result": []}}, "must give one number, and gave 0 series"),
        (200, {"data": {"resultType": "vector", "result": [{}, {}]}}, "must give one number, and gave 2 series"),
        (200, {"data": {"resultType": "vector", "result": [{"value": [1.0, "NaN"]}]}}, "no finite number"),
        (200, {"data": {"resultType": "matrix", "result": []}}, "must give one number, and gave matrix"),
        (200, ["odd"], "gave no query result"),
        (400, {"status": "error", "error": "parse error: bad"}, "answered 400: parse error: bad"),
    ],
)
def test_a_prometheus_query_gives_a_number_or_the_reason_why_not(
    server: Any, status: int, body: Any, expected: float | str
) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        say(handler, status, body)

    found = measured([query(server(answer))])["q"]
    assert asked[0].startswith("/api/v1/query?query=sum%28rate%28x%5B1m%5D%29%29&timeout=")
    if isinstance(expected, float):
        assert found == expected
    else:
        assert isinstance(found, str)
        assert expected in found


def test_measures_are_taken_side_by_side_and_a_slow_one_is_given_up(told: list[dict[str, Any]], server: Any) -> None:
    released = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        released.wait(30)
        say(handler, 200)

    wanted = [
        query(server(answer)),
        Wanted("good", "function", "listeners:measure", "", "bikes", 2),
        Wanted("odd", "function", "listeners:lie", "", "bikes", 2),
        Wanted("slow", "function", "listeners:wait", "", "bikes", 2),
    ]
    sys.modules["listeners"].wait = lambda service, version: released.wait(30)  # type: ignore[attr-defined]
    found = measured(wanted, 0.2)
    released.set()
    assert found["good"] == 0.2
    assert found["odd"] == "measure 'listeners:lie' gave 'many'; it must give a number."
    assert "did not return within 0.2 s" in str(found["slow"])
    assert "within 0.2 s" in str(found["q"]) or "timed out" in str(found["q"])
    assert measured([]) == {}
