"""``validate``: what the data must look like, and what happens to rows that do not."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.section import Section

Policy = Literal["fail", "quarantine", "warn"]
RowPolicy = Literal["fail", "quarantine"]
TablePolicy = Literal["fail", "warn"]
Environment = Literal["TRAINING", "SERVING"]

Fraction = Annotated[float, Meta(ge=0, le=1)]


class PoliciesConfig(Section, frozen=True, kw_only=True):
    """What happens where a rule is broken: the run stops, the rows are set aside, or it is told and handled.

    A rule of the whole table cannot name the rows to set aside, and a value that cannot be read cannot go on.

    Attributes:
        type: a value is not of its column's kind.
        shape: an array is not of its column's shape.
        target: the answer is missing, no number, or none of the classes.
        negative: a count is below zero where none ever was.
        domain: a level that the schema does not list.
        range: a value outside the schema's bounds.
        integer: a fraction where all numbers were whole.
        missing: no value in a column that is not nullable.
        max_missing: more rows without a value than the schema allows.
        unique: a value twice in a column that must not repeat.
        duplicates: more copies of rows than the schema allows.
        rows: fewer rows than the schema asks for.
        leakage: a column that gives the target away, or a split that lets the test part be known.
    """

    type: RowPolicy = "fail"
    shape: RowPolicy = "fail"
    target: RowPolicy = "fail"
    negative: Policy = "fail"
    domain: Policy = "warn"
    range: Policy = "warn"
    integer: Policy = "warn"
    missing: Policy = "warn"
    max_missing: TablePolicy = "fail"
    unique: TablePolicy = "fail"
    duplicates: TablePolicy = "fail"
    rows: TablePolicy = "fail"
    leakage: TablePolicy = "warn"


class ValidateConfig(Section, frozen=True, kw_only=True):
    """What the data must look like, and what happens to rows that do not.

    Attributes:
        schema: the YAML file that says it; without one it is inferred from the data.
        policies: per rule.
        warn_limit: share of rows past which a warning stops the run after all.
        quarantine_limit: share of rows set aside past which the run stops.
    """

    schema: str | None = None
    policies: PoliciesConfig = PoliciesConfig()
    warn_limit: Fraction = 0.25
    quarantine_limit: Fraction = 0.05
