"""The features step on Ray Data: a source becomes fitted features and arrays, whatever its size.

One look at the source checks, divides and observes every block and writes the rows by part, on the workers that have
them. A second applies the fitted features to these files. What is known of the same rows from an earlier run is not
computed again: the parts, the observation of a column, its features in the matrix. Nothing that is written depends on
how the rows were cut into blocks.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.config import Config, plain
from rayline.features.blocks import ROWS_PER_BLOCK, over
from rayline.features.checks.findings import counts, merge_findings
from rayline.features.checks.quarantine import FOLDER as QUARANTINE
from rayline.features.checks.validation import Judge
from rayline.features.facts import DataFacts
from rayline.features.feature_set import FeatureSet, Wanted
from rayline.features.joins.history import history_digest, with_history
from rayline.features.leakage.report import refuse_leaks
from rayline.features.matrices import stored_matrices, write_matrices
from rayline.features.observed import Observations
from rayline.features.opening import open_source
from rayline.features.prepared import Prepared, replacing, write_sample, write_values
from rayline.features.reference import reference_of
from rayline.features.schemas.inference import inputs_of, schema_for
from rayline.features.schemas.schema import Schema, digest_of
from rayline.features.schemas.schema_file import configured_schema
from rayline.features.sources import source_digest
from rayline.features.splits.divide import divide
from rayline.features.splits.parts import OBSERVED, SAMPLE, PartFile, Parts
from rayline.features.splits.split import inputs_beside, plan_split, without_marks
from rayline.features.state import FitState, merge_all
from rayline.features.threads import is_large

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DataFacts", "Prepared", "input_digest", "prepare"]

SKEW_ROWS = 1_000  # of the training part that are kept with their features, to compare serving with


def input_digest(config: Config) -> str:
    """Return 16 hex digits that change when the content of the configured sources does; needs no Ray."""
    return history_digest(config, source_digest(config.data))


def prepare(
    config: Config, out: Path, schema: Schema | None = None, *, rows_per_block: int = ROWS_PER_BLOCK
) -> Prepared:
    """Read a source, check it, divide it, fit the features on the training part, apply them and write the result.

    Args:
        config: the project. Ray must be connected.
        out: the folder to write; it appears, or is replaced, only when everything in it is complete. Beside it lie
            the parts that later runs read in place of the source.
        schema: what the data must look like; the configured schema file, or inferred from the data, where None.
        rows_per_block: how finely small sources are cut; changes nothing in the result.

    Raises:
        NotFoundError, ConfigError, DataError: the source, the target, a column or the split is not usable.
        ValidationFailed: values break the schema; the message counts them by column and rule.
    """
    # Text that is no number can be set aside only where it is read as text.
    opened = open_source(config.data, rows_per_block, text=config.validate.policies.type == "quarantine")
    table, dataset = with_history(config, opened.table, opened.dataset, rows_per_block)
    names = without_marks(table.column_names)
    declared = inputs_beside(config.data.split, config.features)
    judge = Judge(schema or configured_schema(config) or schema_for(declared, table), config.validate)
    schema = inputs_of(judge.schema, declared)
    refuse_leaks(table, schema, config)
    features = FeatureSet.from_config(declared, schema)
    folder = out.parent / f"parts-{_parts_key(config, names)}"
    parts = Parts.find(folder, judge.fingerprint)
    state = None if parts is None else observed(parts, features, judge, config)
    if parts is None or state is None:
        by_number = schema.task == "regression"
        large = is_large(table.num_rows, len(names)) if opened.rows is not None else True
        plan = plan_split(config.data.split, names, opened.look, schema.target, by_number=by_number)
        parts = divide(config, dataset, names, features, plan, judge, folder, large=large)
        state = observed(parts, features, judge, config)
    assert state is not None
    return write_prepared(config, parts, state, features, out)


def write_prepared(
    config: Config, parts: Parts, state: Seen, features: FeatureSet, out: Path, *, here: bool = False
) -> Prepared:
    """Finish the features on what was seen of the training rows, apply them and write all that a features step leaves.

    Args:
        config: the project.
        parts: the rows.
        state: what the training rows say.
        features: what is made of them.
        out: the folder to write; it appears, or is replaced, only when everything in it is complete.
        here: compute in this process, and not on Ray.

    Raises:
        DataError: nothing in the training rows varies.
    """
    schema = features.schema
    facts = replace(state.facts, source=config.data.label, schema_fingerprint=schema.fingerprint)
    fitted = features.finish(state.rows)
    with replacing(out) as fresh:
        computed = write_matrices(parts, fitted, fresh, out.parent, here=here)
        sample = _sample(parts)
        write_sample(fresh, sample, fitted.transform(sample))
        write_values(fresh, fitted, reference_of(schema, state.rows), facts)
        for file in parts.of("test"):
            parts.place_of(file)  # brought here where another node wrote it
        _link(parts.path / "test", fresh / "test")
        _link(parts.path / QUARANTINE, fresh / QUARANTINE)
    storage.keep(out, stored_matrices(parts, fresh))
    return Prepared(out, fitted, facts, computed)


def _parts_key(config: Config, names: tuple[str, ...]) -> str:
    """Return what the division of a source depends on: its content, and how it is read and divided."""
    data = {key: value for key, value in plain(config.data).items() if key != "source"}
    history = {key: plain(config.features)[key] for key in ("join", "windows")}
    split = {"data": data, "history": history, "names": sorted(names)}
    stratified = config.features.target if config.data.split.by == "stratified" else None
    return digest_of({"input": input_digest(config), "stratified": stratified, **split})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the training rows say, and what the data is."""

    rows: FitState
    facts: DataFacts


