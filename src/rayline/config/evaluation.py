"""``evaluate``: how a Bundle is measured on rows that nothing was fitted on, and what it must reach."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from rayline.config.gates import BehaviourConfig, GateConfig
from rayline.config.section import Positive, Section, Share


class SliceConfig(Section, frozen=True, kw_only=True):
    """Rows that are looked at on their own.

    Attributes:
        column: a slice for each of its values; for a number, for each of ``bins``.
        bins: the inner edges, in the column's own units, or how many bins of equally many rows.
    """

    column: str
    bins: tuple[float, ...] | Annotated[int, Meta(ge=2, le=50)] | None = None


class EvaluateConfig(Section, frozen=True, kw_only=True):
    """The held-out evaluation.

    Attributes:
        rows: at most so many test rows are drawn in plots.
        bootstrap: resamples behind each interval.
        confidence: of the intervals.
        slices: what is looked at on its own.
        worst_slices: how many more are found by themselves, the worst ones.
        min_slice_rows: a slice of fewer rows says nothing.
        gates: what a version must reach; None: not to be worse than the champion on the task's main metric.
        behaviour: how answers must, or must not, move when inputs are changed.
    """

    rows: Positive = 10_000
    bootstrap: Annotated[int, Meta(ge=100, le=100_000)] = 1_000
    confidence: Share = 0.95
    slices: tuple[SliceConfig, ...] = ()
    worst_slices: Annotated[int, Meta(ge=0, le=50)] = 5
    min_slice_rows: Positive = 50
    gates: tuple[GateConfig, ...] | None = None
    behaviour: tuple[BehaviourConfig, ...] = ()
