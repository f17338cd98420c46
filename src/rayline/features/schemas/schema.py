"""What a table must look like: its input columns, its target and its task. Plain values with a JSON form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, cast

from rayline.config import ColumnKind, Environment, Task
from rayline.errors import SchemaError, suggestion

FORMAT = 2
READABLE = (1, 2)
ENVIRONMENTS: tuple[Environment, ...] = ("TRAINING", "SERVING")
STATED = ("required", "unique", "max_missing", "environments")  # written only where a person said so


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One column, as it was when the schema was made, or as a person wants it.

    Attributes:
        integer: every number was integral (numeric columns).
        nullable: at least one value was missing, so that a missing one is no surprise.
        levels: canonical texts of a categorical column, or None where there were too many to list.
        minimum, maximum: bounds of a numeric column, or of a datetime in microseconds since 1970.
        center: their median, which the fit counts distances from.
        shape: of the array in each row of a vector or image column.
        required: whether the table must have the column.
        unique: whether no value may occur twice.
        max_missing: the share of rows (0 to 1) that may have no value; None leaves it open.
        environments: where the column is to be found.
    """

    name: str
    kind: ColumnKind
    integer: bool = False
    nullable: bool = False
    levels: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    center: float | None = None
    shape: tuple[int, ...] | None = None
    required: bool = True
    unique: bool = False
    max_missing: float | None = None
    environments: tuple[Environment, ...] = ENVIRONMENTS


@dataclass(frozen=True, slots=True)
class Schema:
    """The input columns in their order, the target, the task and the classes (none for a regression).

    Attributes:
        answer: what is known of the target beside its classes.
        min_rows: fewest rows that a table may have.
        max_duplicates: the share of rows (0 to 1) that may be copies of another; None leaves it open.
        max_missing: of every column that does not say its own.
    """

    columns: tuple[ColumnSchema, ...]
    target: str
    task: Task
    classes: tuple[str, ...] = ()
    answer: ColumnSchema | None = None
    min_rows: int = 0
    max_duplicates: float | None = None
    max_missing: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The input columns' names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def target_column(self) -> ColumnSchema:
        """The target as a column: there when training, and not when serving."""
        if self.answer is not None:
            return self.answer
        kind: ColumnKind = "numeric" if self.task == "regression" else "categorical"
        return ColumnSchema(self.target, kind, levels=self.classes or None, environments=("TRAINING",))

    def found_in(self, environment: Environment) -> tuple[ColumnSchema, ...]:
        """Return the columns of a table in an environment, the target last."""
        return tuple(each for each in (*self.columns, self.target_column) if environment in each.environments)

    def column(self, name: str) -> ColumnSchema:
        """Return one input column. Raises ``SchemaError`` with the nearest name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"the schema has no input column '{name}'. {suggestion(name, self.names)}")

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the whole schema."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values: what a person may state besides is left out where nobody did."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "target": self.target,
            "task": self.task,
            "classes": list(self.classes),
            "columns": [_plain(column) for column in self.columns],
        }
        if self.answer is not None:
            values["answer"] = _plain(self.answer)
        limits = {
            "min_rows": self.min_rows or None,
            "max_duplicates": self.max_duplicates,
            "max_missing": self.max_missing,
        }
        return values | {key: value for key, value in limits.items() if value is not None}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Schema:
        """Return the schema of ``to_json``'s values. Raises ``SchemaError`` where they are not that."""
        known = isinstance(raw, dict) and raw.get("format") in READABLE
        if not known:
            found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            raise SchemaError(f"schema format {found!r} is unknown: this Rayline reads formats 1 to {FORMAT}.")
        try:
            return cls(
                tuple(_column(each) for each in raw["columns"]),
                raw["target"],
                cast(Task, raw["task"]),
                tuple(raw["classes"]),
                _column(raw["answer"]) if "answer" in raw else None,
                raw.get("min_rows", 0),
                raw.get("max_duplicates"),
                raw.get("max_missing"),
            )
        except (KeyError, TypeError) as error:
            raise SchemaError(f"the schema is damaged: {error!r}. Make it anew with `rayline run --fresh`.") from error


def _plain(column: ColumnSchema) -> dict[str, Any]:
    defaults = {each.name: each.default for each in fields(ColumnSchema) if each.default is not MISSING}
    values = asdict(column)
    return {key: value for key, value in values.items() if key not in STATED or value != defaults[key]}


def _column(raw: dict[str, Any]) -> ColumnSchema:
    """Return a column; what an older format does not know has its default."""
    values = dict(raw)
    for key in ("levels", "shape", "environments"):
        if values.get(key) is not None:
            values[key] = tuple(values[key])
    return ColumnSchema(**values)


def digest_of(values: dict[str, Any]) -> str:
    """Return 16 hex digits over JSON-ready values, the same in every process."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
