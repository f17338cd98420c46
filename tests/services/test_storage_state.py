"""Each kind of state by its own functions, written on one node and read on another that has the bucket in common."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayline import storage as seam
from rayline.errors import ConfigError, StorageError, TrackingError
from rayline.features.online.opening import open_store
from rayline.registry.memory import MemoryStore
from rayline.registry.spool import Tracking
from rayline.registry.store import Point, Store
from rayline.serving.names import plan_path, service_folder
from rayline.serving.records.capture_files import AT, REQUEST, VERSION, capture_files, capture_folder, write_file
from rayline.serving.records.feedback import FeedbackLog
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.traffic.plan_file import PlanFile
from rayline.storage.objects import Objects
from rayline.training import checkpoint, group_journal, record
from rayline.training.group_journal import GroupMember, JournalReader
from rayline.training.spec import EpochReport
from rayline.tuning import ledger
from rayline.tuning.inherit import inherit
from rayline.tuning.ledger import Ledger, Trial
from storage_suite import Node
from team_services import Bucket, until


@pytest.fixture
def uri(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty storage."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket.name}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def node(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    def go(name: str) -> Path:
        monkeypatch.setenv("RAYLINE_SCRATCH", str(tmp_path / name))
        return seam.folder_of(uri)

    return go


def saved(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "weights").write_text(text) and None


def epochs_written(out: Path, *epochs: int) -> None:
    for epoch in epochs:
        checkpoint.write(out, epoch, saved(f"{out.name}-{epoch}"), {"history": []})


def test_a_training_goes_on_from_the_last_checkpoint_that_another_node_has_kept(node: Node) -> None:
    out = node("a") / "runs" / "k"
    epochs_written(out, 1, 2, 3)
    checkpoint.prune(out, [2, 3])
    seam.settle()
    there = node("b") / "runs" / "k"
    assert checkpoint.epochs(there) == [2, 3], "what was pruned is gone from the bucket too"
    found = checkpoint.latest(there)
    assert found is not None
    assert (found.epoch, (found.path / "weights").read_text()) == (3, "k-3")


def test_epochs_that_were_told_are_known_on_another_node(node: Node) -> None:
    reports = [EpochReport(epoch, {"valid_loss": 1.0 / epoch}, float(epoch)) for epoch in (1, 2)]
    for report in reports:
        record.add(node("a") / "runs" / "k", "key", report)
    seam.settle()
    assert record.after(node("b") / "runs" / "k", "key", reports[:1]) == {2: reports[1]}


def test_a_study_goes_on_on_another_node_with_the_checkpoints_of_its_trials_there(node: Node) -> None:
    study = node("a") / "studies" / "k"
    epochs_written(study / "trial-000", 1)
    kept = Ledger(study / "trials.jsonl")
    kept.suggested(0, {"x": 1})
    kept.ended(Trial(0, {"x": 1}, {"valid_loss": 0.5}, (), "finished", checkpoint.folder_of(study / "trial-000", 1)))
    kept.close()
    there = node("b") / "studies" / "k"
    (trial,) = ledger.read(there / "trials.jsonl")
    assert trial.checkpoint == checkpoint.folder_of(there / "trial-000", 1)
    assert (seam.fetch(trial.checkpoint) / "weights").read_text() == "trial-000-1"


def test_a_member_of_a_population_inherits_from_one_that_another_node_trained(node: Node) -> None:
    epochs_written(node("a") / "trial-000", 1, 2)
    epochs_written(node("a") / "trial-001", 1)
    seam.settle()
    inherit(node("b") / "trial-000", node("b") / "trial-001")
    assert checkpoint.epochs(node("c") / "trial-001") == [1, 2]
    found = checkpoint.latest(node("c") / "trial-001")
    assert found is not None
    assert (found.path / "weights").read_text() == "trial-000-2"


WORKER = """
import sys
from pathlib import Path
from rayline.training import group_journal
from rayline.training.group_journal import GroupMember
from rayline.training.spec import EpochReport
out, rank = Path(sys.argv[1]), int(sys.argv[2])
group_journal.tell_member(out, GroupMember(rank, 2, rank, f"node-{rank}"))
if rank == 0:
    for epoch in (1, 2, 3):
        group_journal.tell_epoch(out, EpochReport(epoch, {"valid_loss": 1.0}, 1.0), 2)
