"""One worker of a group: runs in a process of its own, as an actor of our own group or under Ray Train."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import RaylineError
from rayline.training import group_journal
from rayline.training.context import Place, TrainContext
from rayline.training.group_journal import GroupMember
from rayline.training.priority import give_way
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec

if TYPE_CHECKING:
    from rayline.training.feed import Feed

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long a worker waits for the others in one exchange; a dead one is noticed at once."""


DATASET = "train"
"""The name under which Ray Train hands a worker its share of a streamed training part."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What a worker gives back instead of raising: another start of the group would fail the same way."""

    error: RaylineError


class GroupActor:
    """A worker process. Its functions are called by the group in the driver."""

    def __init__(self, low: bool = False) -> None:
        """Start; ``low`` lets the operating system serve others first."""
        if low:
            give_way()
        self._store: Any = None

    def load(self) -> None:
        """Load what a training needs, which takes most of a start."""
        import rayline.training.loop  # noqa: F401

    def listen(self, world: int) -> tuple[str, int]:
        """Be where the workers meet: return this node's address, and a free port that is ours already."""
        import ray
        from torch.distributed import TCPStore

        host = ray.util.get_node_ip_address()
        self._store = TCPStore(host, 0, world, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def work(self, rank: int, world: int, settings: dict[str, Any], data: TrainData) -> TrainResult | Failed:
        """Train as worker ``rank`` of ``world``.

        Args:
            rank: from 0.
            world: how many workers there are.
            settings: ``spec``; ``out``, the training's folder; ``device``; ``address``, where the workers meet; and
                ``shard``, this worker's share of a part on disk, or None.
            data: both parts.
        """
        from torch import distributed

        def train(out: Path) -> TrainResult:
            host, port = settings["address"]
            store = self._store or distributed.TCPStore(host, port, world, is_master=False)
            backend = "nccl" if settings["device"] == "cuda" else "gloo"
            distributed.init_process_group(
                backend, store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
            )
            place = Place(rank, world, settings["device"], threads=1)
            return _trained(settings["spec"], data, out, place, settings["shard"])

        return _told(Path(settings["out"]), train)


def work_under_ray_train(settings: dict[str, Any]) -> TrainResult | Failed:
    """Train as a worker that Ray Train has started, with its communicator.

    Args:
        settings: ``spec``; ``data``, a reference of the parts in the object store; ``out``, the training's folder.
    """

    def train(out: Path) -> TrainResult:
        import ray
        from ray.train import get_context, get_dataset_shard
        from ray.train.torch import get_device

        if settings["spec"].cluster.priority == "low":
            give_way()
        context, data = get_context(), ray.get(settings["data"])
        place = Place(context.get_world_rank(), context.get_world_size(), str(get_device()), threads=1)
        shard = get_dataset_shard(DATASET) if data.streamed is not None else None
        return _trained(settings["spec"], data, out, place, shard)

    return _told(Path(settings["out"]), train)


def _told(out: Path, train: Callable[[Path], TrainResult]) -> TrainResult | Failed:
    """Train, and give back what would fail again; the others must hear of it, or they would wait for ever."""
    known = group_journal.failure(out)  # one worker failed, and another's loss of it started the group again
    if known is not None:
        return Failed(known)
    try:
        return train(out)
    except RaylineError as error:
        group_journal.tell_failure(out, error)
        _leave()
        return Failed(error)
    except Exception:
        known = group_journal.failure(out)
        if known is not None:
            return Failed(known)
        raise


def _trained(spec: TrainSpec, data: TrainData, out: Path, place: Place, shard: Any) -> TrainResult:
    import ray

    from rayline.training.families import fit

    node = ray.get_runtime_context().get_node_id()
    group_journal.tell_member(out, GroupMember(place.rank, place.world, os.getpid(), node))

    def tell(report: EpochReport) -> None:
        if place.rank == 0:
            group_journal.tell_epoch(out, report, place.world)

    def notice(text: str) -> None:
        if place.rank == 0:
            group_journal.tell_notice(out, text)

    feed: Feed | None = None
    if data.streamed is not None:
        from rayline.training.streamed import RayDataFeed

        feed = RayDataFeed(data.streamed, shard, spec.task, spec.train, place)
    return fit(TrainContext(spec, data, out, tell, place, feed, notice))


def _leave() -> None:
    """Close the connections to the other workers, which would wait for this one for ever."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
