"""``rayline init``: look at a table and write a commented configuration that runs as it stands, and its schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from rayline.config import DataConfig, parse
from rayline.errors import ConfigError

if TYPE_CHECKING:
    from rayline.features.leakage.report import Leak
    from rayline.features.schemas.inference import Inferred
    from rayline.features.schemas.schema import ColumnSchema

FILE_NAME = "rayline.yaml"
SCHEMA_NAME = "schema.yaml"

EXPLAINED = {
    "binary": "two classes",
    "multiclass": "one of several classes",
    "regression": "a number",
}


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A written configuration, its schema, and what was seen in the table."""

    file: Path
    schema_file: Path
    name: str
    rows: int
    inferred: Inferred
    leakage: tuple[Leak, ...] = ()


def scaffold(
    source: str, *, target: str, name: str | None, out: Path, force: bool = False, port: int = 8000
) -> Scaffold:
    """Infer schema and task from a table and write ``rayline.yaml`` and ``schema.yaml``.

    Args:
        source: the table, by path, glob or URI.
        target: the column to predict.
        name: of the project; None takes the table's.
        out: the folder for both files, made where it is not there.
        force: replaces what is there.
        port: the service's.

    Raises:
        ConfigError: there is a configuration already, or the name is not usable.
        DataError: the table cannot be read, has no such target, or nothing to learn from.
    """
    from rayline.features.leakage.report import split_leaks, told
    from rayline.features.schemas.inference import infer
    from rayline.features.schemas.proposal import with_limits
    from rayline.features.schemas.schema_text import schema_text
    from rayline.features.sources import read_table, too_large

    file, schema_file = out / FILE_NAME, out / SCHEMA_NAME
    for each in (file, schema_file):
        if each.exists() and not force:
            raise ConfigError(f"'{each}' exists already. Name another folder with --out, or replace it with --force.")
    data = DataConfig(source=source if _has_scheme(source) else str(Path(source).resolve()))
    table = read_table(data, head=too_large(data))
    inferred = infer(table, target)
    chosen = name or _name_of(source)
    text = _document(chosen, _seen_from(out, source), table.num_rows, inferred, port)
    split = parse(yaml.safe_load(text)).data.split
    leaks = (*told(inferred.dropped), *split_leaks(table, inferred.schema, split))
    out.mkdir(parents=True, exist_ok=True)
    for each, content in ((schema_file, schema_text(with_limits(inferred.schema, table))), (file, text)):
        draft = each.with_suffix(".draft")
        draft.write_text(content, encoding="utf-8")
        draft.replace(each)
    return Scaffold(file, schema_file, chosen, table.num_rows, inferred, leaks)


def _document(name: str, source: str, rows: int, inferred: Inferred, port: int) -> str:
    schema = inferred.schema
    lines = [
        f"# Rayline project '{name}'. Run it with: rayline run {FILE_NAME}",
        f"name: {name}",
        "",
        "data:",
        f"  source: {_scalar(source)}  # {rows:,} rows; CSV, Parquet or JSON lines by path, glob or URI",
        "  split:  # the same rows fall on the same side every time",
        "    by: hash  # of the row's content, or of 'key: COLUMN'; 'by: time' holds out the latest rows",
        "    valid: 0.15  # chooses the best epoch and the best trial",
        "    test: 0.15  # held out: measures what is registered",
        "",
        "features:",
        f"  target: {_scalar(schema.target)}",
        f"  task: {schema.task}  # {EXPLAINED[schema.task]}{_classes(schema.classes)}",
        "  columns:  # numeric: filled and scaled; categorical: one-hot; boolean; datetime: its parts",
        *(f"    {_scalar(column.name)}: {column.kind}{_remark(column)}" for column in schema.columns),
    ]
    if inferred.dropped:
        lines.append("  drop:  # left out, and why; declare one under 'columns' to use it all the same")
        lines += [f"    - {_scalar(each.column)}  # {each.reason}" for each in inferred.dropped]
    epochs, batch = _training_size(rows)
    lines += [
        "",
        "validate:",
        f"  schema: {SCHEMA_NAME}  # what the data must look like: review and edit it",
        "  policies:  # fail, warn, or quarantine: the rows are set aside in a Parquet folder",
        "    type: fail",
        "    domain: warn",
        "    range: warn",
        "",
        "model:",
        "  builder: mlp  # or residual_mlp, cnn (for images), xgboost, your own as my_package.my_module:build, or",
        f"  # {_estimator(schema.task)}; 'options' holds what it takes",
        "  hidden: [64, 32]",
        "",
        "train:",
        f"  epochs: {epochs}",
        f"  batch_size: {batch}",
        "  learning_rate: 0.003",
        "  patience: 5  # epochs without a better validation loss before it stops",
        "  num_workers: 1  # more than one: worker processes, on this machine or on a cluster",
        "",
        "# tune:  # search instead of training once; each trial is a nested MLflow run",
        "#   trials: 8",
        "#   space:",
        "#     train.learning_rate: {low: 0.0005, high: 0.02, log: true}",
        "#     model.hidden: {choose: [[32], [64, 32], [128, 64]]}",
        "",
        "service:",
        f"  port: {port}  # http://127.0.0.1:{port}/{name}",
        "  replicas: 1",
        "",
        "rollout:  # how the next version takes over; without traffic it waits: no data, no verdict",
        "  strategy: canary",
        "  steps:",
        "    - set_weight: 10",
        "    - analysis: true",
        "    - set_weight: 50",
        "    - analysis: true",
        "    - set_weight: 100",
        "  analysis:",
        "    interval: 5",
        "    count: 3",
        "    metrics:",
        "      - {measure: error_rate, max: 0.01}",
        "      - {measure: latency, quantile: 0.95, max_ratio: 2.0}",
        "      - {measure: prediction_shift, max: 0.3}",
        "",
    ]
    return "\n".join(lines)


def _estimator(task: str) -> str:
    return f"sklearn.ensemble:HistGradientBoosting{'Regressor' if task == 'regression' else 'Classifier'}"


def _training_size(rows: int) -> tuple[int, int]:
    """Return epochs and batch size: some thousands of updates for a small table, minutes for a large one."""
    if rows < 5_000:
        return 60, 32
    return (40, 128) if rows < 100_000 else (10, 1024)


def _remark(column: ColumnSchema) -> str:
    remarks = []
    if column.levels is not None:
        remarks.append(f"{len(column.levels)} levels")
    elif column.kind == "numeric" and column.minimum is not None and column.maximum is not None:
        remarks.append(f"{column.minimum:g} to {column.maximum:g}")
    if column.nullable:
        remarks.append("has missing values")
    return f"  # {', '.join(remarks)}" if remarks else ""


def _classes(classes: tuple[str, ...]) -> str:
    if not classes:
        return ""
    listed = ", ".join(classes[:6])
    return f": {listed}{', …' if len(classes) > 6 else ''}"


def _name_of(source: str) -> str:
    stem = Path(source.removeprefix("sklearn:").rstrip("/*")).stem
    name = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")
    name = name if name[:1].isalpha() else f"model-{name}".rstrip("-")
    return name[:63]


def _seen_from(out: Path, source: str) -> str:
    """Return the source as the configuration says it: relative to its own folder where that reads well."""
    if _has_scheme(source):
        return source
    path, folder = Path(source).resolve(), out.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _scalar(text: str) -> str:
    return (
        str(yaml.safe_dump(text, default_flow_style=True, width=10_000, allow_unicode=True))
        .removesuffix("\n...\n")
        .strip()
    )


def _has_scheme(source: str) -> bool:
    return "://" in source or source.startswith("sklearn:")
