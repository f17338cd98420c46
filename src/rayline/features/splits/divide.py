"""The one look at a source: every block is checked, divided, digested and observed, and its rows written by part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline import storage
from rayline.config import Config
from rayline.errors import DataError
from rayline.features.blocks import fold
from rayline.features.checks.findings import Findings, counts
from rayline.features.checks.quarantine import FOLDER as QUARANTINE
from rayline.features.checks.quarantine import QuarantineWriter
from rayline.features.checks.validation import Judge, complete
from rayline.features.facts import DataFacts
from rayline.features.feature_set import FeatureSet
from rayline.features.hashing import row_hashes
from rayline.features.observed import Observations
from rayline.features.prepared import replacing
from rayline.features.reference import smallest
from rayline.features.sources import damaged_file
from rayline.features.sources.failures import UNREADABLE
from rayline.features.splits.identity import RowSums
from rayline.features.splits.parts import OBSERVED, SAMPLE, PartFile, Parts, settled, write_manifest, write_piece
from rayline.features.splits.sizes import SplitSizes
from rayline.features.splits.split import PARTS, SplitPlan, without_marks
from rayline.features.state import FitState

if TYPE_CHECKING:
    import pyarrow as pa


def divide(
    config: Config,
    dataset: Any,
    names: tuple[str, ...],
    features: FeatureSet,
    plan: SplitPlan,
    judge: Judge,
    out: Path,
    *,
    large: bool,
) -> Parts:
    """Check the rows of a source, divide them, observe the training rows and write all rows by part.

    Args:
        config: the project.
        dataset: all rows with the marks of the split: a ``ray.data.Dataset``, executed once.
        names: the source's own columns.
        features: what to observe for.
        plan: which part a row belongs to.
        judge: which rows break the schema.
        out: the folder to write; it appears, or is replaced, only when everything in it is complete.
        large: the table is so large that loading the compiled loops pays.

    Raises:
        ValidationFailed: values break the schema; the message counts them by column and rule.
        DataError: a row cannot be divided, or a part has no rows.
    """
    with replacing(out) as folder:
        summary, pieces = Summary(), list[PartFile]()
        with QuarantineWriter(folder / QUARANTINE) as quarantine:
            try:
                for each in fold(dataset, _Divide(features, plan, judge, folder, large)):
                    quarantine.write(each.aside, each.summary.findings.rows)
                    summary = summary.merged(each.summary)
                    pieces += each.pieces
            except DataError as error:
                damaged = damaged_file(config.data) if str(error).startswith(UNREADABLE) else None
                if damaged is None:
                    raise
                raise DataError(f"{UNREADABLE}: {damaged}. Write this file anew, or leave it out.") from error
        anomalies = judge.refuse(summary.findings, config.data.label)
        _refuse_empty_parts(summary.sizes, config)
        facts = DataFacts(
            config.data.label,
            summary.sums.digest(names),
            summary.sizes.by_part(),
            features.schema.fingerprint,
            tuple(str(each) for each in anomalies),
            summary.sums.parts(names),
            counts(anomalies),
            summary.findings.quarantined,
            summary.sizes.left_out,
            summary.sizes.shares(),
        )
        summary.write_sample(folder / SAMPLE)
        Observations(folder / OBSERVED).keep(features, summary.state, features.everything)
        files, stored = settled(folder, pieces)
        parts = Parts(out, files, facts, judge.fingerprint)
        write_manifest(folder, parts)
    storage.keep(out, stored, whole=False)
    return parts


@dataclass(frozen=True, slots=True)
class Summary:
    """What a look at some rows learns of them. Merging is exact, and only the findings' row numbers have an order."""

    sizes: SplitSizes = field(default_factory=SplitSizes)
    sums: RowSums = field(default_factory=RowSums)
    findings: Findings = field(default_factory=Findings)
    state: FitState = field(default_factory=FitState)
    sample: pa.Table | None = None
    sample_hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))

    def merged(self, other: Summary) -> Summary:
        """Return the summary of both sets of rows together."""
        sample, hashes = self._samples(other)
        return Summary(
            self.sizes.merged(other.sizes),
            self.sums.merged(other.sums),
            self.findings.merged(other.findings),
            self.state.merged(other.state),
            sample,
            hashes,
        )

    def write_sample(self, file: Path) -> None:
        """Write the sample of raw training rows."""
        from pyarrow import parquet

        assert self.sample is not None
        parquet.write_table(self.sample, file)

    def _samples(self, other: Summary) -> tuple[pa.Table | None, NDArray[np.uint64]]:
        import pyarrow as pa

        if self.sample is None or other.sample is None:
            one = other if self.sample is None else self
            return one.sample, one.sample_hashes
        both = pa.concat_tables([self.sample, other.sample], promote_options="permissive")
        return smallest(both, np.concatenate([self.sample_hashes, other.sample_hashes]))


@dataclass(frozen=True, slots=True)
class _Divided:
    """What a worker gives of a block: its summary, the files that it wrote and the rows that are set aside."""

    summary: Summary
    pieces: tuple[PartFile, ...] = ()
    aside: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class _Divide:
    features: FeatureSet
    plan: SplitPlan
    judge: Judge
    folder: Path
    large: bool

    def __call__(self, table: pa.Table) -> _Divided:
        schema = self.features.schema
        hashes = row_hashes(table, without_marks(table.column_names))
        judged = self.judge(table, hashes)
        if judged.broken:
            return _Divided(Summary(findings=judged.findings))
        whole, table = table, complete(judged.rows_of(table), schema)
        names = without_marks(table.column_names)
        hashes = hashes if table is whole else row_hashes(table, names)
        codes = self.plan.parts(table, hashes)
        pieces = {part: table.filter(codes == code).select(names) for code, part in enumerate(PARTS)}
        train = pieces["train"]
        sample, sample_hashes = smallest(train, hashes[codes == 0])
        summary = Summary(
            SplitSizes.of(codes, table.column(schema.target) if schema.classes else None),
            RowSums.of(hashes, codes),
            judged.findings,
            self.features.observe(train, large=self.large),
            sample,
            sample_hashes,
        )
        written = (write_piece(self.folder, part, piece) for part, piece in pieces.items())
        return _Divided(summary, tuple(each for each in written if each is not None), judged.aside)


def _refuse_empty_parts(sizes: SplitSizes, config: Config) -> None:
    for part, count in sizes.by_part().items():
        if not count:
            raise DataError(
                f"the {part} part has no rows: the {sizes.total} rows of '{config.data.label}' are too few, or too "
                "alike, for this split. Give more data, or other shares under data.split."
            )
