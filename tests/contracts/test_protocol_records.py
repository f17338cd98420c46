"""What a replica keeps of its answers, through its HTTP: counts by inputs and slices, captured rows, and the shadow."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from protocol_app import TAG
from rayline.features.reading.arrow_values import READERS
from rayline.serving.records.capture_files import capture_files
from rayline.serving.records.captured import captured
from rayline.serving.records.yardstick import OTHER
from recording_app import SERVICE, RecordingApp

TASKS = ("binary", "multiclass", "regression", "mixed")


def read_back(app: RecordingApp, **wanted: Any) -> list[dict[str, Any]]:
    app.recording.settle()
    assert app.recording.capture is not None
    app.recording.capture.flush()
    table = captured(app.storage, SERVICE, **wanted)
    return [] if table is None else table.to_pylist()


@pytest.mark.parametrize("task", TASKS)
def test_what_is_captured_is_what_was_asked_and_answered(task: str, tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, task)
    before = datetime.now(UTC)
    groups = [app.asked[:1], app.asked[1:4], app.asked[4:60], app.asked[60:61]]
    replies = [app.predict(rows, x_session_id=f"key {n}") for n, rows in enumerate(groups)]
    found = {(row["_request_id"], row["_row"]): row for row in read_back(app)}

    schema, start = app.bundles[0].features.schema, 0
    assert len(found) == sum(map(len, groups))
    for n, (rows, reply) in enumerate(zip(groups, replies, strict=True)):
        for index, answer in enumerate(reply.json["predictions"]):
            row = found[reply.json["request_id"], index]
            assert (row["_version"], row["_arm"], row["_key"]) == (1, "stable", f"key {n}")
            assert before - timedelta(seconds=1) < row["_at"] < datetime.now(UTC) + timedelta(seconds=1)
            assert 0 < row["_latency"] < 60
            if "label" in answer:
                assert row["_label"] == answer["label"]
                by_class = dict(zip(schema.classes, row["_probabilities"], strict=True))
                assert by_class == pytest.approx(answer["probabilities"])
            else:
                assert row["_prediction"] == answer["prediction"]
        part = app.table.slice(start, len(rows))
        back = pa.Table.from_pylist([found[replies[n].json["request_id"], index] for index in range(len(rows))])
        for column in schema.columns:
            assert same(part[column.name], back[column.name], column.kind), column.name
        start += len(rows)


def same(asked: pa.ChunkedArray, kept: pa.ChunkedArray, kind: str) -> bool:
    """Tell whether two columns mean the same to the features."""
    one, other = READERS[kind](asked), READERS[kind](kept)
    if not np.array_equal(one.missing, other.missing):
        return False
    if kind == "categorical":
        texts = [[values.texts[code] for code in values.codes if code >= 0] for values in (one, other)]
        return texts[0] == texts[1]
    return bool(np.array_equal(one.data[~one.missing], other.data[~other.missing]))


def test_rows_that_were_captured_are_answered_alike_when_they_are_asked_again(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed")
    app.predict(app.asked[:100])
    read_back(app)
    table = captured(tmp_path, SERVICE, version=1)
    assert table is not None
    again = app.host.table.versions[1].predictor.predict_table(table)
    assert again.values.tolist() == table["_prediction"].to_pylist()


def test_inputs_are_counted_by_the_bins_and_levels_of_the_training_part(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed")
    for start in range(0, len(app.asked), 50):
        app.predict(app.asked[start : start + 50])
    counts = app.stats().feature_counts
    assert set(counts) == set(app.bundles[0].features.input_columns)
    assert all(sum(each.values()) == len(app.asked) for each in counts.values())
    assert counts["grade"] == Counter(str(value) for value in app.table["grade"].to_pylist())
    gaps = app.table["open"].null_count
    assert counts["open"]["<missing>"] == gaps
    present = [count for label, count in counts["count"].items() if label not in (OTHER, "<missing>")]
    assert max(present) < len(app.asked) / 4, "the bins hold about equally many training rows"


def test_counts_by_slice_are_of_the_rows_of_the_slice_and_of_their_truth(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed", slices=["grade", "open", "size"])
    errors: dict[str, list[float]] = {}
    for n, start in enumerate(range(0, 60, 3)):
        rows = app.asked[start : start + 3]
        reply = app.predict(rows).json
        truth = [float(value) for value in app.table["target"].to_pylist()[start : start + 3]]
        if n % 2:  # with the recorder at work in between, and without
            app.recording.settle()
        assert app.told(reply["request_id"], truth) == "joined"
        for row, answer, label in zip(rows, reply["predictions"], truth, strict=True):
            errors.setdefault(f"grade={row['grade']}", []).append(answer["prediction"] - label)
    stats = app.stats()
    for name, each in errors.items():
        found = stats.slices[name]
        assert (found.rows, found.feedback) == (len(each), len(each))
        assert found.absolute_error == pytest.approx(np.abs(each).sum())
        assert found.squared_error == pytest.approx(np.square(each).sum())
    every = [error for each in errors.values() for error in each]
    assert stats.absolute_error == pytest.approx(np.abs(every).sum())
    assert stats.squared_error == pytest.approx(np.square(every).sum())
    for column in ("grade", "open", "size"):
        mine = {name: each for name, each in stats.slices.items() if name.startswith(column)}
        assert sum(each.rows for each in mine.values()) == sum(each.feedback for each in mine.values()) == 60
    assert any(name.startswith("size in [") for name in stats.slices)


def test_a_mirrored_version_is_compared_row_by_row_and_its_answers_reach_nobody(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "multiclass", slices=["petal length (cm)"])
    app.mirror(100)
    replies = [app.predict(app.asked[start : start + 10]).json for start in range(0, len(app.asked), 10)]
    assert {reply["version"] for reply in replies} == {1}
    shadow, answered = app.stats(2).shadow, app.stats(1)
    one, two = (app.host.table.versions[n].predictor.predict(app.asked) for n in (1, 2))
    assert one.probabilities is not None
    assert two.probabilities is not None
    distance = np.abs(one.probabilities.astype(float) - two.probabilities).sum(axis=1) / 2
    assert shadow.rows == len(app.asked) == sum(answered.prediction_counts.values())
    assert shadow.agreed == int((one.values == two.values).sum())
    assert shadow.distance == pytest.approx(distance.sum(), rel=1e-5)
    assert shadow.squared_distance == pytest.approx((distance**2).sum(), rel=1e-5)
    assert (shadow.errors, shadow.dropped) == (0, 0)
    assert sum(rows for rows, _ in shadow.slices.values()) == shadow.rows
    assert sum(disagreed for _, disagreed in shadow.slices.values()) == shadow.rows - shadow.agreed
    assert app.stats(2).requests == 0, "a mirrored request is none that was asked"


def test_a_mirrored_regression_agrees_within_a_hundredth_of_the_target_s_deviation(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "regression")
    app.mirror(100)
    for start in range(0, 200, 50):
        app.predict(app.asked[start : start + 50])
    shadow = app.stats(2).shadow
    one, two = (app.host.table.versions[n].predictor.predict(app.asked[:200]).values for n in (1, 2))
    apart = np.abs(one - two)
    assert shadow.distance == pytest.approx(apart.sum())
    assert shadow.agreed == int((apart <= 0.01 * app.bundles[0].features.target_std).sum())


def test_a_share_is_mirrored_and_a_session_wholly_or_not_at_all(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "multiclass")
    app.mirror(30)
    for n in range(600):
        app.predict(app.asked[:1], x_session_id=f"s{n % 200}")
    rows = app.stats(2).shadow.rows
    assert rows % 3 == 0
    assert 90 < rows < 270, "180 of 600 are to be expected"


def test_what_the_mirrored_version_said_is_captured_beside_what_was_answered(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed")
    app.mirror(100)
    app.predict(app.asked[:20])
    shadows = read_back(app, version=2)
    answered = read_back(app, version=1)
    assert [row["_arm"] for row in shadows] == ["shadow"] * 20
    assert [(row["_request_id"], row["_row"]) for row in shadows] == [
        (row["_request_id"], row["_row"]) for row in answered
    ]
    said = app.host.table.versions[2].predictor.predict(app.asked[:20]).values
    assert [row["_prediction"] for row in shadows] == pytest.approx(said.tolist())
    assert shadows[0]["size"] is None


def test_a_column_that_is_redacted_is_in_no_file(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed", redact=("town", "_key"))
    app.predict(app.asked[:20], x_session_id="a person")
    [first, *_] = read_back(app)
    assert "town" not in first
    assert "_key" not in first
    raw = b"".join(file.path.read_bytes() for file in capture_files(tmp_path, SERVICE))
    assert b"a person" not in raw
    assert b"Bern" not in raw
    assert app.stats().feature_counts["town"]["Bern"] > 0, "counts of levels that training knows stay"


def test_a_sample_is_of_whole_requests(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "multiclass", sample=0.3)
    for _ in range(300):
        app.predict(app.asked[:2])
    rows = read_back(app)
    assert 100 < len(rows) < 260, "180 of 600 are to be expected"
    assert set(Counter(row["_request_id"] for row in rows).values()) == {2}
    assert sum(app.stats().prediction_counts.values()) == 600


def test_truth_is_read_back_with_the_row_that_it_belongs_to(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "binary")
    one, two = app.predict(app.asked[:2]).json, app.predict(app.asked[2:3]).json
    app.told(one["request_id"], ["benign", "malignant"])
    app.log.close()
    feedback = tmp_path / "services" / SERVICE / "feedback"
    feedback.mkdir(parents=True)
    (tmp_path / "feedback.jsonl").rename(feedback / "here.jsonl")
    rows = {(row["_request_id"], row["_row"]): row["_truth"] for row in read_back(app)}
    assert rows == {(one["request_id"], 0): "benign", (one["request_id"], 1): "malignant", (two["request_id"], 0): None}
    assert read_back(app, since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_truth_of_a_dead_replica_s_answer_is_counted_by_whoever_finds_it_in_the_files(tmp_path: Path) -> None:
    dead = RecordingApp(tmp_path, "mixed", slices=["grade"])
    reply = dead.predict(dead.asked[:4]).json
    read_back(dead)
    heir = RecordingApp(tmp_path / "heir", "mixed", slices=["grade"], storage=tmp_path)
    assert heir.answers.recall(reply["request_id"]) is None
    assert heir.feedback.join(reply["request_id"], [1.0, 2.0, 3.0, 4.0], passed_on=True) == "unmatched"
    heir.late.settle()
    stats = heir.stats()
    said = [answer["prediction"] for answer in reply["predictions"]]
    off = [value - label for value, label in zip(said, [1.0, 2.0, 3.0, 4.0], strict=True)]
    assert stats.feedback == 4
    assert stats.squared_error == pytest.approx(np.square(off).sum())
    assert {name: each.feedback for name, each in stats.slices.items()} == {f"grade={n}": 1 for n in (1, 2, 3, 4)}
    assert heir.feedback.join(reply["request_id"], [1.0, 2.0, 3.0, 4.0], passed_on=True) == "duplicate"
    assert heir.feedback.facts() == {"joined": 0, "duplicate": 1, "unmatched": 1, "elsewhere": 0, "found_late": 1}


def test_truth_that_nothing_was_captured_for_stays_unmatched(tmp_path: Path) -> None:
    app = RecordingApp(tmp_path, "mixed")
    app.predict(app.asked[:2])
    read_back(app)
    assert app.feedback.join(f"1-{TAG}00000001", [1.0], passed_on=True) == "unmatched"
    app.late.settle()
    assert app.stats().feedback == 0
    assert app.feedback.facts()["found_late"] == 0
