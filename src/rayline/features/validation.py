"""What in a table breaks its schema, as a list of anomalies: counted in one vectorised pass, mergeable over blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.config import Config, DataConfig, FeaturesConfig
from rayline.errors import RowError, ValidationFailed, shown
from rayline.features.arrow_values import READERS, RULES, Values
from rayline.features.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    import pyarrow as pa

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One rule that some rows of one column break.

    Attributes:
        severity: an ``error`` stops a run; a ``warning`` is handled (imputed, taken as unknown, extrapolated).
        rows, share: how many rows, and of all rows which part (0 to 1).
        example: one offending value as text; empty where there is none.
    """

    column: str
    rule: str
    severity: Severity
    rows: int
    share: float
    example: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Counts per (column, rule, severity) over some rows, each with the first example in text order."""

    rows: int = 0
    counts: Mapping[tuple[str, str, Severity], tuple[int, str]] = field(default_factory=dict)

    def merged(self, other: Findings) -> Findings:
        """Return the findings of both sets of rows together."""
        counts = dict(self.counts)
        for key, (rows, example) in other.counts.items():
            before, known = counts.get(key, (0, example))
            counts[key] = before + rows, min(known, example)
        return Findings(self.rows + other.rows, counts)

    @property
    def broken(self) -> bool:
        """Whether any finding is an error."""
        return any(severity == "error" for _, _, severity in self.counts)

    def anomalies(self) -> tuple[Anomaly, ...]:
        """Return the findings, errors first, then by rows and by name."""
        found = [
            Anomaly(column, rule, severity, rows, rows / max(self.rows, 1), example)
            for (column, rule, severity), (rows, example) in self.counts.items()
        ]
        return tuple(sorted(found, key=lambda each: (each.severity, -each.rows, each.column, each.rule)))


def validate(data: Any, schema: Schema) -> tuple[Anomaly, ...]:
    """Return what in a ``pyarrow.Table`` or ``ray.data.Dataset`` breaks the schema; empty where nothing does."""
    if hasattr(data, "iter_batches"):
        from rayline.features.blocks import fold

        return merge_findings(fold(data, _Finder(schema))).anomalies()
    return find(data, schema).anomalies()


def check_source(config: Config, source: str | None = None, schema: Schema | None = None) -> tuple[Anomaly, ...]:
    """Return what in a source breaks a schema.

    Args:
        config: the project.
        source: another path, glob or URI to check; the configuration's own where None.
        schema: what the data must look like; where None, what the sound rows of the configuration's own data suggest.

    Raises:
        DataError: a source cannot be read, or gives no schema.
    """
    from rayline.features.inference import schema_for
    from rayline.features.sources import read_table

    own = read_table(config.data) if source is None or schema is None else None
    if schema is None:
        try:
            schema = schema_for(config.features, _sound(own, config.features))
        except RowError:  # no target is a number that can be learned, so there is nothing to infer the inputs for
            schema = Schema((), config.features.target, "regression")
    return validate(own if source is None else read_table(DataConfig(source=source)), schema)


def find(table: pa.Table, schema: Schema) -> Findings:
    """Return the findings of one table."""
    counts: dict[tuple[str, str, Severity], tuple[int, str]] = {}
    kind: Any = "numeric" if schema.task == "regression" else "categorical"
    for column in (*schema.columns, ColumnSchema(schema.target, kind, levels=schema.classes or None)):
        if column.name not in table.column_names:
            counts[column.name, "column is missing", "error"] = table.num_rows, ""
            continue
        array = table.column(column.name)
        values = READERS[column.kind](array)
        broken = _target_breaks(values, schema) if column.name == schema.target else _breaks(values, column)
        for rule, severity, rows in broken:
            if rows.any():
                value = array[int(np.argmax(rows))].as_py()
                example = "" if value is None else shown(value)
                counts[column.name, rule, severity] = int(rows.sum()), example
    return Findings(table.num_rows, counts)


def merge_findings(findings: Iterable[Findings]) -> Findings:
    """Return the findings of all rows together."""
    result = Findings()
    for each in findings:
        result = result.merged(each)
    return result


def refuse(anomalies: Iterable[Anomaly], source: str) -> None:
    """Raise ``ValidationFailed`` that lists the errors among the anomalies, if there are any."""
    errors = [each for each in anomalies if each.severity == "error"]
    if errors:
        lines = [
            f"  '{each.column}': {each.rule} in {each.rows:,} rows ({each.share:.1%})"
            + (f", for instance {each.example}" if each.example else "")
            for each in errors[:10]
        ]
        more = f"\n  and {len(errors) - 10} more" if len(errors) > 10 else ""
        raise ValidationFailed(
            f"data '{source}' breaks its schema:\n" + "\n".join(lines) + more + "\n"
            "Correct these rows, or give the column another kind (features.columns) or leave it out (features.drop)."
        )


def _sound(table: Any, features: FeaturesConfig) -> Any:
    """Return the table without what no schema can be inferred from: it is counted against the schema of the rest.

    Values that are not of their declared kind become missing; rows without a usable target go, unless all would.
    """
    import pyarrow as pa

    from rayline.features.inference import declared_kind, infer_kind

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


@dataclass(frozen=True, slots=True)
class _Finder:
    schema: Schema

    def __call__(self, table: pa.Table) -> Findings:
        return find(table, self.schema)


def _breaks(values: Values, column: ColumnSchema) -> list[tuple[str, Severity, NDArray[np.bool_]]]:
    found: list[tuple[str, Severity, NDArray[np.bool_]]] = [(RULES[column.kind], "error", values.wrong)]
    present = ~values.missing & ~values.wrong
    if not column.nullable:
        found.append(("has no value, where the schema has always seen one", "warning", values.missing))
    if column.levels is not None:
        found.append(("is a level that the schema does not list", "warning", _strangers(values, column.levels)))
    if column.minimum is not None and column.maximum is not None:
        outside = present & ((values.data < column.minimum) | (values.data > column.maximum))
        low, high = (f"{bound:g}" for bound in (column.minimum, column.maximum))
        span = f"{low} to {high}" if column.kind == "numeric" else "the dates of the schema"
        found.append((f"is outside {span}", "warning", outside))
    return found


def _target_breaks(values: Values, schema: Schema) -> list[tuple[str, Severity, NDArray[np.bool_]]]:
    found: list[tuple[str, Severity, NDArray[np.bool_]]] = [("has no value in the target", "error", values.missing)]
    if schema.task == "regression":
        return [*found, (RULES["numeric"], "error", values.wrong)]
    strangers = values.wrong | _strangers(values, schema.classes)
    return [*found, (f"is not one of the classes {', '.join(schema.classes[:10])}", "error", strangers)]


def _strangers(values: Values, known: tuple[str, ...]) -> NDArray[np.bool_]:
    listed = set(known)
    lookup = np.array([*(text not in listed for text in values.texts), False], dtype=np.bool_)
    strange: NDArray[np.bool_] = lookup[np.maximum(values.codes, -1)]
    return strange
