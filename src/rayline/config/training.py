"""``train``: how one configuration is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.section import NonNegative, Positive, Section

Count = Annotated[int, Meta(ge=0)]


class CheckpointConfig(Section, frozen=True, kw_only=True):
    """Which epochs' weights are kept.

    Attributes:
        num_to_keep: the best so many, beside the last.
    """

    num_to_keep: Positive = 1


class TrainConfig(Section, frozen=True, kw_only=True):
    """The training loop. ``metric`` is watched on the validation part: the best epoch is kept.

    Attributes:
        patience: end after so many epochs without a better one; 0 never ends early.
        optimizer: AdamW, Adam, SGD with ``momentum``, or RMSprop.
        schedule: of the learning rate over all steps, after a linear rise over the first ``warmup`` of them.
        clip_norm: the largest norm of a step's gradient; None leaves it alone.
        accumulate: batches whose gradients are added up for one step.
        precision: ``bf16`` computes in bfloat16 where that is safe (autocast); weights stay float32.
        compile: by ``torch.compile``.
        class_weights: ``balanced`` weighs each class by the inverse of its frequency; or a weight for each label.
        loop: a training loop of your own, ``my_package.my_module:train_loop``; see ``rayline.training.own_loop``.
        num_workers: worker processes; ``[least, most]`` is elastic: as many as the cluster has room for.
        parallel: ``ddp`` copies the module to every worker, ``fsdp`` divides its weights among them (FSDP2).
        feed: where batches come from: ``memory``, ``ray_data`` (streamed from disk), or ``auto``: memory where the
            training part fits.
        max_failures: how often workers that died are started again, from the last checkpoint.
        stall_seconds: a loader that gives no batch for so long has stalled.
    """

    epochs: Positive = 30
    batch_size: Positive = 128
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    weight_decay: NonNegative = 1e-4
    metric: str = "loss"
    patience: Count = 5
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    schedule: Literal["constant", "linear", "cosine", "one_cycle"] = "constant"
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float, Meta(gt=0)] | None = None
    accumulate: Positive = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Meta(gt=0)]] | None = None
    loop: str | None = None
    num_workers: Positive | tuple[Positive, ...] = 1  # of two: msgspec mixes up a fixed length with the bound
    use_gpu: Literal["auto"] | bool = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    feed: Literal["auto", "memory", "ray_data"] = "auto"
    checkpoint: CheckpointConfig = CheckpointConfig()
    max_failures: Count = 3
    stall_seconds: Annotated[float, Meta(gt=0)] = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        workers = self.num_workers
        if isinstance(workers, tuple) and (len(workers) != 2 or workers[0] > workers[1]):
            raise ValueError(f"num_workers needs [least, most] with least <= most, not {list(workers)}")

    @property
    def workers(self) -> tuple[int, int]:
        """The least and the most worker processes."""
        if isinstance(self.num_workers, int):
            return self.num_workers, self.num_workers
        least, most = self.num_workers
        return least, most

    @property
    def alone(self) -> bool:
        """Whether one process does it all: no worker group is started."""
        return self.workers == (1, 1)
