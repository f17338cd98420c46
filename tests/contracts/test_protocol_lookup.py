"""A replica completes a request's rows from the online store, and says plainly where it cannot."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from protocol_app import TAG, App
from rayline.errors import BundleError
from rayline.features.joins.windows import WindowSpec
from rayline.features.online.declared import HistoryNeed, TableNeed, WindowNeed
from rayline.features.online.opening import VARIABLE, open_store
from rayline.features.online.seam import OnlineStore
from rayline.registry.bundle import Bundle
from rayline.registry.manifest import HISTORY
from rayline.serving.host import Host
from rayline.serving.records.feedback import Answers, Feedback
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.versions.served import Served
from registry_examples import make_bundle, mixed_table

DAY = 86_400_000_000
NEED = HistoryNeed(
    "embedded",
    (TableNeed("people", ("person",), "at", 30 * DAY, {"size": "height", "town": "town"}),),
    (WindowNeed("windows/person@at", ("person",), "at", (WindowSpec("count", "bought", None, 3, None, "sum"),)),),
)
AT = "2024-02-01T00:00:00"
MOMENT = 1_706_745_600_000_000


@pytest.fixture
def app(tmp_path: Path) -> App:
    """A replica whose one version looks up the columns size, town and count."""
    app = App(tmp_path / "plain", "mixed")
    bundle = make_bundle(tmp_path / "with", mixed_table(), history=NEED)
    live = LiveVersion(1, str(bundle.path), bundle.digest)
    app.host = Host("churn", on_change=lambda: None, load=partial(Served.load, storage=tmp_path))
    app.host.apply(TrafficPlan.first("churn", live), wait=True)
    app.endpoint._host = app.host
    app.endpoint._feedback = Feedback(app.host, Answers(TAG), app.log, TAG)
    return app


@pytest.fixture
def store(tmp_path: Path) -> OnlineStore:
    store = open_store("embedded", tmp_path)
    store.put(
        "people", ["height", "town"], [(7,), (8,)], [MOMENT - DAY, MOMENT - 40 * DAY], [[1.5, "Bern"], [9.0, "x y"]]
    )
    columns = ["times", "bought", "whole"]
    store.put("windows/person@at", columns, [(7,)], [MOMENT - DAY], [[[1, MOMENT - DAY], [2.0, 5.0], True]])
    return store


def partial_row(person: Any, **given: Any) -> dict[str, Any]:
    return {"person": person, "gappy": 300, "grade": 2, "open": True, "at": AT, **given}


def whole_row(**given: Any) -> dict[str, Any]:
    return {"gappy": 300, "grade": 2, "open": True, "at": AT, **given}


def answers(app: App, *rows: dict[str, Any]) -> Any:
    reply = app.predict(list(rows))
    assert reply.status == 200, reply.json
    return reply.json["predictions"]


def test_what_is_left_out_is_looked_up(app: App, store: OnlineStore) -> None:
    expected = answers(
        app,
        whole_row(size=1.5, town="Bern", count=7.0),
        whole_row(size=None, town=None, count=None),
        whole_row(size=3.0, town="Bern", count=7.0),
        whole_row(size=1.5, town=None, count=1),
    )
    found = answers(
        app,
        partial_row("7"),
        partial_row(8),
        partial_row(7, size=3.0),
        partial_row(7, town=None, count=1),
    )
    assert found == expected
    assert found[0] != found[1] != found[2]


def test_a_missing_key_gives_nulls(app: App, store: OnlineStore) -> None:
    expected = answers(app, whole_row(size=None, town=None, count=None))
    assert answers(app, partial_row("nobody")) == answers(app, partial_row(None)) == expected


def test_a_row_without_the_key_says_what_to_send(app: App, store: OnlineStore) -> None:
    reply = app.predict([whole_row(town="Bern", count=1)])
    assert (reply.status, reply.json["row"], reply.json["column"]) == (422, 0, "size")
    assert "neither is 'person', which it would be looked up by" in reply.json["error"]


def test_a_mistyped_column_is_still_refused(app: App, store: OnlineStore) -> None:
    reply = app.predict([partial_row(7, sise=3.0)])
    assert (reply.status, reply.json["column"]) == (422, "sise")


def test_without_a_store_whole_rows_are_answered_and_others_told_why_not(app: App, tmp_path: Path) -> None:
    assert answers(app, whole_row(size=1.5, town="Bern", count=7.0))
    reply = app.predict([partial_row(7)])
    assert reply.status == 503
    assert "`rayline features materialize`" in reply.json["error"]
    assert reply.headers["x-rayline-version"] == "1"
    report = app.host.report()["stats"]["1"]
    assert report["errors"] == 0
    store = open_store("embedded", tmp_path)
    store.put("people", ["height", "town"], [(7,)], [MOMENT - DAY], [[1.5, "Bern"]])
    assert answers(app, partial_row(7)) == answers(app, whole_row(size=1.5, town="Bern", count=None))


def test_a_store_that_does_not_answer_holds_up_nobody(
    app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("redis", reason="the Redis client is not installed")
    monkeypatch.setenv(VARIABLE, "redis://127.0.0.1:1")
    served = Served.load("churn", app.host.plan.versions[0], (), tmp_path)  # type: ignore[union-attr]
    assert served.seconds(1) > 0.5, "a look-up over a network must go to a thread"
    reply = app.predict([partial_row(7)])
    assert (reply.status, "does not answer" in reply.json["error"]) == (503, True)


def test_a_bundle_carries_what_it_looks_up_and_older_ones_look_nothing_up(app: App, tmp_path: Path) -> None:
    bundle = Bundle.load(app.host.table.versions[1].live.path)
    assert bundle.history == NEED
    assert Bundle.load(app.bundles[0].path).history is None
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    (copy / HISTORY).write_bytes((copy / HISTORY).read_bytes().replace(b"people", b"others"))
    with pytest.raises(BundleError, match=r"history\.json was changed"):
        Bundle.load(copy)
