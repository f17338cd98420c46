"""Other features on the same rows: what the trials of a Study need that differ in their features.

The rows were read, checked and divided by the features step before. They stay as they are, so that trials are compared
on the same ones; what is known of a column, and its features where they are alike, is not computed again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rayline.config import Config, FeaturesConfig
from rayline.errors import DataError, NotFoundError, RowError, shown
from rayline.features.checks.validation import Judge
from rayline.features.feature_set import FeatureSet
from rayline.features.leakage.report import refuse_leaks
from rayline.features.matrices import rows_of
from rayline.features.pipeline import observed, write_prepared
from rayline.features.prepared import Prepared
from rayline.features.schemas.inference import inputs_of, raw_columns, schema_for
from rayline.features.schemas.schema import Schema
from rayline.features.schemas.schema_file import configured_schema
from rayline.features.splits.parts import PartFile, Parts
from rayline.features.splits.split import inputs_beside

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 1_000_000  # from which the schema of a column that was not looked at before is inferred


def vary(config: Config, base: Prepared, out: Path, *, here: bool = True) -> Prepared:
    """Fit other features on the rows of a finished features step, apply them and write the result.

    Args:
        config: the project, with the other features.
        base: the finished step, of the same data.
        out: the folder to write, beside that of ``base``; it appears, or is replaced, only when it is complete.
        here: compute in this process, and not on Ray.

    Raises:
        NotFoundError: the rows of ``base`` were cleared away.
        ConfigError, DataError, ValidationFailed: as ``pipeline.prepare``; or rows that ``base`` has would be set aside.
    """
    parts = Parts.find(rows_of(base.path), None)
    if parts is None:
        raise NotFoundError(f"the rows that '{base.path}' was made of were cleared away. Use `--fresh`.")
    declared = inputs_beside(config.data.split, config.features)
    judge = Judge(configured_schema(config) or _schema(config, declared, base.features.schema, parts), config.validate)
    features = FeatureSet.from_config(declared, inputs_of(judge.schema, declared))
    seen = observed(parts, features, judge, config, here=here)
    if seen is None:
        raise DataError(
            "these features would set rows aside that others keep, so that the trials could not be compared. Set the "
            "values right, or declare the columns as the base configuration does."
        )
    return write_prepared(config, parts, seen, features, out, here=here)


def _schema(config: Config, features: FeaturesConfig, base: Schema, parts: Parts) -> Schema:
    """Return the schema of the columns that are looked at: as it was, and inferred where that does not hold them."""
    names = _names(parts)
    wanted = raw_columns(features) or dict.fromkeys(name for name in names if name != base.target)
    known = {each.name: each for each in base.columns}
    kept = {name: kind for name, kind in wanted.items() if name not in features.drop}
    if all(name in known and kind in (None, known[name].kind) for name, kind in kept.items()):
        return replace(base, columns=tuple(known[name] for name in kept))
    table = _head(parts, names)
    try:
        schema = schema_for(features, table)
    except RowError as error:  # its row counts from where the parts begin, and not from the source
        raise DataError(f"column '{error.column}' cannot be read so: {shown(error.value)} {error.rule}") from error
    refuse_leaks(table, schema, config)
    return replace(base, columns=schema.columns)


def _names(parts: Parts) -> list[str]:
    from pyarrow import parquet

    return [str(name) for name in parquet.read_schema(parts.place_of(parts.files[0])).names]


def _head(parts: Parts, names: list[str]) -> pa.Table:
    import pyarrow as pa

    tables, rows = [], 0
    for file in sorted(parts.files, key=_number):
        tables.append(parts.read(file, names))
        rows += file.rows
        if rows >= MOST_ROWS:
            break
    return pa.concat_tables(tables, promote_options="permissive")


def _number(file: PartFile) -> str:
    """The files of all parts in turn, so that the head is of the training part not alone."""
    return file.name.rpartition("/")[2]
