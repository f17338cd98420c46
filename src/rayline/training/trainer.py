"""The door to Ray Train: in this process for one worker, in worker processes for more. No code changes between them."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from rayline.errors import ClusterError, RaylineError, TrainingFailed
from rayline.model import family_of
from rayline.training.context import Listener, Place, TrainContext
from rayline.training.families import fit, refuse_unfit
from rayline.training.interrupts import own_interrupts
from rayline.training.metrics import direction
from rayline.training.room import room_for
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec

__all__ = ["EpochReport", "TrainData", "TrainResult", "TrainSpec", "train"]

_DONE = None


def train(spec: TrainSpec, data: TrainData, out: Path, on_epoch: Listener = lambda report: None) -> TrainResult:
    """Train one configuration with Ray Train's TorchTrainer.

    Args:
        spec: what to train; ``spec.train.num_workers`` above 1 starts that many worker processes (gloo on CPUs, nccl
            on GPUs), for which Ray must be connected.
        data: both parts, in this process; workers get them through the object store.
        out: the folder for the checkpoint, reachable by every node.
        on_epoch: hears each epoch, in this process, as it ends. What it raises is raised here: at once with one
            worker, when the training has ended with more.

    Raises:
        ConfigError: the metric or the builder is unknown.
        TrainingFailed: the loss was not finite, or a worker failed.
        ClusterError: the workers could not be placed.
    """
    direction(spec.train.metric, spec.task)
    refuse_unfit(spec)
    out = out.resolve()  # a worker may have another working folder
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    place = _in_process if spec.train.alone else _in_group
    with own_interrupts():
        return place(spec, data, out, on_epoch)


def _in_process(spec: TrainSpec, data: TrainData, out: Path, on_epoch: Listener) -> TrainResult:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop() -> TrainResult:
        return fit(TrainContext(spec, data, out, on_epoch, Place(device=_device(spec), threads=os.cpu_count() or 1)))

    # Ray Train's name for a loop in the driver's own process is a group of zero workers.
    result = TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=0)).fit()
    trained: TrainResult = result.return_value
    return trained


def _in_group(spec: TrainSpec, data: TrainData, out: Path, on_epoch: Listener) -> TrainResult:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.util.queue import Queue

    _refuse_too_many(spec)
    epochs = Queue(actor_options={"num_cpus": 0})
    failures: list[Exception] = []
    listening = threading.Thread(target=_relay, args=(epochs, on_epoch, failures), daemon=True)
    listening.start()
    trainer = _group_trainer(spec)(
        _worker,
        train_loop_config={"spec": spec, "data": ray.put(data), "out": str(out), "epochs": epochs},
        scaling_config=ScalingConfig(num_workers=spec.train.workers[1], use_gpu=_device(spec) == "cuda"),
        run_config=RunConfig(
            name=f"{out.name}-workers",
            storage_path=str(out.parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=1),
        ),
    )
    try:
        result = trainer.fit()
    except Exception as error:
        raise _mapped(error) from error
    finally:
        epochs.put(_DONE)
        listening.join(timeout=10)
        epochs.shutdown()
    if failures:
        raise failures[0]
    trained: TrainResult = result.return_value
    return trained


def _worker(settings: dict[str, Any]) -> TrainResult:
    """Run the loop in one worker of a group."""
    import ray
    from ray.train import get_context
    from ray.train.torch import get_device, prepare_model

    context, epochs = get_context(), settings["epochs"]
    rank = context.get_world_rank()

    def tell(report: EpochReport) -> None:
        if rank == 0:
            epochs.put(report)

    place = Place(rank, context.get_world_size(), str(get_device()), threads=1)
    training = TrainContext(settings["spec"], ray.get(settings["data"]), Path(settings["out"]), tell, place)
    if family_of(training.spec.model.builder) != "torch":
        return fit(training)
    from rayline.training.loop import fit_loop

    return fit_loop(training, prepare_model)


def _group_trainer(spec: TrainSpec) -> Any:
    """Return Ray Train's trainer of the family: it is what connects the workers with one another."""
    if family_of(spec.model.builder) == "xgboost":
        from ray.train.xgboost import XGBoostTrainer

        return XGBoostTrainer
    from ray.train.torch import TorchTrainer

    return TorchTrainer


def _relay(epochs: Any, on_epoch: Listener, failures: list[Exception]) -> None:
    """Pass on what the workers tell, until a failure of the listener, which is raised when the training has ended."""
    while (report := epochs.get()) is not _DONE:
        try:
            if not failures:
                on_epoch(report)
        except Exception as error:  # noqa: BLE001 - kept for the caller's thread
            failures.append(error)


def _refuse_too_many(spec: TrainSpec) -> None:
    """Refuse before anything starts what the cluster cannot hold: Ray Train would wait for ever."""
    workers = spec.train.workers[1]
    resource = "GPU" if _device(spec) == "cuda" else "CPU"
    room = room_for(workers, resource)
    if room.free < workers:
        raise ClusterError(
            f"train.num_workers is {workers}, and each worker takes 1 {resource}, but this cluster has "
            f"{room.free:g} free of {room.total:g}. Lower train.num_workers, add nodes, or stop what holds the rest."
        )


def _device(spec: TrainSpec) -> str:
    import torch

    if spec.train.use_gpu is False:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if spec.train.use_gpu is True:
        raise ClusterError("train.use_gpu is true, but PyTorch sees no GPU here. Set it to auto, or run on a GPU node.")
    return "cpu"


def _mapped(error: Exception) -> RaylineError:
    """Return our own error where a worker raised one, else what Ray Train said, as a failed training."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RaylineError):
            return cause
        failures = getattr(cause, "worker_failures", None) or {}
        inner = next((each for each in failures.values() if isinstance(each, BaseException)), None)
        cause = inner or cause.__cause__
    return TrainingFailed(f"the workers failed: {error}")
