"""What a user is told when a group of workers failed for good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rayline.config import TrainConfig
from rayline.errors import ClusterError, RaylineError, TrainingFailed
from rayline.training.group_journal import GroupMember

_MEMORY = (
    "Most often it is out of memory: lower train.batch_size, set train.feed to ray_data, start fewer workers on a node "
    "(train.num_workers), or take nodes with more memory"
)


def told(
    error: BaseException, train: TrainConfig, members: Sequence[GroupMember] = (), last_epoch: int = 0
) -> RaylineError:
    """Return our own error where a worker raised one, else what happened to the workers, and what to change.

    Args:
        error: what Ray Train raised.
        train: the settings.
        members: every worker process that was started.
        last_epoch: the last epoch that was told.
    """
    causes = list(_causes(error))
    ours = next((each for each in causes if isinstance(each, RaylineError)), None)
    if ours is not None:
        return ours
    kept = f" Epoch {last_epoch} is kept: the same command goes on after it." if last_epoch else ""
    names = {kind.__name__ for each in causes for kind in type(each).__mro__}
    if names & {"WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError"}:
        least = train.workers[0]
        return ClusterError(
            f"the cluster lost room for {least} workers (train.num_workers) and did not get it back. "
            f"Lower train.num_workers, make it [1, {train.workers[1]}] to go on with fewer, or add nodes.{kept}"
        )
    if names & {"RayActorError", "OutOfMemoryError", "MemoryError", "WorkerHealthCheckFailedError"}:
        return TrainingFailed(f"{_deaths(train, members)}. {_MEMORY}.{kept}")
    return TrainingFailed(f"the workers failed: {error}{kept}")


def _deaths(train: TrainConfig, members: Sequence[GroupMember]) -> str:
    starts = sum(member.rank == 0 for member in members)
    where = f", last as process {members[-1].pid} on node {members[-1].node[:8]}" if members else ""
    return (
        f"a worker process was killed (SIGKILL) or died in each of {starts} starts of the group{where}; "
        f"train.max_failures is {train.max_failures}"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and what lies behind it: its own cause, and what Ray Train says of each worker."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        failures = getattr(each, "worker_failures", None) or {}
        waiting += [inner for inner in failures.values() if isinstance(inner, BaseException)]
        for name in ("controller_failure", "health_check_failure", "__cause__"):
            inner = getattr(each, name, None)
            if isinstance(inner, BaseException):
                waiting.append(inner)
