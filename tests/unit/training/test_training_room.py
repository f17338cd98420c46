"""How much of the cluster is free: waits for what is about to be, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from rayline.config import TrainConfig
from rayline.errors import ClusterError
from rayline.training.room import Room, device_for_group, refuse_what_never_fits, room_for


def cluster(monkeypatch: pytest.MonkeyPatch, total: float, free: Iterator[float]) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": total})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": next(free)})


def test_what_is_about_to_be_free_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, 4.0, iter([0.0, 1.0, 2.0]))
    assert room_for(2, patience=60) == Room(free=2.0, total=4.0)


def test_more_than_the_cluster_has_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, 2.0, iter([2.0]))  # a second look would find nothing to give
    assert room_for(3, patience=60) == Room(free=2.0, total=2.0)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, 4.0, iter([1.0]))
    assert room_for(2, patience=0) == Room(free=1.0, total=4.0)


def test_a_resource_that_is_not_there_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, 4.0, iter([4.0]))
    assert room_for(1, "GPU", patience=60) == Room(free=0.0, total=0.0)


@pytest.mark.parametrize(
    ("use_gpu", "gpus", "device"),
    [("auto", 0, "cpu"), ("auto", 1, "cpu"), ("auto", 2, "cuda"), (False, 8, "cpu"), (True, 2, "cuda")],
)
def test_a_group_takes_the_gpus_of_the_cluster_where_each_worker_gets_one(
    monkeypatch: pytest.MonkeyPatch, use_gpu: Any, gpus: float, device: str
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": gpus})
    assert device_for_group(TrainConfig(num_workers=2, use_gpu=use_gpu)) == device


def test_gpus_that_the_cluster_does_not_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    with pytest.raises(
        ClusterError, match=r"2 workers take 1 GPU each, but this cluster has 1\. Set train.use_gpu to auto"
    ):
        device_for_group(TrainConfig(num_workers=2, use_gpu=True))


def test_a_group_that_may_shrink_is_refused_only_below_its_least(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, 2.0, iter([2.0, 2.0]))
    refuse_what_never_fits(TrainConfig(num_workers=(2, 64)), "cpu")
    with pytest.raises(ClusterError, match=r"num_workers is \[3, 64\], .* has 2 free of 2\."):
        refuse_what_never_fits(TrainConfig(num_workers=(3, 64)), "cpu")
