"""Captured rows on their way to disk: whole files or none, bounded memory, and a disk that fails and comes back."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rayline.errors import ConfigError
from rayline.serving.records import capture_files
from rayline.serving.records.capture import Capture
from rayline.serving.records.capture_files import capture_files as listed
from rayline.serving.records.capture_files import check_redacted, clean
from rayline.serving.records.captured import captured
from recording_app import SERVICE, RecordingApp


@pytest.fixture
def app(tmp_path: Path) -> RecordingApp:
    return RecordingApp(tmp_path, "multiclass")


def held(app: RecordingApp) -> Capture:
    app.recording.settle()
    assert app.recording.capture is not None
    return app.recording.capture


def rows_on_disk(app: RecordingApp) -> int:
    return sum(pq.read_metadata(file.path).num_rows for file in listed(app.storage, SERVICE))


def test_a_disk_that_is_full_harms_no_request_and_loses_nothing_that_there_is_room_for(
    app: RecordingApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("pyarrow.parquet.write_table", full)
        for _ in range(3):
            assert app.predict(app.asked[:10]).status == 200
            held(app).flush()
        facts = held(app).facts()
    assert (facts["captured"], facts["dropped"], facts["waiting"]) == (0, 0, 30)
    assert facts["failed_writes"] == 3
    assert "No space left" in facts["failing"]
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1, "told once"
    assert list(app.storage.glob("services/*/capture/*/*/*")) == []

    with caplog.at_level(logging.WARNING):
        held(app).flush()
    facts = held(app).facts()
    assert (facts["captured"], facts["dropped"], facts["waiting"], facts["failing"]) == (30, 0, 0, "")
    assert rows_on_disk(app) == 30
    assert "can be written to" in caplog.text


def test_a_real_limit_on_the_size_of_files_leaves_no_half_file(app: RecordingApp) -> None:
    for _ in range(20):
        app.predict(app.asked[:100])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
        held(app).flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    assert "File too large" in held(app).facts()["failing"]
    assert [path for path in app.storage.glob("services/*/capture/*/*/*") if path.stat().st_size] == []
    held(app).flush()
    assert rows_on_disk(app) == held(app).facts()["captured"] == 2000


def test_a_place_that_cannot_be_written_to_is_waited_for(app: RecordingApp) -> None:
    folder = app.storage / "services" / SERVICE / "capture"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file stands where the folder must go")
    app.predict(app.asked[:5])
    held(app).flush()
    assert held(app).facts()["failed_writes"] == 1
    folder.unlink()
    held(app).flush()
    assert rows_on_disk(app) == 5


def test_what_finds_no_room_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = RecordingApp(tmp_path, "multiclass", max_waiting=40)

    def gone(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pyarrow.parquet.write_table", gone)
    for _ in range(10):
        assert app.predict(app.asked[:7]).status == 200
        held(app).flush()
    facts = held(app).facts()
    assert facts["waiting"] <= 40
    assert facts["waiting"] + facts["dropped"] + app.recording.recorder.left_out == 70
    assert app.stats().requests == 10
    app.recording.stop()
    assert held(app).facts() | {"failing": ""} == facts | {
        "waiting": 0,
        "dropped": facts["dropped"] + facts["waiting"],
        "failed_writes": facts["failed_writes"] + 1,
        "failing": "",
    }


def test_more_than_there_is_room_for_at_once_is_left_out_and_counted(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "multiclass", max_waiting=40)
    for _ in range(10):
        app.predict(app.asked[:3])
    recorder = app.recording.recorder
    assert recorder.left_out == 21
    app.mirror(50)
    held(app).flush()
    assert sum(pq.read_metadata(file.path).num_rows for file in listed(tmp_path, SERVICE, 1)) == 9
    assert app.stats(2).shadow.dropped in (10, 11), "half of what was left out was to be mirrored"


def test_a_file_is_written_when_its_time_has_come_and_a_replica_that_stops_writes_the_rest(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "multiclass", file_seconds=0.05)
    app.recording.start()
    app.predict(app.asked[:5])
    deadline = time.monotonic() + 20
    while rows_on_disk(app) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert rows_on_disk(app) == 5
    app.predict(app.asked[:3])
    app.recording.stop()
    assert rows_on_disk(app) == 8


def test_every_file_of_a_version_has_the_same_columns(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed")
    whole = app.asked[:2]
    gaps = [
        {name: None if value is None or name in ("size", "town", "open") else value for name, value in row.items()}
        for row in whole
    ]
    for rows in (whole, gaps):
        assert app.predict(rows).status == 200
        held(app).flush()
    schemas = [pq.read_schema(file.path) for file in listed(tmp_path, SERVICE)]
    assert len(schemas) == 2
    assert schemas[0].equals(schemas[1], check_metadata=True)


def test_one_bad_record_spoils_no_other(app: RecordingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("sepal")

    with monkeypatch.context() as patch:
        patch.setattr("rayline.serving.wire.row_table.row_table", broken)
        app.predict(app.asked[:4])
        app.recording.settle()
    app.predict(app.asked[:2])
    held(app).flush()
    assert app.recording.recorder.left_out == 4
    assert rows_on_disk(app) == 2


def test_drafts_of_the_dead_are_cleaned_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    place = tmp_path / "1" / "2026-01-01"
    place.mkdir(parents=True)
    old, new = place / ".00000000-a-b-1.parquet.draft", place / ".00000000-a-b-2.parquet.draft"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * capture_files.STALE_SECONDS,) * 2)
    assert clean(tmp_path) == 1
    assert (old.exists(), new.exists()) == (False, True)


def test_a_column_to_redact_must_be_one(app: RecordingApp) -> None:
    schema = app.bundles[0].features.schema
    check_redacted(("sepal width (cm)", "_key"), schema)
    with pytest.raises(ConfigError, match=r"capture.redact: there is no input column 'sepal_width'.*sepal width"):
        check_redacted(("sepal_width",), schema)


def test_nothing_captured_is_nothing_read(tmp_path: Path) -> None:
    assert captured(tmp_path, "nobody") is None


def test_reading_loads_neither_ray_nor_training_code() -> None:
    code = "import sys, rayline.serving.records.captured; assert not {'ray', 'torch', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