"""


def test_workers_on_other_nodes_are_heard_by_the_driver(node: Node, tmp_path: Path) -> None:
    out, heard = node("driver") / "runs" / "k", list[int]()
    group_journal.clear(out)
    with JournalReader(out, lambda report: heard.append(report.epoch), lambda text: None):
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(out), str(rank)],
                env={**os.environ, "RAYLINE_SCRATCH": str(tmp_path / f"node-{rank}")},
            )
            for rank in (0, 1)
        ]
        assert [worker.wait(120) for worker in workers] == [0, 0]
    assert heard == [1, 2, 3]
    members = sorted(group_journal.members(out), key=lambda each: each.rank)
    assert members == [GroupMember(rank, 2, rank, f"node-{rank}") for rank in (0, 1)]
    group_journal.clear(out)
    assert group_journal.members(out) == []


def away() -> Store:
    raise TrackingError("MLflow is away")


def test_what_mlflow_has_not_taken_is_delivered_from_another_machine(node: Node, tmp_path: Path) -> None:
    spool = Tracking(node("a") / "tracking" / "k", away).open("run-k-1")
    spool.start_run("run-k-1", "experiment", "name", {})
    spool.log_params("run-k-1", {"p": 1})
    spool.log_metrics("run-k-1", [Point("loss", 0.5, 1, 1)])
    spool.log_bytes("run-k-1", b"bytes", "plots/a.bin")
    page = node("a") / "studies" / "k" / "page" / "study.html"
    page.parent.mkdir(parents=True)
    page.write_text("a page")
    spool.log_file("run-k-1", page, "page.html")
    spool.finish_run("run-k-1")
    spool.leave()
    seam.settle()
    (node("a").parents[2]).rename(tmp_path / "gone")
    store = MemoryStore()
    there = Tracking(node("b") / "tracking" / "k", lambda: store)
    assert len(there.left()) == 1
    there.deliver_left(store)
    run_id = there.run_id("run-k-1")
    assert run_id is not None
    found = store.run(run_id)
    assert (found.params, found.metrics, found.files) == ({"p": "1"}, {"loss": 0.5}, ("page.html", "plots/a.bin"))
    seam.settle()
    assert Tracking(node("c") / "tracking" / "k", away).left() == {}
    assert Tracking(node("c") / "tracking" / "k", away).run_id("run-k-1") == run_id


def test_a_traffic_plan_comes_back_with_its_fence_on_another_node(node: Node, uri: str) -> None:
    plan = TrafficPlan.first("bikes", LiveVersion(1, "/b", "d"), (), 1)
    node("a")
    PlanFile(plan_path(uri, "bikes")).write(plan, 7)
    node("b")
    found = PlanFile(plan_path(uri, "bikes")).read()
    assert (found.plan, found.fence) == (plan, 7)


def requests(version: int) -> pa.Table:
    at = pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    ids = pa.array([f"{version}-0000000a00000001"])
    return pa.table({REQUEST: ids, VERSION: pa.array([version], pa.int64()), AT: at})


def test_captured_requests_are_listed_and_read_on_another_node(node: Node, uri: str) -> None:
    node("a")
    for version in (1, 2):
        write_file(capture_folder(uri, "bikes"), "0000000a", version, requests(version))
    node("b")
    (file,) = capture_files(uri, "bikes", 2)
    assert (file.version, file.day, file.tag) == (2, "2026-01-02", "0000000a")
    assert pq.read_table(seam.fetch(file.path)).equals(requests(2))
    assert len(list(capture_files(uri, "bikes"))) == 2


def test_a_file_that_the_store_does_not_take_is_written_again_and_not_counted_twice(
    node: Node, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node("a")

    def refused(self: Objects, key: str, content: bytes | Path) -> str:
        raise StorageError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(Objects, "put", refused)
        with pytest.raises(OSError, match="no room"):
            write_file(capture_folder(uri, "bikes"), "0000000a", 1, requests(1))
    assert list(capture_files(uri, "bikes")) == []
    write_file(capture_folder(uri, "bikes"), "0000000a", 1, requests(1))
    assert len(list(capture_files(uri, "bikes"))) == 1


def test_truth_of_a_replica_that_ended_is_in_the_bucket(node: Node, uri: str) -> None:
    node("a")
    log = FeedbackLog(service_folder(uri, "bikes") / "feedback" / "0000000a.jsonl")
    log.append({"request_id": "1-0000000a00000001", "labels": [1]})
    log.close()
    node("b")
    paths = until(lambda: seam.files_below(service_folder(uri, "bikes") / "feedback"), "the file", 30)
    assert '"labels":[1]' in seam.refresh(paths[0]).read_text()


def test_the_embedded_online_store_is_refused_with_what_would_do(node: Node) -> None:
    with pytest.raises(ConfigError, match=r"cannot lie in 's3://.*: it is changed in place\. .*redis://"):
        open_store("embedded", node("a"))