def observed(parts: Parts, features: FeatureSet, judge: Judge, config: Config, *, here: bool = False) -> Seen | None:
    """Return what the training rows say. What is not known of them is looked at, and checked, in one execution.

    ``here`` looks in this process, and not on Ray.

    Returns:
        None where the check would set rows aside: the source must be divided anew, without them.
    """
    observations = Observations(parts.path / OBSERVED)
    known, facts, everything = observations.known(features), parts.facts, features.everything
    missing = Wanted(everything.columns - known.columns.keys(), everything.features - known.extras.keys())
    if not missing:
        return Seen(known, facts)
    columns = tuple(each for each in judge.schema.columns if each.name in missing.columns)
    # Rows that are alike in some columns are no copies; whole rows were looked at when the source was divided.
    copies = judge.schema.max_duplicates if len(columns) == len(judge.schema.columns) else None
    partial = replace(judge, schema=replace(judge.schema, columns=columns, max_duplicates=copies))
    looked = list(
        over(
            parts.files,
            _Look(parts, features, missing, partial, is_large(sum(facts.rows.values()), len(missing.columns))),
            here=here,
        )
    )
    findings = merge_findings(each.findings for each in looked)
    anomalies = partial.refuse(findings, config.data.label)
    if findings.quarantined:
        return None
    warnings = tuple(dict.fromkeys((*facts.warnings, *(str(each) for each in anomalies))))
    state = merge_all(each.state for each in looked)
    observations.keep(features, state, missing)
    rules = {**facts.anomalies, **counts(anomalies)}
    return Seen(known.merged(state), replace(facts, warnings=warnings, anomalies=rules))


@dataclass(frozen=True, slots=True)
class _Looked:
    state: FitState
    findings: Any


@dataclass(frozen=True, slots=True)
class _Look:
    """Looks at what is missing in one file of the parts: checks it, and observes it in the training rows."""

    parts: Parts
    features: FeatureSet
    missing: Wanted
    judge: Judge
    large: bool

    def __call__(self, file: PartFile) -> _Looked:
        table = self.parts.read(file, self.features.reads(self.missing))
        judged = self.judge(table)
        if judged.broken or file.part != "train":
            return _Looked(FitState(), judged.findings)
        return _Looked(self.features.observe(judged.rows_of(table), self.missing, large=self.large), judged.findings)


def _sample(parts: Parts) -> pa.Table:
    from pyarrow import parquet

    return parquet.read_table(parts.path / SAMPLE).slice(0, SKEW_ROWS)


def _link(source: Path, target: Path) -> None:
    """Give the files of a folder a second name, so that the parts may go away; copies where the disk knows no links."""
    if not source.is_dir():
        return
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy2(file, target / file.name)
