"""The metrics of one replica: they only grow, whatever is loaded and dropped, and no failure ends their export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayline.serving.host import Host
from rayline.serving.records import metrics
from rayline.serving.records.metrics import MetricsExporter
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from recording_app import RecordingApp
from registry_examples import make_bundle, real_table


class Metric:
    """A counter or a gauge that refuses what Prometheus refuses."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name = name
        self.values: dict[str, float] = {}
        MADE[name] = self

    def inc(self, amount: float, tags: dict[str, str]) -> None:
        if amount <= 0:
            raise ValueError(f"{self.name} cannot grow by {amount}")
        key = "/".join(tags[each] for each in ("version", "le", "slice") if each in tags)
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[tags["version"]] = value


MADE: dict[str, Metric] = {}


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> dict[str, Metric]:
    MADE.clear()
    monkeypatch.setattr("ray.util.metrics.Counter", Metric)
    monkeypatch.setattr("ray.util.metrics.Gauge", Metric)
    return MADE


def answer(host: Host, number: int, times: int) -> None:
    for _ in range(times):
        host.table.versions[number].counters.answered(0.001, ["benign"], labelled=True)


def test_a_version_that_is_loaded_again_goes_on_counting(sink: dict[str, Metric], tmp_path: Path) -> None:
    one, two = (make_bundle(tmp_path / str(seed), real_table("binary"), seed=seed) for seed in (1, 2))
    live = LiveVersion(2, str(two.path), two.digest)
    plan = TrafficPlan.first("m", LiveVersion(1, str(one.path), one.digest)).adding(live).weighing(1, {1: 90, 2: 10})
    host = Host("m", on_change=lambda: None)
    host.apply(plan, wait=True)
    exporter = MetricsExporter("m", host)
    exporter.stop()

    answer(host, 2, 5)
    exporter.flush()
    assert sink["rayline_weight"].values == {"1": 90, "2": 10}
    answer(host, 2, 1)
    without = plan.weighing(1, {1: 100}).removing(2)
    host.apply(without, wait=True)
    exporter.flush()
    assert sink["rayline_requests"].values == {"2": 6}, "what came between the last flush and the unload counts too"
    assert sink["rayline_weight"].values == {"1": 100, "2": 0}

    host.apply(without.adding(live), wait=True)
    exporter.flush()
    answer(host, 2, 2)
    exporter.flush()
    assert sink["rayline_requests"].values == {"2": 8}
    assert sink["rayline_rows"].values == {"2": 8}
    assert sink["rayline_latency_seconds_bucket"].values["2/+Inf"] == 8


def test_a_failed_export_does_not_end_the_thread(
    sink: dict[str, Metric], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "FLUSH_SECONDS", 60.0)
    exporter = MetricsExporter("m", Host("m", on_change=lambda: None))
    exporter.stop()
    turns: list[str] = []

    class Twice:
        """Lets the loop turn twice."""

        def wait(self, seconds: float) -> bool:
            return len(turns) == 2

    def flush() -> None:
        turns.append("flush")
        raise ValueError("a sink that is full")

    changed: Any = exporter
    monkeypatch.setattr(changed, "_stop", Twice())
    monkeypatch.setattr(changed, "flush", flush)
    changed._run()
    assert turns == ["flush", "flush"]
    assert "metrics of service 'm' could not be exported" in caplog.text


def test_shadow_slices_and_captures_are_exported_as_they_grow(sink: dict[str, Metric], tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed", slices=["grade"])
    exporter = MetricsExporter("m", app.host, app.recording.facts)
    exporter.stop()
    app.mirror(100)
    for turn in (1, 2):
        reply = app.predict(app.asked[:8])
        app.told(reply.json["request_id"], [0.0] * 8)
        app.recording.settle()
        assert app.recording.capture is not None
        app.recording.capture.flush()
        exporter.flush()
        assert sink["rayline_shadow_rows"].values == {"2": 8 * turn}
        assert sink["rayline_slice_rows"].values == {f"1/grade={n}": 2 * turn for n in (1, 2, 3, 4)}
        assert sink["rayline_slice_feedback_rows"].values == {f"1/grade={n}": 2 * turn for n in (1, 2, 3, 4)}
        assert sink["rayline_capture_rows"].values == {"": 16 * turn}
    assert sink["rayline_capture_dropped_rows"].values == {}
