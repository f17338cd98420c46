"""``model``, ``train``, ``tune`` and ``evaluate``: what is trained, how, and how it is measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from rayline.config.section import NonNegative, Positive, Section


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network. ``builder`` is ``mlp`` or ``my_package.my_module:build``; the rest is passed to it."""

    builder: str = "mlp"
    hidden: tuple[Positive, ...] = (64, 32)
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    options: dict[str, Any] = {}


class TrainConfig(Section, frozen=True, kw_only=True):
    """The ready training loop. ``metric`` is watched on the validation part: the best epoch is kept."""

    epochs: Positive = 30
    batch_size: Positive = 128
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    weight_decay: NonNegative = 1e-4
    metric: str = "loss"
    patience: Annotated[int, Meta(ge=0)] = 5
    num_workers: Positive = 1
    use_gpu: Literal["auto"] | bool = "auto"
    seed: int = 0


class Space(Section, frozen=True, kw_only=True):
    """What to search for one key: a list to ``choose`` from, or numbers from ``low`` to ``high``."""

    choose: Annotated[tuple[Any, ...], Meta(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        spans = self.low is not None and self.high is not None
        if (self.choose is not None) == spans:
            raise ValueError("needs either 'choose: [...]' or both 'low' and 'high'")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError(f"low ({self.low}) must be below high ({self.high})")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic span needs low above 0, not {self.low}")


class TuneConfig(Section, frozen=True, kw_only=True):
    """A Study. Keys of ``space`` are configuration keys: ``train.learning_rate``, ``model.hidden``."""

    trials: Positive = 8
    space: dict[str, Space] = {}
    max_concurrent: Positive | None = None
    cpus_per_trial: Annotated[float, Meta(gt=0)] = 1.0
    grace_epochs: Positive = 4
    seed: int = 0


class EvaluateConfig(Section, frozen=True, kw_only=True):
    """The held-out evaluation. ``rows`` bounds how many test rows the plots draw."""

    rows: Positive = 10_000
