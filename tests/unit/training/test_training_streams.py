"""When a training part stays on disk, and how batches reach the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rayline.config import TrainConfig
from rayline.errors import ConfigError
from rayline.training.prefetch import ahead
from rayline.training.streamed import memory_here, streams


@pytest.mark.parametrize(
    ("feed", "part_bytes", "answer"),
    [("auto", 249, False), ("auto", 251, True), ("memory", 5_000, False), ("ray_data", 1, True)],
)
def test_a_part_is_streamed_where_it_takes_over_a_quarter_of_the_memory(
    feed: Any, part_bytes: int, answer: bool
) -> None:
    assert streams(part_bytes, "mlp", TrainConfig(feed=feed), ram=1_000) is answer


def test_what_learns_from_the_whole_part_at_once_is_never_streamed() -> None:
    assert not streams(5_000, "xgboost", TrainConfig(), ram=1_000)
    with pytest.raises(
        ConfigError, match=r"feed is ray_data, and model.builder 'sklearn.svm:SVC' learns from the whole"
    ):
        streams(1, "sklearn.svm:SVC", TrainConfig(feed="ray_data"))


def test_this_machine_has_memory() -> None:
    assert 2**28 < memory_here() < 2**50


def test_on_the_cpu_batches_are_passed_on_as_they_are() -> None:
    batches = [(torch.ones(2, 3), torch.ones(2)), (torch.zeros(1, 3), torch.zeros(1))]
    found = list(ahead(iter(batches), "cpu"))
    assert all(
        ours is theirs
        for pair, other in zip(found, batches, strict=True)
        for ours, theirs in zip(pair, other, strict=True)
    )
