"""One worker of a group: runs in a process of its own, under Ray Train."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import RaylineError
from rayline.training import group_journal
from rayline.training.context import Place, TrainContext
from rayline.training.group_journal import GroupMember
from rayline.training.spec import EpochReport, TrainData, TrainResult

if TYPE_CHECKING:
    from rayline.training.feed import Feed


@dataclass(frozen=True, slots=True)
class Failed:
    """What a worker gives back instead of raising: Ray Train would start the group again for an error that stays."""

    error: RaylineError


def work(settings: dict[str, Any]) -> TrainResult | Failed:
    """Train as one worker of the group.

    Args:
        settings: ``spec``; ``data``, a reference of the parts in the object store; ``out``, the training's folder.
    """
    out = Path(settings["out"])
    known = group_journal.failure(out)  # one worker failed, and another's loss of it started the group again
    if known is not None:
        return Failed(known)
    try:
        return _trained(settings, out)
    except RaylineError as error:
        group_journal.tell_failure(out, error)
        _leave()
        return Failed(error)
    except Exception:
        known = group_journal.failure(out)
        if known is not None:
            return Failed(known)
        raise


def _trained(settings: dict[str, Any], out: Path) -> TrainResult:
    import ray
    from ray.train import get_context, get_dataset_shard
    from ray.train.torch import get_device

    from rayline.training.families import fit
    from rayline.training.streamed import DATASET, RayDataFeed

    context = get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    here = ray.get_runtime_context()
    group_journal.tell_member(out, GroupMember(rank, world, os.getpid(), here.get_node_id()))

    def tell(report: EpochReport) -> None:
        if rank == 0:
            group_journal.tell_epoch(out, report, world)

    def notice(text: str) -> None:
        if rank == 0:
            group_journal.tell_notice(out, text)

    spec = settings["spec"]
    place = Place(rank, world, str(get_device()), threads=1)
    data: TrainData = ray.get(settings["data"])
    feed: Feed | None = None
    if data.streamed is not None:
        feed = RayDataFeed(data.streamed, get_dataset_shard(DATASET), spec.task, spec.train, place)
    training = TrainContext(spec, data, out, tell, place, feed, notice)
    return fit(training)


def _leave() -> None:
    """Close the connections to the other workers, which would wait for this one for ever."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
