"""The features step on Ray Data: two executions from a source to arrays, whatever its size.

The first looks at every block once: it validates, divides, fits on the training rows, counts and digests. The second
applies the fitted features. Blocks come back in the order of the source, and nothing that is written depends on how
the rows were cut into blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import Config, DataConfig
from rayline.errors import DataError
from rayline.features.blocks import ROWS_PER_BLOCK, fold, in_blocks
from rayline.features.checking import as_text
from rayline.features.feature_set import FeatureSet
from rayline.features.findings import Findings, counts
from rayline.features.hashing import mix, row_hashes
from rayline.features.inference import inputs_of, schema_for
from rayline.features.leakage_report import refuse_leaks
from rayline.features.prepared import DataFacts, Prepared, replacing, write_values
from rayline.features.quarantine import FOLDER as QUARANTINE
from rayline.features.quarantine import QuarantineWriter
from rayline.features.reference import reference_of, smallest
from rayline.features.schema import Schema
from rayline.features.schema_file import configured_schema
from rayline.features.sources import read_dataset, read_table, source_digest, too_large
from rayline.features.split import PARTS, POSITION, SplitPlan, plan_split, read_times
from rayline.features.state import FitState
from rayline.features.transform import FittedFeatureSet
from rayline.features.validation import Judge, complete

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DataFacts", "Prepared", "input_digest", "prepare"]

SECOND = np.uint64(0xD1B54A32D192ED03)  # gives the digest a second, independent sum


def input_digest(config: Config) -> str:
    """Return 16 hex digits that change when the content of the configured source does; needs no Ray."""
    return source_digest(config.data)


def prepare(
    config: Config, out: Path, schema: Schema | None = None, *, rows_per_block: int = ROWS_PER_BLOCK
) -> Prepared:
    """Read a source, check it, divide it, fit the features on the training part, apply them and write the result.

    Args:
        config: the project. Ray must be connected.
        out: the folder to write; it appears, or is replaced, only when everything in it is complete.
        schema: what the data must look like; inferred from the data where None.
        rows_per_block: how finely small sources are cut; changes nothing in the result.

    Raises:
        NotFoundError, ConfigError, DataError: the source, the target, a column or the split is not usable.
        ValidationFailed: values break the schema; the message counts them by column and rule.
    """
    # Text that is no number can be set aside only where it is read as text.
    text = config.validate.policies.type == "quarantine"
    table, dataset = _opened(config.data, rows_per_block, text)
    judge = Judge(schema or configured_schema(config) or schema_for(config.features, table), config.validate)
    schema = inputs_of(judge.schema, config.features)
    refuse_leaks(table, schema, config)
    plan = _plan(config, table, dataset)
    feature_set = FeatureSet.from_config(config.features, schema)
    summary = Summary()
    for each in fold(dataset, _Summarise(feature_set, plan, judge)):
        summary = summary.merged(each)
    anomalies = judge.refuse(summary.findings, config.data.source)
    refuse_empty_parts(summary.rows, config)
    fitted = feature_set.finish(summary.state)
    assert summary.sample is not None
    facts = DataFacts(
        config.data.source,
        summary.digest(_names(table)),
        dict(zip(PARTS, summary.rows, strict=True)),
        schema.fingerprint,
        tuple(str(each) for each in anomalies),
        counts(anomalies),
        summary.findings.quarantined,
    )
    with replacing(out) as folder:
        _write_parts(folder, fold(dataset, _Apply(fitted, plan, judge if facts.quarantined else None)))
        write_values(folder, fitted, reference_of(schema, summary.state), facts)
    return Prepared(out, fitted, facts)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the first execution learns of some rows. Merging is exact and takes any order."""

    rows: tuple[int, int, int] = (0, 0, 0)
    sums: tuple[int, int] = (0, 0)
    findings: Findings = field(default_factory=Findings)
    state: FitState = field(default_factory=FitState)
    sample: pa.Table | None = None
    sample_hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))

    def merged(self, other: Summary) -> Summary:
        """Return the summary of both sets of rows together."""
        first, second, third = (ours + theirs for ours, theirs in zip(self.rows, other.rows, strict=True))
        sample, hashes = self._samples(other)
        return Summary(
            (first, second, third),
            ((self.sums[0] + other.sums[0]) % 2**64, (self.sums[1] + other.sums[1]) % 2**64),
            self.findings.merged(other.findings),
            self.state.merged(other.state),
            sample,
            hashes,
        )

    def digest(self, names: Iterable[str]) -> str:
        """Return 32 hex digits over the rows' content and the columns' names."""
        text = f"{sum(self.rows)} {self.sums[0]:016x} {self.sums[1]:016x} {sorted(names)!r}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _samples(self, other: Summary) -> tuple[pa.Table | None, NDArray[np.uint64]]:
        import pyarrow as pa

        if self.sample is None or other.sample is None:
            one = other if self.sample is None else self
            return one.sample, one.sample_hashes
        both = pa.concat_tables([self.sample, other.sample], promote_options="permissive")
        return smallest(both, np.concatenate([self.sample_hashes, other.sample_hashes]))


