"""How one configuration is trained: in this process for one worker, else by a group of worker processes.

This is the door to Ray Train. No code changes between the two.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import ClusterError
from rayline.training import group_journal
from rayline.training.context import Listener, Place, TrainContext
from rayline.training.group_failures import told
from rayline.training.group_journal import JournalReader
from rayline.training.group_worker import Failed, work
from rayline.training.interrupts import own_interrupts
from rayline.training.metrics import direction
from rayline.training.room import device_for_group, refuse_what_never_fits
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec

if TYPE_CHECKING:
    from rayline.training.feed import Feed

__all__ = ["EpochReport", "TrainData", "TrainResult", "TrainSpec", "train"]

RESIZE_EVERY_S = 30.0
"""How often an elastic group looks whether there is room for more workers; each change starts the group again."""

QUICK_LOOKS = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
"""Where nothing else is set: Ray Train looks at its workers every 2 s, at the start and the end too."""

QUICK_RETRY = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
"""Where nothing else is set, for an elastic group: Ray Train learns of a lost node late and then waits 60 s for it."""


def train(
    spec: TrainSpec,
    data: TrainData,
    out: Path,
    on_epoch: Listener = lambda report: None,
    on_notice: Callable[[str], None] = lambda text: None,
) -> TrainResult:
    """Train one configuration.

    With one worker it trains in this process, which needs no Ray. With more, Ray Train's TorchTrainer starts as many
    processes (gloo on CPUs, nccl on GPUs); one that dies is started again with the others, from the last checkpoint, at
    most ``spec.train.max_failures`` times.

    Args:
        spec: what to train. For more than one worker Ray must be connected.
        data: both parts, in this process; workers get them through the object store.
        out: the folder for the checkpoints, reachable by every node. What an earlier call left there is gone on from.
        on_epoch: hears each epoch once, in this process, as it ends. What it raises is raised here: at once with one
            worker, when the training has ended with more.
        on_notice: hears what the user should know, and that stops nothing.

    Raises:
        ConfigError: the metric or the builder is unknown.
        TrainingFailed: the loss was not finite, or workers died more often than ``train.max_failures``.
        ClusterError: the workers can never fit, or could not be placed.
    """
    direction(spec.train.metric, spec.task)
    out = out.resolve()  # a worker may have another working folder
    if spec.train.alone:
        place = Place(device=_device_here(spec), threads=os.cpu_count() or 1)
        return _fit(TrainContext(spec, data, out, on_epoch, place, _feed(spec, data, place), on_notice))
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    with own_interrupts():
        return _in_group(spec, data, out, on_epoch, on_notice)


def _fit(context: TrainContext) -> TrainResult:
    from rayline.training.families import fit

    return fit(context)


def _feed(spec: TrainSpec, data: TrainData, place: Place) -> Feed | None:
    if data.streamed is None:
        return None
    from rayline.training.streamed import RayDataFeed, dataset_of

    return RayDataFeed(data.streamed, dataset_of(data.streamed), spec.task, spec.train, place)


def _in_group(
    spec: TrainSpec, data: TrainData, out: Path, on_epoch: Listener, on_notice: Callable[[str], None]
) -> TrainResult:
    import ray
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from rayline.training.streamed import DATASET, dataset_of, in_order

    device = device_for_group(spec.train)
    refuse_what_never_fits(spec.train, device)
    least, most = spec.train.workers
    settings = QUICK_LOOKS if least == most else QUICK_LOOKS | QUICK_RETRY
    group_journal.clear(out)
    trainer = TorchTrainer(
        work,
        datasets={} if data.streamed is None else {DATASET: dataset_of(data.streamed)},
        dataset_config=DataConfig(execution_options=in_order()),
        train_loop_config={"spec": spec, "data": ray.put(data), "out": str(out)},
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),
            use_gpu=device == "cuda",
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
        ),
        run_config=RunConfig(
            name=f"{out.name}-workers",
            storage_path=str(out.parent),
            failure_config=FailureConfig(
                max_failures=spec.train.max_failures, controller_failure_limit=spec.train.max_failures
            ),
        ),
    )
    with JournalReader(out, on_epoch, on_notice) as reader, _environment(settings):
        try:
            outcome: Any = trainer.fit().return_value
        except Exception as error:
            raise told(error, spec.train, group_journal.members(out), reader.last_epoch) from error
    reader.raise_failure()
    if isinstance(outcome, Failed):
        raise outcome.error
    result: TrainResult = outcome
    return result


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set what the user has not: Ray Train hands its variables from here to the processes that it starts."""
    new = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _device_here(spec: TrainSpec) -> str:
    import torch

    if spec.train.use_gpu is False:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if spec.train.use_gpu is True:
        raise ClusterError("train.use_gpu is true, but PyTorch sees no GPU here. Set it to auto, or run on a GPU node.")
    return "cpu"
