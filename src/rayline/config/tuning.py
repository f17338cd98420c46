"""``tune``: a Study over a search space."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from rayline.config.section import Positive, Section


class Space(Section, frozen=True, kw_only=True):
    """What to search for one key: a list to ``choose`` from, or numbers from ``low`` to ``high``.

    ``when`` makes it conditional: it is searched only in trials where each named key has (one of) the given value(s).
    """

    choose: Annotated[tuple[Any, ...], Meta(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    when: dict[str, Any] = {}

    def __post_init__(self) -> None:
        spans = self.low is not None and self.high is not None
        if (self.choose is not None) == spans:
            raise ValueError("needs either 'choose: [...]' or both 'low' and 'high'")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError(f"low ({self.low}) must be below high ({self.high})")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic span needs low above 0, not {self.low}")


class StopConfig(Section, frozen=True, kw_only=True):
    """When a Study ends before its ``trials``.

    Attributes:
        seconds: no trial starts after so long.
        target: a value of the metric (of several objectives, the first) that is good enough: once a trial has ended
            with it, those that still run are ended too.
        no_gain_for: so many trials in a row without a better one.
    """

    seconds: Annotated[float, Meta(gt=0)] | None = None
    target: float | None = None
    no_gain_for: Positive | None = None


class TuneConfig(Section, frozen=True, kw_only=True):
    """A Study. Keys of ``space`` are configuration keys of ``model``, ``train`` and ``features``.

    Attributes:
        objectives: metrics of the validation part to weigh against each other (a Pareto front); empty means
            ``train.metric`` alone.
        max_concurrent: trials at once; None takes what fits the cluster. More than fits asks a cluster that scales to
            grow. With 1 the same seed gives the same trials.
        sampler: who suggests: ``tpe``, ``random``, ``grid``, ``cmaes``, ``gp`` (Gaussian process) or ``qmc``
            (quasi-random).
        scheduler: who ends trials early: ``asha``, ``hyperband``, ``median``; ``none``. ``pbt`` (population-based
            training) ends none: all ``trials`` train side by side, and the worst go on from the best, changed a little.
        grace_epochs: before these no trial is ended; of ``pbt`` the epochs from one comparison to the next.
        reduction_factor: of ``asha`` and ``hyperband``: one trial in so many goes on at each rung.
        warm_start: names of earlier Studies in MLflow whose trials the sampler learns from.
    """

    trials: Positive = 8
    space: dict[str, Space] = {}
    objectives: tuple[str, ...] = ()
    sampler: Literal["tpe", "random", "grid", "cmaes", "gp", "qmc"] = "tpe"
    scheduler: Literal["asha", "hyperband", "median", "pbt", "none"] = "asha"
    stop: StopConfig = StopConfig()
    warm_start: tuple[str, ...] = ()
    max_concurrent: Positive | None = None
    cpus_per_trial: Annotated[float, Meta(gt=0)] = 1.0
    gpus_per_trial: Annotated[float, Meta(ge=0)] = 0.0
    grace_epochs: Positive = 4
    reduction_factor: Annotated[int, Meta(ge=2)] = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"names an objective twice: {', '.join(self.objectives)}")
        if len(self.objectives) > 1 and self.sampler == "cmaes":
            raise ValueError("sampler 'cmaes' knows one objective; choose tpe, gp, qmc, random or grid for several")
        if self.scheduler == "pbt" and len(self.objectives) > 1:
            raise ValueError("scheduler 'pbt' compares by one objective; choose 'none' for several")
        if self.scheduler == "pbt" and self.stop.no_gain_for is not None:
            raise ValueError("stop.no_gain_for counts trials one after the other, and those of 'pbt' run side by side")
