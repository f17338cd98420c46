"""From what is known of a version to the page of its card, under the headings of Mitchell et al. (2019)."""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayline.card import measured
from rayline.card.document import Block, Bullets, Code, Page, Part, Table, Text, facts, part, section
from rayline.card.limits import limits
from rayline.card.source import CardSource
from rayline.config import with_values

MOST_COLUMNS = 200
MOST_LEVELS = 6
UNLIMITED = 2**31


def page(source: CardSource) -> Page:
    """Return the card of a version."""
    config = source.config
    return Page(
        title=f"{config.name}, version {source.version.number}",
        subtitle=config.card.description or _headline(source),
        lead=measured.badges(source),
        alerts=tuple(each.told(f"version {source.version.number}") for each in source.judgement.refusals),
        parts=(
            *_details(source),
            *_use(source),
            *section("Factors", _features(source)),
            *measured.metrics(source),
            *_data(source),
            *measured.analyses(source),
            *_caveats(source),
            *_lineage(source),
        ),
    )


def _headline(source: CardSource) -> str:
    features = source.bundle.features
    columns = len(features.input_columns)
    answer = f"one of {len(features.classes)} classes" if features.classes else "a number"
    return f"Predicts '{features.schema.target}', {answer}, from {columns} column{'' if columns == 1 else 's'}."


def _details(source: CardSource) -> tuple[Part, ...]:
    config, bundle, card = source.config, source.bundle, source.config.card
    model, training = bundle.manifest.model, source.training
    found = {key: value for key, value in training.get("params", {}).items() if key.startswith("train.")}
    train = with_values(config, found).train
    own = {key: value for key, value in model.items() if key != "builder" and value not in ({}, None)}
    epochs = training.get("epochs")
    stopped = f"{epochs} epochs, the best was {training.get('best_epoch')}" if epochs else None
    size = sum(each.bytes for each in bundle.manifest.files.values())
    return section(
        "Model details",
        part(
            "Training",
            *facts(
                [
                    ("Epochs", stopped),
                    ("Best trial", f"{training['best'] + 1} of {training['trials']}" if "trials" in training else None),
                    ("Optimiser", f"{train.optimizer}, learning rate {train.learning_rate:g}, {train.schedule}"),
                    ("Batch size", f"{train.batch_size:,}"),
                    (
                        "Searched",
                        ", ".join(f"{key} = {_short(value)}" for key, value in training.get("params", {}).items()),
                    ),
                    ("Time", f"{training['seconds']:.1f} s" if "seconds" in training else None),
                    ("Seed", str(train.seed)),
                ]
            ),
            level=3,
        ),
        blocks=facts(
            [
                ("Owner", card.owner),
                ("Contact", card.contact),
                ("Licence", card.licence),
                ("Registered", _time(source.version.created)),
                ("Task", f"{bundle.task} of '{bundle.features.schema.target}'"),
                ("Classes", _named(bundle.features.classes)),
                ("Model", str(model.get("builder", ""))),
                ("Settings", ", ".join(f"{key} {_short(value)}" for key, value in own.items())),
                ("Parameters", _parameters(bundle.path / bundle.manifest.network)),
                ("Bundle", f"{size / 1e6:.2f} MB, digest {bundle.digest[:16]}"),
            ]
        ),
    )


def _use(source: CardSource) -> tuple[Part, ...]:
    card, bundle = source.config.card, source.bundle
    words = facts([("For", card.intended_use), ("Not for", card.out_of_scope)])
    call: tuple[Block, ...] = ()
    if bundle.example:
        body = json.dumps({"rows": [dict(bundle.example[0])]}, ensure_ascii=False, default=str)
        service = source.config.service
        host = "127.0.0.1" if service.host == "0.0.0.0" else service.host
        url = f"http://{host}:{service.port}/{source.config.name}/predict"
        answer = "label and probabilities" if bundle.features.classes else f"'{bundle.features.schema.target}'"
        call = (Text(f"One answer for each row: its {answer}."), Code(f"curl {url} \\\n  -d {shlex.quote(body)}"))
    return section("Intended use", part("How to call it", *call, level=3), blocks=words)


def _features(source: CardSource) -> tuple[Part, ...]:
    features, reference = source.bundle.features, source.bundle.reference.get("columns", {})
    rows = [
        (
            each.name if each.inputs == (each.name,) else f"{each.name} of {', '.join(each.inputs)}",
            each.kind,
            _encoding(each.to_json()),
            str(len(each.output_names)),
            _covered(reference.get(each.inputs[0], {})) if each.inputs else "",
        )
        for each in features.columns[:MOST_COLUMNS]
    ]
    blocks: list[Block] = []
    if rows:
        header = ("column", "kind", "encoding", "numbers", "in the training part")
        blocks.append(Table(header, tuple(rows), frozenset({3})))
    if len(features.columns) > MOST_COLUMNS:
        blocks.append(Text(f"and {len(features.columns) - MOST_COLUMNS:,} more columns."))
    looked_at = [each.column for each in source.config.evaluate.slices]
    told = facts([("Measured apart", _named(tuple(looked_at)))])
    return (*part("Features", *blocks, level=3), *part("Groups", *told, level=3))