@dataclass(frozen=True, slots=True)
class _Summarise:
    feature_set: FeatureSet
    plan: SplitPlan
    judge: Judge

    def __call__(self, table: pa.Table) -> Summary:
        schema = self.feature_set.schema
        hashes = row_hashes(table, _names(table))
        judged = self.judge(table, hashes)
        if judged.broken:
            return Summary(findings=judged.findings)
        whole, table = table, complete(judged.rows_of(table), schema)
        hashes = hashes if table is whole else row_hashes(table, _names(table))
        parts = self.plan.parts(table)
        first, second, third = (int(count) for count in np.bincount(parts, minlength=3))
        sums = tuple(int(mix(hashes ^ salt).sum(dtype=np.uint64)) for salt in (np.uint64(0), SECOND))
        chosen = parts == 0
        train = table.filter(chosen)
        sample, sample_hashes = smallest(train.select([*schema.names, schema.target]), hashes[chosen])
        state = self.feature_set.observe(train)
        return Summary((first, second, third), (sums[0], sums[1]), judged.findings, state, sample, sample_hashes)


@dataclass(frozen=True, slots=True)
class _Apply:
    features: FittedFeatureSet
    plan: SplitPlan
    judge: Judge | None

    def __call__(self, table: pa.Table) -> tuple[dict[str, pa.Table], pa.Table | None, int]:
        """Return the parts, what is set aside, and how many rows that was of."""
        rows, aside = table.num_rows, None
        if self.judge is not None:
            judged = self.judge(table)
            table, aside = judged.rows_of(table), judged.aside
        table = complete(table, self.features.schema)
        return self._parts(table), aside, rows

    def _parts(self, table: pa.Table) -> dict[str, pa.Table]:
        parts = self.plan.parts(table)
        pieces = {part: table.filter(parts == number) for number, part in enumerate(PARTS)}
        done = {part: self._arrays(pieces[part], part == "train") for part in ("train", "valid")}
        return {**done, "test": pieces["test"].select(_names(table))}

    def _arrays(self, table: pa.Table, training: bool) -> pa.Table:
        import pyarrow as pa

        flat = pa.array(self.features.transform(table, training=training).reshape(-1))
        x = pa.FixedSizeListArray.from_arrays(flat, self.features.width)
        return pa.table({"x": x, "y": self.features.encode_target(table)})


def refuse_empty_parts(rows: tuple[int, int, int], config: Config) -> None:
    """Raise ``DataError`` where a part has no rows."""
    for part, count in zip(PARTS, rows, strict=True):
        if not count:
            raise DataError(
                f"the {part} part has no rows: the {sum(rows)} rows of '{config.data.source}' are too few, or too "
                "alike, for this split. Give more data, or other shares under data.split."
            )


def _opened(data: DataConfig, rows_per_block: int, text: bool) -> tuple[pa.Table, Any]:
    """Return a table to infer from and the whole source as a Dataset; a source that fits is read once, here."""
    import pyarrow as pa

    in_file_order = data.split.by == "time" and data.split.column is None
    if too_large(data) and not in_file_order:
        head = read_table(data, head=True)
        return head, read_dataset(data, as_text(head.schema) if text else head.schema)
    table = read_table(data)
    whole = table.append_column(POSITION, pa.array(np.arange(table.num_rows))) if in_file_order else table
    return table, in_blocks(whole, rows_per_block)


def _plan(config: Config, table: pa.Table, dataset: Any) -> SplitPlan:
    def times(column: str) -> NDArray[np.float64]:
        if column == POSITION:
            return np.arange(table.num_rows, dtype=np.float64)
        if not too_large(config.data):
            return read_times(table.column(column), column)
        return np.concatenate(list(fold(dataset.select_columns([column]), _Times(column))))

    return plan_split(config.data.split, tuple(table.column_names), times)


@dataclass(frozen=True, slots=True)
class _Times:
    column: str

    def __call__(self, table: pa.Table) -> NDArray[np.float64]:
        return read_times(table.column(self.column), self.column)


def _write_parts(folder: Path, blocks: Iterable[tuple[dict[str, pa.Table], pa.Table | None, int]]) -> None:
    from pyarrow import parquet

    writers: dict[str, Any] = {}
    try:
        with QuarantineWriter(folder / QUARANTINE) as quarantine:
            for block, aside, rows in blocks:
                quarantine.write(aside, rows)
                for part, piece in block.items():
                    if part not in writers:
                        writers[part] = parquet.ParquetWriter(folder / f"{part}.parquet", piece.schema)
                    writers[part].write_table(piece.cast(writers[part].schema))
    finally:
        for writer in writers.values():
            writer.close()


def _names(table: pa.Table) -> tuple[str, ...]:
    return tuple(name for name in table.column_names if name != POSITION)
