"""Late truth: joined once, judged by task, written down, and handed on where another replica answered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import RowError, ServiceError
from rayline.serving.host import Host
from rayline.serving.records import feedback as truth
from rayline.serving.records.counters import RowTruth
from rayline.serving.records.feedback import Answers, Feedback, FeedbackLog, RequestId
from rayline.serving.traffic.follower import Follower
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from registry_examples import make_bundle, real_table

TAG = "00c0ffee"


@pytest.fixture(scope="module", params=["binary", "regression"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"), real_table(request.param))
    host = Host("m", on_change=lambda: None)
    host.apply(TrafficPlan.first("m", LiveVersion(4, str(bundle.path), bundle.digest)), wait=True)
    return host


@pytest.fixture
def parts(host: Host, tmp_path: Path) -> Iterator[tuple[Feedback, Answers, FeedbackLog]]:
    answers, log = Answers(TAG), FeedbackLog(tmp_path / "feedback" / "log.jsonl")
    yield Feedback(host, answers, log, TAG), answers, log
    log.close()


def written(tmp_path: Path, log: FeedbackLog) -> list[dict[str, object]]:
    log.close()
    path = tmp_path / "feedback" / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_truth_is_judged_counted_and_written(
    host: Host, parts: tuple[Feedback, Answers, FeedbackLog], tmp_path: Path
) -> None:
    joiner, answers, log = parts
    served = host.table.versions[4]
    outcomes, labels = (["benign", "malignant"], ["benign", "benign"]) if served.labelled else ([100.0, 50.0], [90, 55])
    before = served.counters.snapshot()
    request_id = answers.new_id(4)
    answers.remember(request_id, 4, outcomes)

    assert joiner.join(request_id, labels) == "joined"
    assert joiner.join(request_id, labels) == "duplicate"

    gained = served.counters.snapshot().minus(before)
    assert gained.feedback == 2
    counted = (gained.correct, gained.absolute_error, gained.squared_error)
    assert counted == ((1, 0.0, 0.0) if served.labelled else (0, 15.0, 125.0))
    [record] = written(tmp_path, log)
    assert record["request_id"] == request_id
    assert (record["version"], record["matched"]) == (4, True)
    assert (record["predictions"], record["labels"]) == (outcomes, labels)


def test_labels_that_do_not_fit_the_answer_are_refused_and_may_be_sent_again(
    host: Host, parts: tuple[Feedback, Answers, FeedbackLog]
) -> None:
    joiner, answers, _ = parts
    labelled = host.table.versions[4].labelled
    request_id = answers.new_id(4)
    answers.remember(request_id, 4, ["benign"] if labelled else [1.0])
    with pytest.raises(RowError, match="labels were sent for a request of 1 rows"):
        joiner.join(request_id, ["benign", "benign"] if labelled else [1.0, 2.0])
    if not labelled:
        with pytest.raises(RowError, match="must be a number"):
            joiner.join(request_id, ["many"])
    assert joiner.join(request_id, ["benign"] if labelled else [1.5]) == "joined"


def test_truth_for_a_forgotten_answer_is_kept_unmatched(
    parts: tuple[Feedback, Answers, FeedbackLog], tmp_path: Path
) -> None:
    joiner, _, log = parts
    assert joiner.join(f"4-{TAG}00000001", ["x"]) == "unmatched"
    assert [record["matched"] for record in written(tmp_path, log)] == [False]


def test_truth_for_another_replica_is_kept_here_before_it_goes_there_and_where_it_ends(
    parts: tuple[Feedback, Answers, FeedbackLog], tmp_path: Path
) -> None:
    joiner, _, log = parts
    assert joiner.join("4-0badbeef00000001", ["x"]) == "elsewhere"
    assert joiner.join("4-0badbeef00000001", ["x"], passed_on=True) == "unmatched"
    records = written(tmp_path, log)
    assert [(record["matched"], record["passed_on"]) for record in records] == [(False, True), (False, False)]
    assert [record["labels"] for record in records] == [["x"], ["x"]]


@pytest.mark.parametrize("label", [10**400, -(10**400), 1e300, float("inf"), float("nan")])
def test_a_regression_label_that_would_spoil_every_sum_is_refused(
    host: Host, parts: tuple[Feedback, Answers, FeedbackLog], label: float
) -> None:
    served = host.table.versions[4]
    if served.labelled:
        assert served.judge(["benign"], [label]) == [RowTruth(correct=False)]
        return
    joiner, answers, _ = parts
    before = served.counters.snapshot()
    request_id = answers.new_id(4)
    answers.remember(request_id, 4, [1.0, 2.0])
    with pytest.raises(RowError, match=r"row 1, column 'target': .*must be a finite number of at most 1e\+15"):
        joiner.join(request_id, [1.0, label])
    assert served.counters.snapshot() == before
    assert joiner.join(request_id, [1, 10**12]) == "joined"


def test_one_letter_that_cannot_be_joined_stops_no_other(
    host: Host, parts: tuple[Feedback, Answers, FeedbackLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    joiner, answers, _ = parts
    good = answers.new_id(4)
    label = "benign" if host.table.versions[4].labelled else 1.0
    answers.remember(good, 4, [label])
    letters = [
        {"letter": 1, "request_id": "no id", "labels": [label]},
        {"letter": 2, "request_id": good, "labels": None},
        {"letter": 3, "request_id": good, "labels": [label]},
    ]
    follower = Follower("m", "replica-00c0ffee", host, None)
    asked: list[dict[str, Any]] = []

    class State:
        """Hands the letters over once."""

        class poll:  # noqa: N801 - called as Ray calls an actor's method
            @staticmethod
            def remote(report: dict[str, Any], me: object) -> dict[str, Any]:
                asked.append(report)
                if len(asked) > 1:
                    follower.stop()
                return {"round": 1, "plan": None, "mail": letters if len(asked) == 1 else []}

    monkeypatch.setattr("rayline.serving.traffic.follower.live_state_handle", lambda service: State)
    monkeypatch.setattr("ray.get", lambda answer: answer)
    follower.start(joiner)
    deadline = time.monotonic() + 10
    while follower.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answers.recall(good) == "told"
    assert [report["received"] for report in asked] == [[], [1, 2, 3]]


@pytest.mark.parametrize("request_id", ["", "abc", "4-short", "x-0123456789abcdef", "4-0123456789ABCDEF"])
def test_what_is_no_request_id_is_refused(parts: tuple[Feedback, Answers, FeedbackLog], request_id: str) -> None:
    with pytest.raises(RowError, match="is no request id"):
        parts[0].join(request_id, ["x"])


@given(st.integers(0, 10_000))
def test_a_request_id_names_version_and_replica(version: int) -> None:
    assert RequestId.parse(Answers(TAG).new_id(version)) == RequestId(version, TAG)


def test_only_the_latest_answers_are_remembered() -> None:
    answers = Answers(TAG, limit=100)
    ids = [answers.new_id(1) for _ in range(500)]
    assert len(set(ids)) == 500
    for request_id in ids:
        answers.remember(request_id, 1, ["yes"])
    assert all(answers.recall(request_id) == (1, ["yes"]) for request_id in ids[-50:])
    assert answers.recall(ids[0]) is None


def test_truth_waits_for_a_disk_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "UNWRITTEN_LIMIT", 2)
    path = tmp_path / "feedback" / "log.jsonl"
    path.mkdir(parents=True)  # a folder stands where the file must go
    log = FeedbackLog(path)
    log.append({"n": 1})
    log.append({"n": 2})
    with pytest.raises(ServiceError, match="cannot be written"):
        log.append({"n": 3})
    path.rmdir()
    log.close()
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2]
