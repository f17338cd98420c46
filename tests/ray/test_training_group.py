"""A group of workers under fire: killed workers, failing workers, what is left behind."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from msgspec import structs
from safetensors.numpy import load_file

from rayline.errors import TrainingFailed
from rayline.training import group_journal
from rayline.training.spec import EpochReport, TrainResult
from rayline.training.trainer import train
from training_examples import broken_data, made_data, spec_of

pytestmark = pytest.mark.usefixtures("ray_cluster")

LONG = spec_of(num_workers=2, epochs=150, patience=0, learning_rate=0.001)


def kill(rank: int, out: Path) -> None:
    """Kill the last started worker of a rank, as the kernel does where memory runs out."""
    os.kill(next(each.pid for each in group_journal.last_start(out) if each.rank == rank), signal.SIGKILL)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Give what a group of two does when nothing happens to it."""
    return train(LONG, made_data(), tmp_path_factory.mktemp("unbroken") / "run")


@pytest.mark.parametrize(("rank", "group"), [(0, "auto"), (1, "ray_train")])
def test_a_killed_worker_costs_time_and_nothing_else(
    tmp_path: Path, unbroken: TrainResult, rank: int, group: str
) -> None:
    out, told = tmp_path / "killed", []
    spec = replace(LONG, train=structs.replace(LONG.train, group=group))

    def listen(report: EpochReport) -> None:
        told.append(report)
        if report.epoch == 2:
            kill(rank, out)

    killed = train(spec, made_data(), out, listen)
    assert len(group_journal.members(out)) == 4, "the group must have been started twice"
    assert [report.epoch for report in told] == list(range(1, LONG.train.epochs + 1))
    assert [report.metrics for report in told] == [report.metrics for report in unbroken.history]
    assert killed.history == tuple(told)
    assert killed.metrics == unbroken.metrics
    for name, value in load_file(unbroken.checkpoint / "model.safetensors").items():
        assert (load_file(killed.checkpoint / "model.safetensors")[name] == value).all()
    assert nothing_left()


def test_workers_that_die_again_and_again_end_the_training_with_what_to_change(tmp_path: Path) -> None:
    out = tmp_path / "run"
    spec = replace(LONG, train=structs.replace(LONG.train, max_failures=0))
    with pytest.raises(TrainingFailed) as caught:
        train(spec, made_data(), out, lambda report: kill(1, out) if report.epoch == 2 else None)
    message = str(caught.value)
    assert "killed (SIGKILL) or died in each of 1 starts of the group" in message
    assert f"last as process {group_journal.members(out)[-1].pid} on node" in message
    assert "train.max_failures is 0. Most often it is out of memory: lower train.batch_size" in message
    assert "the same command goes on after it" in message
    assert nothing_left()
    told: list[int] = []
    finished = train(LONG, made_data(), out, lambda report: told.append(report.epoch))
    assert told == [report.epoch for report in finished.history] == list(range(1, LONG.train.epochs + 1))


def test_a_failure_of_one_worker_alone_ends_the_group_without_another_start(tmp_path: Path) -> None:
    """The batches of the second worker have the row that is not a number; the first would wait for it for ever."""
    with pytest.raises(TrainingFailed, match=r"the loss is nan at epoch 1, step \d+, with learning rate 0\.01"):
        train(spec_of(num_workers=2), broken_data(), tmp_path)
    assert len(group_journal.members(tmp_path)) == 2
    assert nothing_left()


def test_a_listener_that_raises_is_heard_when_the_training_has_ended(tmp_path: Path) -> None:
    told: list[int] = []

    def listen(report: EpochReport) -> None:
        told.append(report.epoch)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        train(spec_of(num_workers=2), made_data(), tmp_path, listen)
    assert told == [1]


def nothing_left() -> bool:
    """Wait until all CPUs are free, no placement group stands and no process of a training lives.

    Ray's coordinator of resources, one for each cluster, stays.
    """
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        groups = [each for each in ray.util.placement_group_table().values() if each["state"] != "REMOVED"]
        free = ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]
        if free and not groups and not actors():
            return True
        time.sleep(0.2)
    raise AssertionError((ray.available_resources(), ray.util.placement_group_table(), actors()))


def actors() -> list[str]:
    """Return the titles of the actors below this process, but those that Ray keeps for each node or cluster."""
    parents, titles = {}, {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            parents[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            titles[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    ours = {str(os.getpid())}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    found = [titles[pid].removeprefix("ray::") for pid in ours if titles.get(pid, "").startswith("ray::")]
    return [
        each
        for each in found
        if not each.startswith(("IDLE", "DashboardAgent", "RuntimeEnvAgent", "_Autoscaling", "_StatsActor"))
    ]
