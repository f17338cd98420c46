"""What in a table breaks its schema: counted in one vectorised pass, judged by the policy of each rule.

A ``Judge`` looks at the rows of one block; findings merge in the order of the blocks; ``verdict`` reads what they come
to. Rules of single rows are exact whatever the cut; copies are exact for 2 million rows (see ``twins``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.config import Environment, Policy, ValidateConfig, plain
from rayline.errors import ValidationFailed
from rayline.features.checks.counting import as_in_source, broken_rows, counted, most_missing
from rayline.features.checks.findings import (
    EXAMPLES,
    WHOLE_ROWS,
    Anomaly,
    Example,
    Findings,
    Place,
    Tally,
    merge_findings,
)
from rayline.features.checks.quarantine import set_aside
from rayline.features.checks.twins import Words
from rayline.features.reading.arrow_values import READERS
from rayline.features.reading.batch import Batch
from rayline.features.schemas.schema import Schema, digest_of

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULTS = ValidateConfig()
_TYPES = {"numeric": "float64", "boolean": "bool", "datetime": "timestamp[us]"}


@dataclass(frozen=True, slots=True)
class Judged:
    """Some rows, judged.

    Attributes:
        findings: what they break.
        kept: bool (n,), the rows to go on with; None where all are.
        aside: the rows that are set aside, as ``quarantine.set_aside`` describes them; None where there are none.
        broken: whether a rule of single rows or a missing column stops the run.
    """

    findings: Findings
    kept: Any
    aside: pa.Table | None
    broken: bool

    def rows_of(self, table: pa.Table) -> pa.Table:
        """Return the rows to go on with of the table that was judged."""
        return table if self.kept is None else table.filter(self.kept)


@dataclass(frozen=True, slots=True)
class Judge:
    """A schema, the policies and where the data is from: everything that a worker needs to judge a block."""

    schema: Schema
    checks: ValidateConfig = DEFAULTS
    environment: Environment = "TRAINING"

    def __call__(self, rows: Batch | pa.Table, hashes: Words | None = None) -> Judged:
        """Judge some rows.

        Args:
            rows: a block; a ``Batch`` keeps the values that are read here.
            hashes: ``row_hashes`` of the whole rows, where the caller has them.
        """
        batch = rows if isinstance(rows, Batch) else Batch(rows, self.schema)
        breaks, absent = broken_rows(batch, self.schema, self.environment)
        findings = counted(batch, self.schema, breaks, absent, hashes, self.environment)
        policies = {each.rule: self.policy(each.rule) for found in breaks.values() for each in found}
        broken = bool(absent) or "fail" in policies.values()
        chosen = {
            column: [each for each in found if policies[each.rule] == "quarantine"] for column, found in breaks.items()
        }
        masks = [each.rows for found in chosen.values() for each in found]
        if not masks:
            return Judged(findings, None, None, broken)
        out = np.logical_or.reduce(masks)
        aside = set_aside(as_in_source(batch.table), chosen, out)
        return Judged(replace(findings, quarantined=int(out.sum())), ~out, aside, broken)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all that decides which rows are set aside."""
        return digest_of({"schema": self.schema.to_json(), "checks": plain(self.checks), "in": self.environment})

    def policy(self, rule: str) -> Policy:
        """Return what the configuration says of a rule; a column that is missing always stops a run."""
        found: Policy = getattr(self.checks.policies, rule, "fail")
        return found

    def verdict(self, findings: Findings) -> tuple[Anomaly, ...]:
        """Return the anomalies of a whole table, those that stop a run first, then by rows and by name."""
        rows = max(findings.rows, 1)
        found = {**_of_tallies(findings, self.schema), **_of_whole_rows(findings, self.schema)}
        judged = [
            Anomaly(*place, self._escalated(place[1], each.rows / rows), each.rows, each.rows / rows, each.examples)
            for place, each in found.items()
        ]
        order = {"fail": 0, "quarantine": 1, "warn": 2}
        return tuple(
            sorted(judged, key=lambda each: (order[each.policy], -each.rows, each.column, each.rule, each.message))
        )

    def refuse(self, findings: Findings, source: str) -> tuple[Anomaly, ...]:
        """Return the anomalies that stop no run.

        Raises:
            ValidationFailed: some do, or more rows are set aside than ``quarantine_limit`` allows.
        """
        anomalies = self.verdict(findings)
        refuse(anomalies, source)
        past = self.past_quarantine_limit(findings)
        if past is not None:
            reasons = "; ".join(str(each) for each in anomalies if each.policy == "quarantine")
            raise ValidationFailed(f"data '{source}': {past}: {reasons}. Correct the data, or raise the limit.")
        return tuple(each for each in anomalies if each.policy != "fail")

    def past_quarantine_limit(self, findings: Findings) -> str | None:
        """Return what is wrong where more rows are set aside than ``quarantine_limit`` allows, or None."""
        share, limit = findings.quarantined / max(findings.rows, 1), self.checks.quarantine_limit
        if share <= limit:
            return None
        return (
            f"{findings.quarantined:,} of {findings.rows:,} rows ({share:.1%}) would be set aside, more than "
            f"validate.quarantine_limit allows ({limit:.1%})"
        )

    def _escalated(self, rule: str, share: float) -> Policy:
        policy = self.policy(rule)
        limited = rule not in ("unique", "duplicates", "max_missing", "rows")
        return "fail" if policy == "warn" and limited and share > self.checks.warn_limit else policy