def _encoding(state: Mapping[str, Any]) -> str:
    if isinstance(state.get("encode"), str):
        return str(state["encode"]).replace("_", "-")
    if state.get("parts"):
        return ", ".join(str(each["part"]) if isinstance(each, dict) else str(each) for each in state["parts"])
    words = [word for key, word in (("log", "logarithm"), ("flag", "flag where missing")) if state.get(key)]
    words += [word for key, word in (("clip", "clipped"), ("knots", "quantiles"), ("edges", "bins")) if state.get(key)]
    return ", ".join(["standardised", *words]) if "std" in state else ", ".join(words)


def _covered(column: Mapping[str, Any]) -> str:
    """Return what values a raw column had in the training part."""
    if column.get("levels"):
        levels = sorted(column["levels"].items(), key=lambda pair: -pair[1])
        named = [
            f"{level} ({share:.0%})" if share >= 0.005 else f"{level} (< 1%)" for level, share in levels[:MOST_LEVELS]
        ]
        rest = column.get("distinct", len(levels)) - len(named)
        return ", ".join(named) + (f" and {rest:,} more" if rest > 0 else "")
    if "min" not in column:
        return ""
    ends = (column["min"], column["max"])
    if column["kind"] == "datetime":
        return f"{_instant(ends[0])} to {_instant(ends[1])}"
    return f"{ends[0]:.4g} to {ends[1]:.4g}, mean {column['mean']:.4g}" if column["kind"] == "numeric" else ""


def _data(source: CardSource) -> tuple[Part, ...]:
    made = source.bundle.lineage
    rows, parts = made.get("rows", {}), made.get("parts", {})
    target = source.bundle.reference.get("target", {})
    count = rows.get("test")
    test = facts([("Rows", f"{count:,}" if count else None), ("Digest", parts.get("test", {}).get("digest"))])
    trained = facts(
        [
            ("Source", made.get("source")),
            ("Content", f"digest {made['data_digest']}" if made.get("data_digest") else None),
            ("Schema", made.get("schema_fingerprint")),
            ("Time span", _span(source)),
            (f"Target '{source.bundle.features.schema.target}'", _covered(target)),
        ]
    )
    order = [name for name in ("train", "valid", "test") if name in rows]
    table = Table(
        ("part", "rows", "digest"),
        tuple((name, f"{rows[name]:,}", parts.get(name, {}).get("digest", "")) for name in order),
        frozenset({1}),
    )
    evaluation = section("Evaluation data", blocks=(*test, Text(_held_out(source)))) if test else ()
    return (*evaluation, *section("Training data", blocks=(*trained, *((table,) if order else ()))))


def _held_out(source: CardSource) -> str:
    split = source.config.data.split
    by = {"hash": "by a hash of each row", "files": "in a file of its own"}.get(split.by, f"by {split.by}")
    return f"The test part was divided off {by}; nothing was fitted or chosen on it."


def _span(source: CardSource) -> str | None:
    columns = source.bundle.reference.get("columns", {})
    times = [(name, each) for name, each in columns.items() if each.get("kind") == "datetime" and "min" in each]
    return "; ".join(f"{name} {_instant(each['min'])} to {_instant(each['max'])}" for name, each in times) or None


def _caveats(source: CardSource) -> tuple[Part, ...]:
    features = source.bundle.features
    found = limits(features.schema, source.bundle.reference, source.test, source.judgement)
    said = tuple(source.config.card.caveats)
    return section(
        "Caveats and recommendations",
        part("What the data did not cover", *((Bullets(found),) if found else ()), level=3),
        blocks=(Bullets(said),) if said else (),
    )


def _lineage(source: CardSource) -> tuple[Part, ...]:
    made = source.bundle.lineage
    versions = ", ".join(
        f"{name} {made[name]}"
        for name in ("python", "rayline", "ray", "torch", "numpy", "scikit-learn")
        if name in made
    )
    return section(
        "Lineage",
        blocks=facts(
            [
                ("MLflow run", source.version.run_id),
                ("Study", made.get("study_run_id")),
                ("Code", made.get("code_commit")),
                ("Features", source.bundle.manifest.features),
                ("Bundle digest", source.bundle.digest),
                ("Versions", versions),
                ("Platform", made.get("platform")),
            ]
        ),
    )


def _parameters(network: Path) -> str | None:
    """Return how many weights a safetensors file holds: its header has the shape of each tensor."""
    if network.suffix != ".safetensors":
        return None
    with network.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(length)) if length < UNLIMITED else {}
    total = 0
    for name, each in header.items():
        if name != "__metadata__":
            size = 1
            for width in each["shape"]:
                size *= width
            total += size
    return f"{total:,}"


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _instant(micros: float) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")
