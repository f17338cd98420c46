"""A failed group is told in our words: what happened, which rule ended it, what to change."""

from __future__ import annotations

import pytest

from rayline.config import TrainConfig
from rayline.errors import DataError, TrainingFailed
from rayline.training.group import GroupFailed
from rayline.training.group_failures import told
from rayline.training.group_journal import GroupMember

TRAIN = TrainConfig(num_workers=2, max_failures=1)
MEMBERS = [GroupMember(rank, 2, 100 + rank, "node-of-two") for rank in (0, 1, 0, 1)]


class RayActorError(Exception):
    """As Ray names the death of an actor."""


class OutOfMemoryError(Exception):
    """As Ray names a worker that its memory monitor killed."""


def test_our_own_error_is_found_behind_those_of_others() -> None:
    ours = DataError("too few rows")
    wrapped = RuntimeError("task failed")
    wrapped.__cause__ = ours
    assert told(GroupFailed({1: ours}), TRAIN) is ours
    assert told(GroupFailed({0: RayActorError("gone"), 1: wrapped}), TRAIN) is ours


@pytest.mark.parametrize("death", [RayActorError("gone"), OutOfMemoryError("killed"), MemoryError("none left")])
def test_a_death_names_the_process_the_limit_and_what_to_change(death: Exception) -> None:
    error = told(GroupFailed({0: RuntimeError("Connection closed by peer"), 1: death}), TRAIN, MEMBERS, last_epoch=4)
    assert isinstance(error, TrainingFailed)
    assert str(error) == (
        "a worker process was killed (SIGKILL) or died in each of 2 starts of the group, last as process 101 on node "
        "node-of-; train.max_failures is 1. Most often it is out of memory: lower train.batch_size, set train.feed to "
        "ray_data, start fewer workers on a node (train.num_workers), or take nodes with more memory. Epoch 4 is kept: "
        "the same command goes on after it."
    )


def test_an_error_of_somebody_else_is_told_as_it_is() -> None:
    error = told(GroupFailed({0: ZeroDivisionError("division by zero")}), TRAIN)
    assert isinstance(error, TrainingFailed)
    assert str(error) == "the workers failed: worker 0: ZeroDivisionError: division by zero"
