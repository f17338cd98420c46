"""What breaks a schema, counted by column and rule: mergeable over blocks that follow one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rayline.config import Policy
from rayline.errors import shown
from rayline.features.checks.twins import Twins

EXAMPLES = 3  # of one rule in one column
WHOLE_ROWS = ""  # the place of a column's name where whole rows are meant

Place = tuple[str, str, str]  # column, rule, and what the rule says


@dataclass(frozen=True, slots=True)
class Example:
    """One row that breaks a rule: its number, from 0, and what it holds as text (empty where it holds nothing)."""

    row: int
    value: str

    def __str__(self) -> str:
        return f"row {self.row:,}: {self.value}" if self.value else f"row {self.row:,}"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows break one rule in one column, and the first of these rows."""

    rows: int
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One rule that a table breaks, in one column or (``column`` empty) as a whole.

    Attributes:
        rule: its short name, as ``validate.policies`` has it.
        message: what the rule says of these rows.
        policy: ``fail`` stops a run; ``quarantine`` sets the rows aside; ``warn`` is handled (imputed, taken as
            unknown, extrapolated).
        rows, share: how many rows, and of all rows which part (0 to 1).
        examples: up to three of them, the first in the order of the source.
    """

    column: str
    rule: str
    message: str
    policy: Policy
    rows: int
    share: float
    examples: tuple[Example, ...] = ()

    def __str__(self) -> str:
        place = f"'{self.column}' {self.message}" if self.column else self.message
        found = f" in {self.rows:,} rows ({self.share:.1%})" if self.rows else ""
        found += ", set aside" if self.policy == "quarantine" else ""
        told = f", for instance {self.examples[0]}" if self.examples else ""
        return f"{place}{found}{told}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What breaks a schema in some rows that follow one another, numbered from 0.

    Attributes:
        rows: how many rows were looked at.
        tallies: by column, rule and message.
        twins: the hashes of the columns that must not repeat, and of whole rows where copies are limited.
        quarantined: how many rows were set aside.
    """

    rows: int = 0
    tallies: Mapping[Place, Tally] = field(default_factory=dict)
    twins: Mapping[str, Twins] = field(default_factory=dict)
    quarantined: int = 0

    def merged(self, other: Findings) -> Findings:
        """Return these findings followed by others: whose row numbers go on from ours. Associative."""
        tallies = dict(self.tallies)
        for place, theirs in other.tallies.items():
            ours = tallies.get(place, Tally(0))
            moved = (Example(each.row + self.rows, each.value) for each in theirs.examples)
            tallies[place] = Tally(ours.rows + theirs.rows, (*ours.examples, *moved)[:EXAMPLES])
        twins = dict(self.twins)
        for name, each in other.twins.items():
            twins[name] = twins.get(name, Twins()).merged(each, self.rows)
        return Findings(self.rows + other.rows, tallies, twins, self.quarantined + other.quarantined)


def merge_findings(findings: Iterable[Findings]) -> Findings:
    """Return the findings of all rows together, in their order."""
    result = Findings()
    for each in findings:
        result = result.merged(each)
    return result


def counts(anomalies: Iterable[Anomaly]) -> dict[str, int]:
    """Return the number of broken cells (rows, for whole-row rules) by rule: what is logged beside a Run."""
    found: dict[str, int] = {}
    for each in anomalies:
        found[each.rule] = found.get(each.rule, 0) + each.rows
    return found


def example(row: int, value: object) -> Example:
    """Return an example of a value; a missing one has no text."""
    return Example(row, "" if value is None else shown(value))
