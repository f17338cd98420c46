"""Whether a table fits its project: the schema that the last features step left, and what of the table breaks it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rayline.config import Config, FeaturesConfig
from rayline.errors import RaylineError
from rayline.project import Project

if TYPE_CHECKING:
    from rayline.features.schema import Schema
    from rayline.features.validation import Anomaly


@dataclass(frozen=True, slots=True)
class Checked:
    """What breaks the schema, and whose it was: of a finished ``features`` step, or inferred from the own ``data``."""

    anomalies: tuple[Anomaly, ...]
    schema: Literal["features", "data"]


def check(config: Config, source: str | None = None) -> Checked:
    """Check a table against the schema of the last features step, or of the own data where none was finished.

    Args:
        config: the project.
        source: another path, glob or URI to check; the configuration's own where None.

    Raises:
        DataError: a source cannot be read, or gives no schema.
    """
    from rayline.features.validation import check_source

    schema = known_schema(config)
    return Checked(check_source(config, source, schema), "data" if schema is None else "features")


def known_schema(config: Config) -> Schema | None:
    """Return the schema of the newest finished features step that the configuration still describes, or None."""
    from rayline.features.prepared import Prepared

    records = Project(config).ledger.folder.glob("features-*.json")
    for file in sorted(records, key=lambda each: each.stat().st_mtime_ns, reverse=True):
        try:
            folder = json.loads(file.read_text(encoding="utf-8"))["result"]["path"]
            schema = Prepared.load(folder).features.schema
        except (OSError, ValueError, KeyError, TypeError, RaylineError):  # cleared away, or of another Rayline
            continue
        if _describes(config.features, schema):
            return schema
    return None


def _describes(features: FeaturesConfig, schema: Schema) -> bool:
    """Tell whether the schema could be of this configuration, whatever the data: it may have been edited since."""
    from rayline.features.inference import raw_columns

    declared = {name: kind for name, kind in raw_columns(features).items() if name not in features.drop}
    kinds = {column.name: column.kind for column in schema.columns}
    alike = declared.keys() == kinds.keys() and all(kind in (None, kinds[name]) for name, kind in declared.items())
    same_inputs = alike if declared else not set(features.drop) & set(kinds)
    return features.target == schema.target and features.task in ("auto", schema.task) and same_inputs
