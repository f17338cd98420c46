"""``evaluate``: how a Bundle is measured on rows that nothing was fitted on, and what it must reach."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.gates import BehaviourConfig, GateConfig
from rayline.config.section import NonNegative, Positive, Section, Share


class SliceConfig(Section, frozen=True, kw_only=True):
    """Rows that are looked at on their own.

    Attributes:
        column: a slice for each of its values; for a number, for each of ``bins``.
        bins: the inner edges, in the column's own units, or how many bins of equally many rows.
    """

    column: str
    bins: tuple[float, ...] | Annotated[int, Meta(ge=2, le=50)] | None = None


class CostConfig(Section, frozen=True, kw_only=True):
    """What the two errors of a binary answer cost, in one unit of your own: the threshold makes the sum least.

    Attributes:
        cost_false_positive: to act on a row that is not of the second class.
        cost_false_negative: to miss one that is.
    """

    cost_false_positive: NonNegative
    cost_false_negative: NonNegative

    def __post_init__(self) -> None:
        if self.cost_false_positive == self.cost_false_negative == 0:
            raise ValueError("one of cost_false_positive and cost_false_negative must be more than 0")


class LimitsConfig(Section, frozen=True, kw_only=True):
    """What the Bundle may take in a process of its own; None sets no limit.

    Attributes:
        latency_ms: to answer one row: of a hundred answers, 99 take no longer.
        memory_mb: what the process holds in memory after answering, with everything that it loaded, in MiB.
        size_mb: of the Bundle on disk, in MiB.
    """

    latency_ms: Annotated[float, Meta(gt=0)] | None = None
    memory_mb: Annotated[float, Meta(gt=0)] | None = None
    size_mb: Annotated[float, Meta(gt=0)] | None = None


class EvaluateConfig(Section, frozen=True, kw_only=True):
    """The held-out evaluation.

    Attributes:
        rows: at most so many test rows are drawn in plots.
        bootstrap: resamples behind each interval.
        confidence: of the intervals; a worst slice is told where chance gives any with less than the rest of it.
        slices: what is looked at on its own.
        worst_slices: how many more are found by themselves, the worst ones.
        min_slice_rows: a slice of fewer rows says nothing.
        threshold: of a binary task, above which chance of the second class to answer with it, chosen on the validation
            part: for the best ``f1``, the largest sum of recall and specificity (``youden``), or the least cost. It is
            recorded as a suggestion, with what it gives on the test part.
        limits: what the Bundle may take in a process of its own.
        gates: what a version must reach; None: not to be clearly worse than the champion by the task's main score.
        behaviour: how answers must, or must not, move when inputs are changed.
    """

    rows: Positive = 10_000
    bootstrap: Annotated[int, Meta(ge=100, le=100_000)] = 1_000
    confidence: Share = 0.95
    slices: tuple[SliceConfig, ...] = ()
    worst_slices: Annotated[int, Meta(ge=0, le=50)] = 5
    min_slice_rows: Positive = 50
    threshold: Literal["f1", "youden", "none"] | CostConfig = "f1"
    limits: LimitsConfig = LimitsConfig()
    gates: tuple[GateConfig, ...] | None = None
    behaviour: tuple[BehaviourConfig, ...] = ()