def validate(data: Any, schema: Schema) -> tuple[Anomaly, ...]:
    """Return what in a ``pyarrow.Table`` or ``ray.data.Dataset`` breaks the schema; empty where nothing does."""
    judge = Judge(schema)
    return judge.verdict(find_all(data, judge))


def find_all(data: Any, judge: Judge) -> Findings:
    """Return the findings of a whole ``pyarrow.Table`` or ``ray.data.Dataset`` (one execution)."""
    if hasattr(data, "iter_batches"):
        from rayline.features.blocks import fold

        return merge_findings(fold(data, FindingsOf(judge)))
    return judge(data).findings


@dataclass(frozen=True, slots=True)
class FindingsOf:
    """What a worker gives of a block: the findings alone."""

    judge: Judge

    def __call__(self, table: pa.Table) -> Findings:
        """Return the findings of a block."""
        return self.judge(table).findings


def find(rows: Batch | pa.Table, schema: Schema, environment: Environment = "TRAINING") -> Findings:
    """Return the findings of some rows, whatever the policies."""
    return Judge(schema, environment=environment)(rows).findings


def refuse(anomalies: Iterable[Anomaly], source: str) -> None:
    """Raise ``ValidationFailed`` that lists what among the anomalies stops a run, if anything does."""
    errors = [each for each in anomalies if each.policy == "fail"]
    if errors:
        lines = [f"  {each}" for each in errors[:10]]
        more = f"\n  and {len(errors) - 10} more" if len(errors) > 10 else ""
        raise ValidationFailed(
            f"data '{source}' breaks its schema:\n" + "\n".join(lines) + more + "\n"
            "Correct these rows, set them aside (validate.policies), or give the column another kind "
            "(features.columns) or leave it out (features.drop)."
        )


def complete(table: pa.Table, schema: Schema) -> pa.Table:
    """Return rows that fit the schema as what it says they are.

    Columns that may be missing, and are, come without values. Texts in a column of numbers, truths or dates become
    such, so that a row means and hashes the same whatever stood in rows that were set aside.
    """
    import pyarrow as pa

    for column in (*schema.columns, schema.target_column):
        if column.name in table.column_names:
            array = table.column(column.name)
            if column.kind in _TYPES and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
                values = READERS[column.kind](array)
                typed = pa.array(values.data, mask=values.missing | values.wrong).cast(_TYPES[column.kind])
                table = table.set_column(table.column_names.index(column.name), column.name, typed)
        elif not column.required:
            table = table.append_column(column.name, pa.nulls(table.num_rows))
    return table


def _of_tallies(findings: Findings, schema: Schema) -> dict[Place, Tally]:
    """Return the tallies that say something: gaps within their limit do not, nor do gaps told twice."""
    limits = {each.name: most_missing(each, schema) or 0.0 for each in schema.columns}
    rows = max(findings.rows, 1)
    past = {
        place[0]
        for place, tally in findings.tallies.items()
        if place[1] == "max_missing" and tally.rows / rows > limits[place[0]]
    }

    def telling(column: str, rule: str) -> bool:
        return column in past if rule == "max_missing" else not (rule == "missing" and column in past)

    return {place: tally for place, tally in findings.tallies.items() if telling(*place[:2])}


def _of_whole_rows(findings: Findings, schema: Schema) -> dict[Place, Tally]:
    """Return what breaks the rules that only a whole table can break."""
    found: dict[Place, Tally] = {}
    for name, twins in findings.twins.items():
        count, again = twins.copies(EXAMPLES)
        about = "" if twins.exact else " (an estimate)"
        tally = Tally(count, tuple(Example(each.row, f"as in row {each.first:,}") for each in again))
        limit = (schema.max_duplicates or 0.0) if name == WHOLE_ROWS else 0.0
        if count / max(findings.rows, 1) <= limit:
            continue
        if name == WHOLE_ROWS:
            message = f"rows are copies of another, where at most {limit:.1%} of them may{about}"
            found["", "duplicates", message] = tally
        else:
            found[name, "unique", f"has a value that an earlier row has, where none may repeat{about}"] = tally
    if findings.rows < schema.min_rows:
        message = f"the table has {findings.rows:,} rows, where the schema asks for {schema.min_rows:,}"
        found["", "rows", message] = Tally(0)
    return found
