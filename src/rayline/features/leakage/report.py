"""The leakage report: everything in a table and its split by which a model could know what it must predict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rayline.config import Config, SplitConfig
from rayline.errors import ValidationFailed
from rayline.features.leakage.columns import Suggestion, leaks
from rayline.features.leakage.split import copied_inputs, keys, later_than, neighbours, parts_of
from rayline.features.schemas.inference import identifier
from rayline.features.schemas.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa


MOST_ROWS = 100_000  # that follow one another, to look for leaks between the parts


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which the target may be known beforehand.

    Attributes:
        kind: ``alone`` (a column tells the target), ``sum`` (columns add up to it), ``identifier`` (another value in
            every row), ``duplicates`` (test rows that were trained on), ``time`` (later than the event, or neighbours
            on both sides of the split) or ``key`` (rows of one key on both sides).
        columns: those meant; empty where it is the split as a whole.
    """

    kind: Literal["alone", "sum", "identifier", "duplicates", "time", "key"]
    columns: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(self.columns)} {self.reason}" if self.kind in ("alone", "identifier") else self.reason


def leakage(table: pa.Table, schema: Schema, split: SplitConfig) -> tuple[Leak, ...]:
    """Return the leaks of a table with these inputs, target and split.

    Args:
        table: raw rows; nothing can be told without the target.
        schema: the inputs that the features look at; what is dropped leaks nothing.
        split: as configured.
    """
    if schema.target not in table.column_names or not table.num_rows:
        return ()
    columns = tuple(each for each in schema.columns if each.name in table.column_names)
    found = list(identified(table, tuple(each.name for each in columns)))
    known = {name for leak in found for name in leak.columns}
    rest = tuple(each for each in columns if each.name not in known)
    found += told(leaks(table, rest, schema.target, schema.task))
    return (*found, *split_leaks(table, schema, split))


def split_leaks(table: pa.Table, schema: Schema, split: SplitConfig) -> tuple[Leak, ...]:
    """Return the leaks between the parts alone, as ``leakage`` does."""
    parts = parts_of(table, split, schema)
    table, parts = table.slice(0, MOST_ROWS), None if parts is None else parts[:MOST_ROWS]
    found: list[Leak] = []
    copied = None if parts is None else copied_inputs(table, schema, parts)
    if copied is not None:
        found.append(Leak("duplicates", (), copied))
    if split.by == "time" and split.column is not None:
        late = later_than(table, schema, split.column)
        found += [Leak("time", (name,), f"'{name}' {reason}") for name, reason in late.items()]
    near = neighbours(table, schema, split)
    if near is not None:
        found.append(Leak("time", near[:1], near[1]))
    shared = keys(table, schema, split)
    if shared is not None:
        found.append(Leak("key", shared[:1], shared[1]))
    return tuple(found)


def refuse_leaks(table: pa.Table, schema: Schema, config: Config) -> None:
    """Raise ``ValidationFailed`` for a leak, where the configuration says that one stops a run."""
    found = leakage(table, schema, config.data.split) if config.validate.policies.leakage == "fail" else ()
    if found:
        raise ValidationFailed(
            "the target can be known beforehand:\n"
            + "\n".join(f"  {each}" for each in found)
            + "\nLeave these columns out (features.drop), divide the rows otherwise (data.split), or only warn "
            "(validate.policies.leakage)."
        )


def identified(table: pa.Table, names: Iterable[str]) -> tuple[Leak, ...]:
    """Return the columns that have another value in every row."""
    reasons = {name: identifier(table.column(name), name) for name in names}
    return tuple(Leak("identifier", (name,), reason) for name, reason in reasons.items() if reason is not None)


def told(suggestions: Iterable[Suggestion]) -> tuple[Leak, ...]:
    """Return what inference found of leaks; the columns of one sum are one leak."""
    found: dict[str, Leak] = {}
    for each in suggestions:
        if each.kind == "sum":
            before = found.get(each.reason, Leak("sum", (), each.reason))
            found[each.reason] = Leak("sum", (*before.columns, each.column), _sum_words(each.reason))
        elif each.kind != "unusable":
            found[each.column] = Leak(each.kind, (each.column,), each.reason)
    return tuple(found.values())


def _sum_words(reason: str) -> str:
    formula = reason.rpartition(": ")[2]
    return f"{formula}: these columns add up to the target"
