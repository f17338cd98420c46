"""What a table must look like: its input columns, its target and its task. Plain values with a JSON form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, cast

from rayline.config import ColumnKind, Task
from rayline.errors import SchemaError, suggestion

FORMAT = 2
READABLE = (1, 2)


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One input column, as it was when the schema was made.

    Attributes:
        integer: every number was integral (numeric columns).
        nullable: at least one value was missing.
        levels: canonical texts of a categorical column, or None where there were too many to list.
        minimum, maximum: bounds of a numeric column, or of a datetime in microseconds since 1970.
        center: their median, which the fit counts distances from.
        shape: of the array in each row of a vector or image column.
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


@dataclass(frozen=True, slots=True)
class Schema:
    """The input columns in their order, the target, the task and the classes (none for a regression)."""

    columns: tuple[ColumnSchema, ...]
    target: str
    task: Task
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The input columns' names, in order."""
        return tuple(column.name for column in self.columns)

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
        """Return JSON-ready values."""
        return {
            "format": FORMAT,
            "target": self.target,
            "task": self.task,
            "classes": list(self.classes),
            "columns": [asdict(column) for column in self.columns],
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Schema:
        """Return the schema of ``to_json``'s values. Raises ``SchemaError`` where they are not that."""
        known = isinstance(raw, dict) and raw.get("format") in READABLE
        if not known:
            found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            raise SchemaError(f"schema format {found!r} is unknown: this Rayline reads formats 1 to {FORMAT}.")
        try:
            columns = tuple(_column(each) for each in raw["columns"])
            return cls(columns, raw["target"], cast(Task, raw["task"]), tuple(raw["classes"]))
        except (KeyError, TypeError) as error:
            raise SchemaError(f"the schema is damaged: {error!r}. Make it anew with `rayline run --fresh`.") from error


def _column(raw: dict[str, Any]) -> ColumnSchema:
    """Return a column; what an older format does not know has its default."""
    tuples = {key: None if raw.get(key) is None else tuple(raw[key]) for key in ("levels", "shape")}
    return ColumnSchema(**{**raw, **tuples})


def digest_of(values: dict[str, Any]) -> str:
    """Return 16 hex digits over JSON-ready values, the same in every process."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
