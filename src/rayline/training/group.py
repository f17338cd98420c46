"""A group of worker processes for PyTorch: started, watched, started again when one dies, grown when there is room.

Ray Train does the same with eight processes where this takes one for each worker: its controller, the keeper of its
placement group, its datasets, barriers and preemptions each have one of their own, and all must start before the first
step. Nothing here outlives the driver: actors end with whoever started them, and there is no placement group to leak.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rayline.capacity.reading import elsewhere
from rayline.errors import ClusterError
from rayline.training.group_worker import Failed, GroupActor
from rayline.training.room import Claim, Room, room_for
from rayline.training.spec import TrainData, TrainResult, TrainSpec

Device = Literal["cpu", "cuda"]

START_S = 120.0
"""How long the processes of a group may take to start."""

NODES_S = 900.0
"""How long they may take where nodes must come first."""

LOOK_EVERY_S = 1.0
RESIZE_EVERY_S = 30.0
"""How often an elastic group looks whether there is room for more workers; each change starts the group again."""

RETURN_S = 60.0
"""How long a group waits for room that it has lost, before that counts as a failure."""

LAST_WORDS_S = 2.0
"""How long the others have to fail after one did: the first to be heard of may have lost only its connection."""


class GroupFailed(Exception):
    """A group's start ended without a result. ``worker_failures`` holds what was raised, by rank."""

    def __init__(self, worker_failures: dict[int, Exception]) -> None:
        self.worker_failures = worker_failures
        super().__init__("; ".join(f"worker {rank}: {_plain(error)}" for rank, error in worker_failures.items()))


def _plain(error: Exception) -> str:
    """Return what was raised in the worker, without the stack that Ray tells with it."""
    raised = getattr(error, "cause", None) or error
    return f"{type(raised).__name__}: {raised}"


class _RoomForMore(Exception):
    """The group can grow."""


