"""What workers tell reaches the listener in the driver, and what the listener raises is not lost."""

from __future__ import annotations

from queue import Queue

from rayline.errors import ClusterError, DataError, TrainingFailed
from rayline.training.spec import EpochReport
from rayline.training.trainer import _DONE, _mapped, _relay


def told(*epochs: int) -> Queue[EpochReport | None]:
    queue: Queue[EpochReport | None] = Queue()
    for epoch in epochs:
        queue.put(EpochReport(epoch, {}))
    queue.put(_DONE)
    return queue


def test_every_epoch_is_passed_on_in_order() -> None:
    heard: list[EpochReport] = []
    failures: list[Exception] = []
    _relay(told(1, 2, 3), heard.append, failures)
    assert [report.epoch for report in heard] == [1, 2, 3]
    assert failures == []


def test_a_failing_listener_is_asked_no_more_and_its_failure_kept() -> None:
    heard: list[int] = []
    failures: list[Exception] = []

    def listen(report: EpochReport) -> None:
        heard.append(report.epoch)
        if report.epoch == 2:
            raise OSError("disk full")

    queue = told(1, 2, 3)
    _relay(queue, listen, failures)
    assert heard == [1, 2]
    assert [str(each) for each in failures] == ["disk full"]
    assert queue.empty()


class GroupFailed(Exception):
    """As Ray Train tells of failed workers: a mapping of rank to error."""

    def __init__(self, worker_failures: dict[int, Exception]) -> None:
        self.worker_failures = worker_failures
        super().__init__("a worker failed")


def test_our_own_error_is_found_behind_those_of_ray() -> None:
    ours = DataError("too few rows")
    assert _mapped(GroupFailed({1: ours})) is ours
    wrapped = RuntimeError("task failed")
    wrapped.__cause__ = ours
    assert _mapped(GroupFailed({0: wrapped})) is ours
    assert _mapped(ClusterError("no room")).args == ("no room",)


def test_an_error_of_somebody_else_becomes_a_failed_training() -> None:
    error = _mapped(GroupFailed({0: MemoryError("out of memory")}))
    assert isinstance(error, TrainingFailed)
    assert "a worker failed" in str(error)
