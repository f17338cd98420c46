"""Put what another library fitted together as a FittedFeatureSet, with a schema and a target read from a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.config import ColumnKind, FeaturesConfig, Task
from rayline.errors import ConfigError, DataError
from rayline.features.kinds.inputs import Input, arrays_of
from rayline.features.kinds.lookup import LookupColumn, Numbers
from rayline.features.kinds.seam import FittedColumn
from rayline.features.reading.batch import Batch
from rayline.features.reading.canonical import level_text
from rayline.features.schemas.inference import schema_for
from rayline.features.schemas.schema import Schema
from rayline.features.sketches import Moments
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OfNumbers:
    """A column of numbers that is made once the schema is known.

    ``make`` takes the inputs and float64 (n, inputs) of the table, NaN where missing.
    """

    columns: tuple[str, ...]
    make: Callable[[tuple[Input, ...], Doubles], FittedColumn]


Member = OfNumbers | LookupColumn


def assembled(
    members: Sequence[Member], table: pa.Table, target: str, task: Literal["auto"] | Task
) -> FittedFeatureSet:
    """Return the features of some members, in their order.

    Raises:
        ConfigError: the table lacks a column that they look at, or there are no members.
        DataError: the target cannot be learned.
    """
    if not members:
        raise ConfigError("the transformer gives no column: everything in it is dropped.")
    kinds: dict[str, ColumnKind] = {}
    for member in members:
        if isinstance(member, LookupColumn):
            kinds[member.source] = "categorical"
        else:
            kinds |= {name: "numeric" for name in member.columns if name not in kinds}
    schema = schema_for(FeaturesConfig(target=target, task=task, columns=dict(kinds)), table)
    batch = Batch(table, schema)
    columns = tuple(each if isinstance(each, LookupColumn) else _made(each, batch) for each in members)
    return FittedFeatureSet(schema, columns, *_target(schema, batch))


def lookup(
    name: str,
    source: str,
    suffixes: Sequence[str],
    table: Mapping[Any, Numbers],
    unknown: Numbers | None,
    missing: Numbers | None,
) -> LookupColumn:
    """Return a column of an encoder's levels, which may be any scalars; None or NaN among them is a missing value.

    Raises:
        ConfigError: two of its levels are one here, such as 1 and "1".
    """
    found: dict[str, Numbers] = {}
    for level, numbers in table.items():
        text = level_text(level)
        if text is None:
            missing = numbers
        elif text in found and found[text] != numbers:
            raise ConfigError(
                f"the encoder of column '{source}' has two levels that both read '{text}' here, one of them {level!r}. "
                "Clean the column first: 1, 1.0 and '1' are one level."
            )
        else:
            found[text] = numbers
    return LookupColumn(name, source, tuple(suffixes), found, unknown, missing)


def _made(member: OfNumbers, batch: Batch) -> FittedColumn:
    inputs = tuple(Input(name, batch.schema.column(name).kind) for name in member.columns)
    return member.make(inputs, np.column_stack(arrays_of(batch, inputs)))


def _target(schema: Schema, batch: Batch) -> tuple[float, float]:
    if schema.task != "regression":
        return 0.0, 1.0
    moments = Moments.of(batch.values(schema.target, "numeric").present)
    if not moments.varies:
        raise DataError(f"target '{schema.target}' is {moments.mean:g} in every row: there is nothing to learn.")
    return moments.mean, moments.std