@dataclass(frozen=True, slots=True)
class Group:
    """One training by a group.

    Attributes:
        spec, data, out: what to train, and the training's folder.
        device: what each worker computes on.
        last_epoch: gives the last epoch that was told.
        check: called about every second; what it raises ends the group.
        claim: what the group may take of the cluster.
        grows: whether nodes may come for workers that have no room yet.
    """

    spec: TrainSpec
    data: TrainData
    out: Path
    device: Device
    last_epoch: Callable[[], int]
    check: Callable[[], None]
    claim: Claim | None = None
    grows: bool = False

    def run(self) -> TrainResult | Failed:
        """Train until there is a result; each start goes on from the last checkpoint.

        Raises:
            GroupFailed: workers died or failed more often than ``train.max_failures``.
            ClusterError: there is no room for the least number of workers, and none came back.
        """
        import ray

        data, dataset = ray.put(self.data), self._dataset()
        failures = 0
        while True:
            try:
                return self._attempt(data, dataset, self._size())
            except _RoomForMore:
                continue
            except (GroupFailed, ClusterError):
                failures += 1
                if failures > self.spec.train.max_failures:
                    raise

    def _size(self) -> int:
        """Return how many workers there is room for. A group that has just lost one counts until Ray has noticed."""
        least, most = self.spec.train.workers
        room = self._room(most, 0.0 if self.grows else RESIZE_EVERY_S / 3 if least < most else RETURN_S)
        if self.grows:
            return max(least, min(most, int(room.free)))
        if room.free < least:
            room = self._await_room(least)
        if room.free < least:
            raise ClusterError(
                f"there is room for {room.free:g} workers of at least {least} (train.num_workers), each with "
                f"1 {self._resource}, and no more came in {RETURN_S:g} s."
            )
        return min(most, int(room.free))

    def _room(self, needed: int, patience: float) -> Room:
        return room_for(needed, self._resource, patience, self.claim)

    def _await_room(self, least: int) -> Room:
        """Wait for room even where the cluster has less in all just now: a node may come back."""
        deadline = time.monotonic() + RETURN_S
        while (room := self._room(least, 1)).free < least and time.monotonic() < deadline:
            time.sleep(0.2)
        return room

    def _hired(self, world: int) -> list[Any]:
        """Start the workers' processes. Those for which nodes must come leave alone what is kept for services here."""
        cluster = self.spec.cluster
        labels = [dict(cluster.train_on)] * world
        if self.grows and self.claim is not None and self.claim.kept():
            here = int(self._room(world, 0.0).free)
            labels = [each if rank < here else each | elsewhere() for rank, each in enumerate(labels)]
        return [_actor(self.device, each, cluster.priority == "low") for each in labels]

    @property
    def _resource(self) -> str:
        return "GPU" if self.device == "cuda" else "CPU"

    def _attempt(self, data: Any, dataset: Any, world: int) -> TrainResult | Failed:
        import ray

        actors = self._hired(world)
        try:
            _await_start(actors, NODES_S if self.grows else START_S)
            address = ray.get(actors[0].listen.remote(world), timeout=START_S)
            shards = [None] * world if dataset is None else dataset.streaming_split(world, equal=True)
            settings = {"spec": self.spec, "out": str(self.out), "device": self.device, "address": address}
            running = [
                actor.work.remote(rank, world, {**settings, "shard": shards[rank]}, data)
                for rank, actor in enumerate(actors)
            ]
            return self._watched(running, world)
        except ray.exceptions.RayError as error:
            raise GroupFailed({0: error}) from error
        finally:
            for actor in actors:
                ray.kill(actor)

    def _dataset(self) -> Any:
        """Return the part on disk, or None. It is made while there are CPUs left: Ray takes one to make it."""
        if self.data.streamed is None:
            return None
        from rayline.training.streamed import dataset_of

        return dataset_of(self.data.streamed)

    def _watched(self, running: list[Any], world: int) -> TrainResult | Failed:
        """Wait for all workers. The first's outcome is the group's."""
        import ray

        waiting, next_look = list(running), time.monotonic() + RESIZE_EVERY_S
        while waiting:
            self.check()
            done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_EVERY_S)
            failed = _failures(running, done)
            if failed:
                ended, _ = ray.wait(running, num_returns=world, timeout=LAST_WORDS_S)
                raise GroupFailed(_failures(running, ended))
            if waiting and time.monotonic() > next_look:
                next_look = time.monotonic() + RESIZE_EVERY_S
                self._grow_where_there_is_room(world)
        outcome: TrainResult | Failed = ray.get(running[0])
        return outcome

    def _grow_where_there_is_room(self, world: int) -> None:
        """End this start for a larger one, just after an epoch, so that little is done twice."""
        if world >= self.spec.train.workers[1] or self._room(1, 0).free < 1:
            return
        epoch, deadline = self.last_epoch(), time.monotonic() + RESIZE_EVERY_S
        while self.last_epoch() == epoch and time.monotonic() < deadline:
            time.sleep(0.02)
        raise _RoomForMore


def _actor(device: Device, labels: dict[str, str], low: bool) -> Any:
    import ray

    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(device == "cuda"), "max_restarts": 0}
    if labels:
        options["label_selector"] = labels
    return ray.remote(GroupActor).options(**options).remote(low)


def _await_start(actors: list[Any], seconds: float) -> None:
    import ray

    try:
        ray.get([actor.load.remote() for actor in actors], timeout=seconds)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(
            f"{len(actors)} workers did not start within {seconds:g} s: something else took their room."
        ) from error


def _failures(running: list[Any], done: list[Any]) -> dict[int, Exception]:
    import ray

    found: dict[int, Exception] = {}
    for rank, reference in enumerate(running):
        if reference in done:
            try:
                ray.get(reference)
            except Exception as error:  # noqa: BLE001 - told to the user as it is
                found[rank] = error
    return found
