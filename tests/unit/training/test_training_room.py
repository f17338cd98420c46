"""How much of the cluster is free: waits for what is about to be, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from rayline.training.room import Room, room_for


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
