"""Whether a table fits its project: what breaks its schema, what gives the target away, what would have to change.

The schema is the file that the configuration names; without one, that of the last features step; before any, what the
configuration's own data suggests.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from rayline import storage
from rayline.config import Config, Environment, FeaturesConfig
from rayline.errors import ConfigError, RaylineError
from rayline.project import Project

if TYPE_CHECKING:
    from rayline.features.checks.findings import Anomaly
    from rayline.features.leakage.report import Leak
    from rayline.features.schemas.schema import Schema

Whose = Literal["file", "features", "data"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the schema file would have to say for the data to fit it."""

    file: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change as a unified diff; empty where there is none."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), str(self.file), str(self.file), n=1, lineterm=""
        )
        return "".join(f"{line}\n" for line in lines)

    def apply(self) -> None:
        """Write the file, whole or not at all."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(self.after, encoding="utf-8")
        draft.replace(self.file)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        schema: whose it was: of the ``file``, of a finished ``features`` step, or inferred from the own ``data``.
        rows: how many were looked at.
        anomalies: what breaks the schema, what stops a run first.
        leakage: how the target may be known beforehand.
        hints: what the anomalies together point to.
        valid: whether nothing stops a run.
        proposal: how to change the file, where that was asked for.
    """

    schema: Whose
    environment: Environment
    rows: int
    anomalies: tuple[Anomaly, ...]
    leakage: tuple[Leak, ...]
    hints: tuple[str, ...]
    valid: bool
    proposal: Proposal | None = None


def check(
    config: Config, source: str | None = None, *, environment: Environment = "TRAINING", update: bool = False
) -> Checked:
    """Check a table against its schema.

    Args:
        config: the project.
        source: another path, glob or URI to check; the configuration's own where None.
        environment: ``SERVING`` is data without the target.
        update: also propose the change to the schema file that makes the data fit.

    Raises:
        NotFoundError, DataError: a source cannot be read, or gives no schema.
        ConfigError: the schema file is wrong, or there is none to update.
    """
    from rayline.features.checks.checking import look
    from rayline.features.checks.swaps import swaps
    from rayline.features.checks.validation import Judge
    from rayline.features.leakage.report import leakage
    from rayline.features.schemas.inference import inputs_of
    from rayline.features.splits.split import inputs_beside

    if update and config.validate.schema is None:
        raise ConfigError("there is no schema file to update: `rayline init` writes one, and validate.schema names it.")
    project = Project(config)
    config = structs.replace(config, features=inputs_beside(config.data.split, config.features))
    schema, whose = _schema(config)
    judge = Judge(schema, config.validate, environment)
    other = config
    if source is not None:
        other = structs.replace(config, data=structs.replace(config.data, source=source, sql=None))
    looked = look(other, judge, project.connect, own=source is None, facts=update)
    anomalies = judge.verdict(looked.findings)
    past = judge.past_quarantine_limit(looked.findings)
    leaks: tuple[Leak, ...] = ()
    if environment == "TRAINING":
        leaks = leakage(looked.head, inputs_of(schema, config.features), config.data.split)
    proposal = None
    if update:
        from rayline.features.schemas.proposal import proposed

        proposal = _proposal(config, proposed(schema, looked.seen, looked.findings, environment))
    broken = past is not None or any(each.policy == "fail" for each in anomalies)
    valid = not broken and not (leaks and config.validate.policies.leakage == "fail")
    hints = (*swaps(looked.head, schema, anomalies), *([past] if past is not None else []))
    return Checked(whose, environment, looked.findings.rows, anomalies, leaks, hints, valid, proposal)


def known_schema(config: Config) -> Schema | None:
    """Return the schema of the newest finished features step that the configuration still describes, or None."""
    from rayline.features.prepared import Prepared

    for record in Project(config).ledger.newest():
        if record.step != "features":
            continue
        try:
            schema = Prepared.load(storage.fetch(Path(record.result["path"]))).features.schema
        except (OSError, ValueError, KeyError, TypeError, RaylineError):  # cleared away, or of another Rayline
            continue
        if _describes(config.features, schema):
            return schema
    return None


def _schema(config: Config) -> tuple[Schema, Whose]:
    from rayline.features.checks.checking import suggested_schema
    from rayline.features.joins.history import table_with_history
    from rayline.features.schemas.schema_file import configured_schema
    from rayline.features.sources import read_table, too_large

    written = configured_schema(config)
    if written is not None:
        return written, "file"
    known = known_schema(config)
    if known is not None:
        return known, "features"
    table = table_with_history(config.features, read_table(config.data, head=too_large(config.data)))
    return suggested_schema(table, config.features), "data"


def _proposal(config: Config, schema: Schema) -> Proposal:
    from rayline.features.schemas.schema_file import parsed_schema
    from rayline.features.schemas.schema_text import revised_text

    file = Path(config.validate.schema or "")
    before = file.read_text(encoding="utf-8")
    changed = {each.name: each for each in schema.columns}  # what the features drop is not looked at, and stays
    columns = tuple(changed.get(each.name, each) for each in parsed_schema(before).columns)
    return Proposal(file, before, revised_text(before, replace(schema, columns=columns)))


def _describes(features: FeaturesConfig, schema: Schema) -> bool:
    """Tell whether the schema could be of this configuration, whatever the data: it may have been edited since."""
    from rayline.features.schemas.inference import raw_columns

    declared = {name: kind for name, kind in raw_columns(features).items() if name not in features.drop}
    kinds = {column.name: column.kind for column in schema.columns}
    alike = declared.keys() == kinds.keys() and all(kind in (None, kinds[name]) for name, kind in declared.items())
    same_inputs = alike if declared else not set(features.drop) & set(kinds)
    return features.target == schema.target and features.task in ("auto", schema.task) and same_inputs
