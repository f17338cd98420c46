"""How one configuration is trained: in this process for one worker, else by a group of worker processes.

This is the door to Ray Train, whose group XGBoost trains in, and PyTorch where ``train.group`` says so. No code changes
between them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import ClusterError
from rayline.model import family_of
from rayline.training import group_journal
from rayline.training.context import Listener, Place, TrainContext
from rayline.training.families import fit, refuse_unfit
from rayline.training.group import NODES_S, RESIZE_EVERY_S, Group, GroupFailed
from rayline.training.group_failures import told
from rayline.training.group_journal import JournalReader
from rayline.training.group_worker import DATASET, Failed, work_under_ray_train
from rayline.training.interrupts import own_interrupts
from rayline.training.metrics import direction
from rayline.training.room import Claim, device_for_group, refuse_what_never_fits
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec

if TYPE_CHECKING:
    from rayline.training.feed import Feed

__all__ = ["EpochReport", "TrainData", "TrainResult", "TrainSpec", "train"]

QUICK_LOOKS = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
"""Where nothing else is set: Ray Train looks at its workers every 2 s, at the start and the end too."""

PATIENT_START = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": f"{NODES_S:g}"}
"""Where nothing else is set, for workers that wait for nodes."""

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

    With one worker it trains in this process, which needs no Ray. With more, as many processes are started (gloo on
    CPUs, nccl on GPUs); one that dies is started again with the others, from the last checkpoint, at most
    ``spec.train.max_failures`` times.

    Args:
        spec: what to train. For more than one worker Ray must be connected.
        data: both parts, in this process; workers get them through the object store.
        out: the folder for the checkpoints, reachable by every node. What an earlier call left there is gone on from.
        on_epoch: hears each epoch once, in this process, as it ends. What it raises ends the training and is raised
            here.
        on_notice: hears what the user should know, and that stops nothing.

    Raises:
        ConfigError: the metric or the builder is unknown.
        TrainingFailed: the loss was not finite, or workers died more often than ``train.max_failures``.
        ClusterError: the workers can never fit, or could not be placed.
    """
    direction(spec.train.metric, spec.task)
    refuse_unfit(spec)
    out = out.resolve()  # a worker may have another working folder
    if spec.train.alone:
        place = Place(device=_device_here(spec), threads=os.cpu_count() or 1)
        return fit(TrainContext(spec, data, out, on_epoch, place, _feed(spec, data, place), on_notice))
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    with own_interrupts():
        return _in_group(spec, data, out, on_epoch, on_notice)


def _feed(spec: TrainSpec, data: TrainData, place: Place) -> Feed | None:
    if data.streamed is None:
        return None
    from rayline.training.streamed import RayDataFeed, dataset_of

    return RayDataFeed(data.streamed, dataset_of(data.streamed), spec.task, spec.train, place)


def _in_group(
    spec: TrainSpec, data: TrainData, out: Path, on_epoch: Listener, on_notice: Callable[[str], None]
) -> TrainResult:
    device = device_for_group(spec.train)
    claim = Claim.now(spec.cluster)
    grows = refuse_what_never_fits(spec.train, device, claim=claim)
    if grows:
        on_notice("the workers of this training wait for nodes")
    group_journal.clear(out)
    with JournalReader(out, on_epoch, on_notice) as reader:
        try:
            if spec.train.group == "ray_train" or family_of(spec.model.builder) == "xgboost":
                outcome = _by_ray_train(spec, data, out, device, grows)
            else:
                outcome = Group(
                    spec, data, out, device, lambda: reader.last_epoch, reader.raise_failure, claim, grows
                ).run()
        except GroupFailed as error:
            raise told(error, spec.train, group_journal.members(out), reader.last_epoch) from error
    reader.raise_failure()
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome


def _by_ray_train(spec: TrainSpec, data: TrainData, out: Path, device: str, grows: bool) -> TrainResult | Failed:
    """Train with Ray Train's own group, which brings the communicator of its library."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

    from rayline.training.streamed import dataset_of

    least, most = spec.train.workers
    trainer = _trainer_of(spec)(
        work_under_ray_train,
        train_loop_config={"spec": spec, "data": ray.put(data), "out": str(out)},
        datasets={DATASET: dataset_of(data.streamed)} if data.streamed is not None else None,
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),
            use_gpu=device == "cuda",
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
            label_selector=dict(spec.cluster.train_on) or None,
        ),
        run_config=RunConfig(
            name=f"{out.name}-workers",
            storage_path=str(out.parent),
            failure_config=FailureConfig(
                max_failures=spec.train.max_failures, controller_failure_limit=spec.train.max_failures
            ),
        ),
    )
    settings = QUICK_LOOKS if least == most else QUICK_LOOKS | QUICK_RETRY
    with _environment(QUICK_LOOKS | PATIENT_START if grows else settings):
        try:
            outcome: TrainResult | Failed = trainer.fit().return_value
        except TrainingFailedError as error:
            raise GroupFailed(getattr(error, "worker_failures", None) or {0: error}) from error
    return outcome


def _trainer_of(spec: TrainSpec) -> Any:
    """Return Ray Train's trainer of the family: it is what connects the workers with one another."""
    if family_of(spec.model.builder) == "xgboost":
        from ray.train.xgboost import XGBoostTrainer

        return XGBoostTrainer
    from ray.train.torch import TorchTrainer

    return TorchTrainer


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
