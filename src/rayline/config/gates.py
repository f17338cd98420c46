"""``evaluate.gates`` and ``evaluate.behaviour``: what a version must reach before it may meet live traffic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from rayline.config.section import NonNegative, Positive, Section

EVERY_SLICE = "*"


class GateConfig(Section, frozen=True, kw_only=True):
    """One thing that a version must reach: a bound of its own, or not to be worse than the champion.

    A limit that holds passes; one that is broken fails only where chance cannot explain it; anything else is
    inconclusive, and so is a gate that has too few rows.

    Attributes:
        metric: a score of the task, such as ``rmse``. What serving may take stands in ``evaluate.limits``.
        at_least: what it must reach.
        at_most: what it may not exceed.
        compare: with the version that has the traffic, on the same rows. The first version has none to compare with.
        margin: how much worse than the champion it may be, in the metric's own units.
        relative_margin: the same as a share of the champion's value.
        slice: also for each slice of this column, each on its own; ``*`` for every slice that is looked at.
        value: only this slice of the column.
        confidence: of the decision, one-sided; of a gate over several slices all together.
        min_rows: fewer decide nothing; default 30, and ``min_slice_rows`` in a slice.
        proven: pass only where chance cannot explain that the limit holds (a test of non-inferiority).
        inconclusive: whether it stops the version or is only told; default: it stops, but in a gate over all slices of
            a column, where many are small, it is told.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    compare: Literal["champion"] | None = None
    margin: NonNegative | None = None
    relative_margin: NonNegative | None = None
    slice: str | None = None
    value: str | None = None
    confidence: Annotated[float, Meta(gt=0.5, lt=1)] = 0.95
    min_rows: Positive | None = None
    proven: bool = False
    inconclusive: Literal["stop", "tell"] | None = None

    def __post_init__(self) -> None:
        bounds = (self.at_least, self.at_most, self.compare)
        if sum(bound is not None for bound in bounds) != 1:
            raise ValueError(f"a gate on '{self.metric}' needs exactly one of at_least, at_most and compare: champion")
        margins = [each for each in (self.margin, self.relative_margin) if each is not None]
        if len(margins) > 1:
            raise ValueError(f"a gate on '{self.metric}' has a margin or a relative_margin, not both")
        if margins and self.compare is None:
            raise ValueError(f"a gate on '{self.metric}' has a margin and nothing to compare: add compare: champion")
        if self.value is not None and self.slice in (None, EVERY_SLICE):
            raise ValueError(
                f"a gate on '{self.metric}' names the value {self.value!r} of no column: add slice: COLUMN"
            )

    @property
    def stops(self) -> bool:
        """Whether an inconclusive verdict stops the version."""
        if self.inconclusive is not None:
            return self.inconclusive == "stop"
        return self.slice is None or self.value is not None


class InvarianceConfig(Section, frozen=True, kw_only=True, tag_field="test", tag="invariance"):
    """Changing these columns must not change the answer.

    Attributes:
        columns: whose values are dealt anew among the rows.
        to: columns and the one value that every row gets.
        within: the most that an answer may change: a regression's in the target's own units, else a probability.
            Without it, the label of a classification must stay.
        label: the class whose probability is watched; default: the one that changes most.
        at_least: the share of rows where this must hold.
        min_rows: fewer decide nothing.
        name: how messages call it.
    """

    columns: tuple[str, ...] = ()
    to: dict[str, Any] = {}
    within: NonNegative | None = None
    label: str | None = None
    at_least: Annotated[float, Meta(gt=0, le=1)] = 0.95
    min_rows: Positive = 30
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.columns and not self.to:
            raise ValueError("an invariance test needs 'columns' to deal anew, or columns and values in 'to'")
        both = sorted({*self.columns} & {*self.to})
        if both:
            raise ValueError(f"an invariance test names '{both[0]}' in both 'columns' and 'to'")

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns that it changes."""
        return (*self.columns, *self.to)


class DirectionConfig(Section, frozen=True, kw_only=True, tag_field="test", tag="direction"):
    """Raising a number must move the answer in one direction. Rows without that number are left out.

    Attributes:
        column: the number.
        add: what is added to it; negative lowers it.
        expect: of the prediction, or of the probability of ``label``.
        label: the class whose probability must move.
        within: by so much it may move the wrong way in a row where ``not_lower`` or ``not_higher`` still hold.
        at_least: the share of rows where this must hold.
        min_rows: fewer decide nothing.
        name: how messages call it.
    """

    column: str
    add: float
    expect: Literal["higher", "lower", "not_lower", "not_higher"]
    label: str | None = None
    within: NonNegative = 0.0
    at_least: Annotated[float, Meta(gt=0, le=1)] = 0.95
    min_rows: Positive = 30
    name: str | None = None

    def __post_init__(self) -> None:
        if self.add == 0:
            raise ValueError(f"a direction test adds 0 to '{self.column}', which moves nothing")

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns that it changes."""
        return (self.column,)


BehaviourConfig = InvarianceConfig | DirectionConfig


class CardConfig(Section, frozen=True, kw_only=True):
    """``card``: what people know about a model and its data do not tell; it stands in the model card as written."""

    owner: str | None = None
    contact: str | None = None
    description: str | None = None
    intended_use: str | None = None
    out_of_scope: str | None = None
    caveats: tuple[str, ...] = ()
    licence: str | None = None
