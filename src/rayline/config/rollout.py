"""``rollout``: how a new version takes over from the stable one."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.section import NonNegative, Percent, Positive, Section, Share


class MetricCondition(Section, frozen=True, kw_only=True):
    """One measure of an analysis, compared with a limit.

    ``measure`` is ``error_rate``, ``latency`` (seconds at ``quantile``), ``prediction_shift`` (Jensen-Shannon
    distance between the arms' predictions, 0 to 1), ``accuracy`` or ``mean_absolute_error`` (from feedback).
    ``max`` and ``min`` bound the canary itself; ``max_increase``, ``max_decrease`` and ``max_ratio`` bound it against
    the stable arm over the same window. Fewer than ``minimum_samples`` in an arm gives no verdict.
    """

    measure: Literal["error_rate", "latency", "prediction_shift", "accuracy", "mean_absolute_error"]
    quantile: Share = 0.95
    max: float | None = None
    min: float | None = None
    max_increase: NonNegative | None = None
    max_decrease: NonNegative | None = None
    max_ratio: Annotated[float, Meta(gt=0)] | None = None
    minimum_samples: Positive = 50


class AnalysisConfig(Section, frozen=True, kw_only=True):
    """Measures taken every ``interval`` seconds, ``count`` times; a window reaches back to the step's start."""

    metrics: Annotated[tuple[MetricCondition, ...], Meta(min_length=1)]
    interval: Annotated[float, Meta(gt=0)] = 5.0
    count: Positive = 3
    initial_delay: NonNegative = 0.0
    failure_limit: Annotated[int, Meta(ge=0)] = 0
    inconclusive_limit: Annotated[int, Meta(ge=0)] = 10


class Step(Section, frozen=True, kw_only=True):
    """One step of a plan: exactly one key is set. ``pause`` takes seconds, or ``true`` to wait for ``promote``."""

    set_weight: Percent | None = None
    pause: NonNegative | bool | None = None
    analysis: AnalysisConfig | bool | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.set_weight, self.pause, self.analysis)) != 1:
            raise ValueError("a step needs exactly one of 'set_weight', 'pause' and 'analysis'")
        if self.pause is False or self.analysis is False:
            raise ValueError("'false' means nothing here: leave the step out")


class HookConfig(Section, frozen=True, kw_only=True):
    """Somebody who is told what a rollout does; exactly one of ``webhook`` and ``function`` is set.

    ``on`` names the events: ``step`` (a step begins), ``pause``, ``abort`` (traffic goes back, for whatever reason) and
    ``completion`` (the canary has all traffic). ``webhook`` is an http or https address that gets a POST of JSON.
    ``function`` is ``module:name``, importable where the controller runs, and is called with the same mapping.
    ``timeout`` is in seconds. A hook that fails is reported, and never moves traffic.
    """

    on: Annotated[tuple[Literal["step", "pause", "abort", "completion"], ...], Meta(min_length=1)]
    webhook: Annotated[str, Meta(pattern=r"^https?://\S+$")] | None = None
    function: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0

    def __post_init__(self) -> None:
        if (self.webhook is None) == (self.function is None):
            raise ValueError("a hook needs exactly one of 'webhook' and 'function'")


class RolloutConfig(Section, frozen=True, kw_only=True):
    """How a new version takes over. ``analysis: true`` in a step uses the ``analysis`` given here."""

    strategy: Literal["all_at_once", "canary"] = "canary"
    steps: tuple[Step, ...] = ()
    analysis: AnalysisConfig | None = None
    hooks: tuple[HookConfig, ...] = ()
