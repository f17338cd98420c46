"""A mirrored version at fault: it is counted, and nothing else happens."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayline.errors import VersionDown
from rayline.registry.predictor import Predictions, Predictor
from rayline.serving.records.observation import ShadowStats
from rayline.serving.records.shadow import Shadow
from recording_app import RecordingApp


@pytest.fixture
def app(tmp_path: Path) -> RecordingApp:
    made = RecordingApp(tmp_path, "multiclass")
    made.mirror(100)
    return made


def replace_predictor(app: RecordingApp, monkeypatch: pytest.MonkeyPatch, predict: Any) -> None:
    """Give version 2 another way to answer, by rows and by tables."""
    two = app.host.table.versions[2].predictor

    def table(self: Predictor, asked: Any) -> Predictions:
        return predict(asked.num_rows) if self is two else plain_table(self, asked)

    def matrix(self: Predictor, asked: Any) -> Predictions:
        return predict(len(asked)) if self is two else plain_matrix(self, asked)

    plain_table, plain_matrix = Predictor.predict_table, Predictor.predict_matrix
    monkeypatch.setattr(Predictor, "predict_table", table)
    monkeypatch.setattr(Predictor, "predict_matrix", matrix)


def test_a_mirrored_version_that_crashes_is_counted_and_harms_nobody(
    app: RecordingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(rows: int) -> Predictions:
        raise RuntimeError("out of luck")

    replace_predictor(app, monkeypatch, crash)
    for _ in range(5):
        assert app.predict(app.asked[:3]).status == 200
    shadow = app.stats(2).shadow
    assert (shadow.rows, shadow.errors) == (0, 15)
    assert (app.stats(1).errors, app.stats(2).errors) == (0, 0)


def test_rows_that_it_answers_with_no_number_are_errors_and_are_not_compared(
    app: RecordingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(rows: int) -> Predictions:
        probabilities = np.full((rows, 3), 1 / 3, dtype=np.float32)
        probabilities[::2] = np.nan
        return Predictions(np.zeros(rows, dtype=np.int64), probabilities, ("setosa", "versicolor", "virginica"))

    replace_predictor(app, monkeypatch, half)
    app.predict(app.asked[:10])
    shadow = app.stats(2).shadow
    assert (shadow.rows, shadow.errors) == (5, 5)
    assert np.isfinite(shadow.distance)


def test_one_request_that_it_cannot_answer_spoils_no_other(app: RecordingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    two = app.host.table.versions[2]

    def picky(rows: int) -> Predictions:
        if rows != 2:
            raise RuntimeError("only pairs")
        return Predictions(np.zeros(2, dtype=np.int64), np.full((2, 3), 1 / 3, np.float32), two.bundle.features.classes)

    replace_predictor(app, monkeypatch, picky)
    for rows in (2, 3, 2, 1):
        app.predict(app.asked[:rows])
    shadow = app.stats(2).shadow
    assert (shadow.rows, shadow.errors) == (4, 4)


def test_a_slow_one_fills_its_queue_and_the_rest_is_dropped_and_counted(
    app: RecordingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, begun = threading.Event(), threading.Event()
    plain = Predictor.predict_table

    def slow(self: Predictor, asked: Any) -> Predictions:
        begun.set()
        assert go.wait(20)
        return plain(self, asked)

    monkeypatch.setattr(Predictor, "predict_table", slow)
    shadow = Shadow(app.host, most_waiting=10)
    recorder = app.recording.recorder
    monkeypatch.setattr(recorder, "_shadow", shadow)
    shadow.start()
    try:
        for _ in range(4):
            assert app.predict(app.asked[:4]).status == 200
            recorder.settle()
            assert begun.wait(20)
        two = app.host.table.versions[2].counters
        assert two.snapshot().shadow == ShadowStats(dropped=8)
        go.set()
        deadline = time.monotonic() + 20
        while two.snapshot().shadow.rows < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert two.snapshot().shadow.rows == 8
    finally:
        go.set()
        shadow.stop()


def test_a_version_in_another_process_is_asked_there_and_may_be_down(
    app: RecordingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = app.host.table.versions[2]
    asked: list[Any] = []

    async def remote(requests: list[Any]) -> list[Predictions | Exception]:
        asked.append(requests)
        return [two.predict_many([rows])[0] if len(rows) < 3 else VersionDown("gone") for rows in requests]

    away = type("Away", (), {})()
    for name in ("live", "bundle", "counters", "columns", "lookup", "predict_many"):
        setattr(away, name, getattr(two, name))
    away.remote, away.predictor = remote, None
    monkeypatch.setattr(app.recording.shadow, "_mirrored", lambda: (app.plan.mirror, away))
    import asyncio

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        for rows in (2, 3):
            app.predict(app.asked[:rows])
        app.recording.recorder.settle()
        app.recording.shadow.loop = loop
        app.recording.shadow.settle()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
    [requests] = asked
    assert [list(rows) for rows in requests] == [app.asked[:2], app.asked[:3]]
    shadow = app.stats(2).shadow
    assert (shadow.rows, shadow.errors) == (2, 3)


def test_nothing_is_mirrored_once_the_plan_says_so(app: RecordingApp) -> None:
    app.predict(app.asked[:2])
    app.recording.settle()
    app.mirror(None)
    app.predict(app.asked[:2])
    assert app.stats(2).shadow.rows == 2
