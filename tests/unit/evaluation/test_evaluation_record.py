"""An evaluation as plain values and as what the command line prints of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from evaluation_examples import TASKS, answered
from rayline.cli.evaluation_pages import evaluation as printed_page
from rayline.config import EvaluateConfig, SliceConfig, Task
from rayline.evaluation import record
from rayline.evaluation.infrastructure import Infrastructure, Latency, Verdict
from rayline.evaluation.metrics import Evaluation, Matrix, evaluate
from rayline.registry.predictor import Predictor
from registry_examples import fitted, real_table

TRIED = Infrastructure(
    "",
    0.5,
    1.5,
    Latency(1, 0.1, 0.4),
    Latency(64, 1.0, 2.0),
    80.0,
    12.0,
    (Verdict("latency_ms", 0.4, 5.0), Verdict("memory_mb", 80.0, 64.0)),
)


def measured(task: str) -> Evaluation:
    """A real evaluation of noisy answers, with a named slice and a found one."""
    table = real_table(task)
    features = fitted(table)
    truth = features.encode_target(table)
    random = np.random.default_rng(0)
    bad = np.arange(len(truth)) % 4 == 0
    spread = np.where(bad, 8.0, 0.5)[:, None]
    width = len(features.classes) if task == "multiclass" else 1
    right = np.eye(3)[truth] * 2 if task == "multiclass" else (truth * (4 if task == "binary" else 1))[:, None]
    outputs = right - (2 if task == "binary" else 0) + random.normal(size=(len(truth), width)) * spread
    predictor = Predictor(features, lambda matrix: outputs.astype(np.float64))
    marked = table.append_column("part", pa.array(["late" if each else "early" for each in bad]))
    config = EvaluateConfig(slices=(SliceConfig(column="part"),), bootstrap=100, min_slice_rows=20)
    valid = Matrix(features.transform(table), truth)
    return replace(evaluate(predictor, marked, config, valid), infrastructure=TRIED)


@pytest.fixture(scope="module", params=TASKS)
def done(request: pytest.FixtureRequest) -> Evaluation:
    return measured(request.param)


def test_the_record_is_json_and_says_what_was_measured(done: Evaluation) -> None:
    values = json.loads(json.dumps(record.to_json(done), allow_nan=False))

    assert (values["format"], values["task"], values["rows"]) == (record.FORMAT, done.task, done.rows)
    assert {name: each["value"] for name, each in values["scores"].items()} == pytest.approx(done.metrics)
    assert all(each["low"] <= each["value"] <= each["high"] for each in values["scores"].values())
    assert [each["name"] for each in values["slices"][:2]] == ["part = early", "part = late"]
    assert [each["found"] is None for each in values["slices"][:2]] == [True, True]
    assert any(each["found"] for each in values["slices"])
    assert (values["threshold"] is not None) == (done.task == "binary")
    assert values["infrastructure"]["ok"] is False
    assert [each["ok"] for each in values["infrastructure"]["verdicts"]] == [True, False]


def test_the_table_of_slices_has_a_line_for_each_score(done: Evaluation) -> None:
    lines = list(csv.DictReader(io.StringIO(record.slices_csv(done))))

    assert tuple(lines[0]) == record.CSV_COLUMNS
    assert len(lines) == sum(len(each.scores) for each in done.slices)
    first = done.slices[0]
    name, interval = next(iter(first.scores.items()))
    assert (lines[0]["slice"], lines[0]["score"], int(lines[0]["rows"])) == (first.slice.name, name, len(first.slice))
    assert float(lines[0]["low"]) == pytest.approx(interval.low)
    assert [line["found"] for line in lines] == [
        str(each.worst is not None) for each in done.slices for _ in each.scores
    ]


def test_one_line_says_the_score_its_interval_and_the_worst_slice(done: Evaluation) -> None:
    line = record.line(record.to_json(done))

    assert f"on {done.rows:,} test rows; worst slice {done.worst[0].slice.name}" in line
    assert "[" in line


def test_the_page_has_every_score_slice_and_limit(done: Evaluation) -> None:
    console = Console(file=io.StringIO(), width=160, highlight=False)

    printed_page(console, record.to_json(done))

    page = console.file.getvalue()
    assert all(name in page for name in done.metrics)
    assert all(each.slice.name in page for each in done.slices)
    assert "worse by" in page
    assert "beyond its limit of memory_mb" in page
    assert ("threshold" in page) == (done.task == "binary")


def test_what_needs_attention_is_told() -> None:
    truth, predictions = answered("regression", 50)
    plain = Evaluation("regression", (), {}, 50, predictions, truth)
    failed = Infrastructure("it took its process down with SIGKILL.", 0.5)

    assert record.notices(plain) == []
    assert record.notices(replace(plain, infrastructure=TRIED)) == [
        "beyond its limit: memory of its process in MiB: 80; evaluate.limits.memory_mb is 64"
    ]
    [told] = record.notices(replace(plain, infrastructure=failed))
    assert "SIGKILL" in told


def test_what_is_undefined_is_null() -> None:
    truth, predictions = answered("binary", 30)
    one = Evaluation("binary", ("a", "b"), {}, 30, predictions, truth)
    values: dict[str, Any] = record.to_json(one)

    assert (values["calibration"], values["threshold"], values["infrastructure"]) == (None, None, None)


def test_slices_of_too_few_rows_for_the_main_score_are_printed_as_undefined() -> None:
    task: Task = "binary"
    done = measured(task)
    values = record.to_json(done)
    del values["slices"][0]["scores"]["roc_auc"]
    console = Console(file=io.StringIO(), width=160, highlight=False)

    printed_page(console, values)

    assert "undefined" in console.file.getvalue()
