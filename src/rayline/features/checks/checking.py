"""Look at a whole source: what of it breaks a schema, what it holds, and the rows to look for leaks in.

A small source is read here; a large one is read block by block on Ray Data, in one execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.config import Config, DataConfig, FeaturesConfig
from rayline.errors import DataError, NotFoundError, RowError
from rayline.features.checks.findings import Findings
from rayline.features.checks.validation import Judge
from rayline.features.joins.history import completed_table, has_history, table_with_history, with_history
from rayline.features.reading.arrow_values import READERS
from rayline.features.reading.batch import Batch
from rayline.features.schemas.inference import declared_kind, infer_kind, schema_for
from rayline.features.schemas.proposal import TableSeen, seen_in
from rayline.features.schemas.schema import Schema
from rayline.features.sources import find_files, read_dataset, read_table, too_large

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Looked:
    """What a source holds.

    Attributes:
        findings: what of it breaks the schema.
        seen: what it holds by column; nothing where it was not asked for.
        head: the table, of a large source its first rows.
    """

    findings: Findings
    seen: TableSeen
    head: pa.Table


def look(config: Config, judge: Judge, connect: Callable[[], None], *, own: bool = True, facts: bool = False) -> Looked:
    """Look at every row of a source once, with what the configuration joins to it.

    Args:
        config: the project; ``config.data`` is the source.
        judge: the schema and the policies.
        connect: called before Ray is needed: for a source too large to be read at once.
        own: it is the project's own source, which lacks every joined column and window; another file may have them.
        facts: also tell what the columns hold.

    Raises:
        NotFoundError, DataError: the source cannot be read.
    """
    data, features = config.data, config.features
    if not too_large(data):
        table = read_table(data)
        names = judge.schema.names
        table = table_with_history(features, table) if own else completed_table(features, table, names)
        each = LookOf(judge, facts)(table)
        return Looked(each.findings, each.seen, table)
    head = read_table(data, head=True)
    connect()
    if own and has_history(features):
        head, dataset = with_history(config, head, read_dataset(data, head.schema))
        whole = _folded(dataset, LookOf(judge, facts))
        return Looked(whole.findings, whole.seen, head)
    try:
        whole = _folded(read_dataset(data, head.schema), LookOf(judge, facts))
    except DataError:
        if not _is_csv(data):
            raise
        # Somewhere a value is not of the type that the first rows suggest: as text, it can be told which.
        whole = _folded(read_dataset(data, as_text(head.schema)), LookOf(judge, facts))
    return Looked(whole.findings, whole.seen, head)


@dataclass(frozen=True, slots=True)
class Facts:
    """The findings and facts of some rows."""

    findings: Findings = field(default_factory=Findings)
    seen: TableSeen = field(default_factory=TableSeen)

    def merged(self, other: Facts) -> Facts:
        """Return those of these rows followed by others."""
        return Facts(self.findings.merged(other.findings), self.seen.merged(other.seen))


@dataclass(frozen=True, slots=True)
class LookOf:
    """What a worker tells of a block."""

    judge: Judge
    facts: bool

    def __call__(self, table: pa.Table) -> Facts:
        """Return the findings of a block and, where asked for, its facts."""
        batch = Batch(table, self.judge.schema)
        findings = self.judge(batch).findings
        return Facts(findings, seen_in(batch, self.judge.schema) if self.facts else TableSeen())


def suggested_schema(table: pa.Table, features: FeaturesConfig) -> Schema:
    """Return the schema that the sound rows of a table suggest: the others are counted against it.

    Raises:
        ConfigError, DataError: as ``inference.schema_for``.
    """
    try:
        return schema_for(features, _sound(table, features))
    except RowError:  # no target is a number that can be learned, so there is nothing to infer the inputs for
        return Schema((), features.target, "regression")


def as_text(schema: Any) -> Any:
    """Return an Arrow schema whose columns are all texts."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in schema.names])


def _is_csv(data: DataConfig) -> bool:
    try:
        return find_files(data).format == "csv"
    except (NotFoundError, DataError):  # no files at all
        return False


def _folded(dataset: Any, each: LookOf) -> Facts:
    from rayline.features.blocks import fold

    parts: Iterable[Facts] = fold(dataset, each)
    result = Facts()
    for part in parts:
        result = result.merged(part)
    return result


def _sound(table: Any, features: FeaturesConfig) -> Any:
    """Return the table without what no schema can be inferred from.

    Values that are not of their declared kind become missing; rows without a usable target go, unless all would.
    """
    import pyarrow as pa

    for place, name in enumerate(table.column_names):
        if name == features.target or name in features.drop or (features.columns and name not in features.columns):
            continue
        array = table.column(name)
        declared = features.columns.get(name)
        kind = declared_kind(declared) or infer_kind(array)
        wrong = READERS[kind](array).wrong
        if wrong.any():
            rows = pa.array(np.arange(table.num_rows), mask=wrong)
            table = table.set_column(place, name, array.take(rows))
    if features.target not in table.column_names:
        return table
    array = table.column(features.target)
    values = READERS["numeric" if features.task == "regression" else "categorical"](array)
    usable = ~(values.missing | values.wrong)
    return table if usable.all() or not usable.any() else table.filter(pa.array(usable))
