"""``analysis``: what a rollout measures, how often, and what it makes of it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.duration import Duration, as_seconds
from rayline.config.section import NonNegative, Positive, Section, Share

Measure = Literal[
    "error_rate",
    "latency",
    "prediction_shift",
    "feature_drift",
    "accuracy",
    "mean_absolute_error",
    "agreement",
    "shadow_distance",
    "shadow_error_rate",
    "prometheus",
    "function",
]

Count = Annotated[int, Meta(ge=0)]


class MetricCondition(Section, frozen=True, kw_only=True):
    """One measure of an analysis, compared with a limit.

    ``measure`` is ``error_rate``, ``latency`` (seconds at ``quantile``), ``prediction_shift`` or ``feature_drift``
    (Jensen-Shannon distance between the arms' predictions or inputs, 0 to 1; of ``column``, or of the worst),
    ``accuracy`` or ``mean_absolute_error`` (from feedback); of a mirrored canary ``agreement`` (share of rows),
    ``shadow_distance`` (mean over rows) or ``shadow_error_rate``; ``prometheus`` (``query`` at ``address``, with
    ``{service}`` and ``{version}`` filled in) or ``function`` (``module:name``, called with the service and a version).

    ``max`` and ``min`` bound the canary itself; ``max_increase``, ``max_decrease`` and ``max_ratio`` bound it against
    the stable arm over the same window. ``success_condition`` and ``failure_condition`` say the same as expressions of
    ``result`` (the canary's) and ``stable``, such as ``result <= stable * 1.2 + 0.01``. Fewer than ``minimum_samples``
    in an arm gives no verdict.

    ``by_slice`` judges each slice with enough samples besides the whole; a slice fails only where chance cannot explain
    it. With ``proven`` a limit holds only once chance cannot explain that it does, so that missing a canary beyond the
    limit has the same stated level as a false alarm. With ``dry_run`` it is measured and told, and decides nothing.
    """

    measure: Measure
    name: str = ""
    quantile: Share = 0.95
    column: str | None = None
    query: str | None = None
    address: str = "http://127.0.0.1:9090"
    function: Annotated[str, Meta(pattern=r"^[\w.]+:\w+$")] | None = None
    max: float | None = None
    min: float | None = None
    max_increase: NonNegative | None = None
    max_decrease: NonNegative | None = None
    max_ratio: Annotated[float, Meta(gt=0)] | None = None
    success_condition: str | None = None
    failure_condition: str | None = None
    minimum_samples: Positive = 50
    by_slice: bool = False
    proven: bool = False
    dry_run: bool = False


class AnalysisConfig(Section, frozen=True, kw_only=True):
    """Measures taken every ``interval``, ``count`` times; a window reaches back to the step's start.

    It is Failed beyond ``failure_limit`` failures of one measure, Inconclusive beyond ``inconclusive_limit``, and Error
    beyond ``consecutive_error_limit`` measurements in a row that could not be taken. ``on_breach`` says what follows a
    failure: ``rollback``, ``freeze`` (the weight stays and a person decides) or ``step_down`` (the weight before, and
    a person decides).
    """

    metrics: Annotated[tuple[MetricCondition, ...], Meta(min_length=1)]
    interval: Duration = 5.0
    count: Positive = 3
    initial_delay: Duration = 0.0
    failure_limit: Count = 0
    inconclusive_limit: Count = 10
    consecutive_error_limit: Count = 4
    on_breach: Literal["rollback", "freeze", "step_down"] = "rollback"

    def __post_init__(self) -> None:
        as_seconds(self, "interval", above_zero=True)
        as_seconds(self, "initial_delay")


class BackgroundConfig(AnalysisConfig, frozen=True, kw_only=True):
    """An analysis beside the steps, from step ``from_step`` (the first is 1) to the end. Only its failure decides."""

    from_step: Positive = 1
