"""The model card: nothing in it is empty, no name becomes markup, and it tells what the data did not cover."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rayline.card.html import html
from rayline.card.limits import limits, stability
from rayline.card.markdown import markdown
from rayline.card.sections import page
from rayline.card.source import CardSource
from rayline.card.writing import ARTIFACTS, HTML, MARKDOWN, fetch_card, keep_card, write_card
from rayline.config import Config, parse
from rayline.errors import NotFoundError
from rayline.evaluation.gates import Judged, Judgement
from rayline.registry.memory import MemoryStore
from rayline.registry.store import Version
from registry_examples import make_bundle, mixed_table

EVIL = "<script>alert('x')</script> | **bold** `code`"
REFUSED = Judgement(
    1,
    "abc",
    (
        Judged("rmse", "", "passed", "61 <= champion v1 60 + 5 %", 500),
        Judged("rmse", f"town={EVIL}", "failed", "80 > champion v1 60 + 5 %", 90, stops=True),
        Judged("rmse", "town=x", "inconclusive", "has too few rows to decide: 50 are needed", 7, 50),
    ),
    (
        Judged(
            "direction of size", "", "passed", "the answer is higher where size +1: in 99.0% >= 95.0%", 500, test=True
        ),
    ),
)
MEASURED: dict[str, Any] = {
    "rows": 500,
    "confidence": 0.95,
    "scores": {"rmse": {"value": 61.0, "low": 58.0, "high": 64.0}, "r2": {"value": 0.5, "low": None, "high": None}},
    "slices": [
        {
            "name": f"town = {EVIL}",
            "rows": 90,
            "scores": {"rmse": {"value": 80.0, "low": 70, "high": 90}},
            "found": None,
        },
        {
            "name": f"town = {EVIL}",
            "rows": 90,
            "scores": {"rmse": {"value": 80.0, "low": 70, "high": 90}},
            "found": {"loss": 2.0},
        },
    ],
    "calibration": {"error": 1.5, "largest": 4.0},
    "threshold": None,
    "infrastructure": None,
}


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def settings(**sections: Any) -> Config:
    return parse({"name": "model", "data": {"source": "x.csv"}, "features": {"target": "target"}, **sections})


def source(folder: Path, **given: Any) -> CardSource:
    values: dict[str, Any] = {
        "config": settings(),
        "bundle": make_bundle(folder, mixed_table()),
        "version": Version("model", 2, "run-1", "models:/model/2", (), {}, 1_700_000_000.0),
        "training": {"epochs": 9, "best_epoch": 7, "seconds": 12.34},
        "evaluation": MEASURED,
        "judgement": REFUSED,
        "test": mixed_table(),
        "plots": {"loss_curve": png()},
    }
    return CardSource(**{**values, **given})


class Seen(HTMLParser):
    """Collects tags and whether each that was opened is closed."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Seen:
    seen = Seen()
    seen.feed(text)
    assert seen.open == []
    return seen


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    made = page(source(tmp_path, config=settings(card={"owner": EVIL, "caveats": [EVIL]})))
    seen = read(html(made))
    assert "script" not in seen.tags
    assert "<script>alert('x')</script>" in seen.text
    text = markdown(made)
    assert "<script>" not in re.sub(r"\\<script\\>", "", text)
    assert "**bold**" not in text
    rows = [line for line in text.splitlines() if line.startswith("| town = ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [5], (
        "one row, however often it is listed, of four cells"
    )
    assert "worse than the rest" in rows[0]


def test_the_sections_are_those_of_mitchell_and_none_is_empty(tmp_path: Path) -> None:
    lineage = {"source": "x.csv", "rows": {"train": 90, "test": 30}, "parts": {"test": {"rows": 30, "digest": "d"}}}
    made = page(source(tmp_path, bundle=make_bundle(tmp_path / "whole", mixed_table(), lineage=lineage)))
    headings = [each.title for each in made.parts if each.level == 2]
    assert (
        headings
        == [
            "Model details",
            "Intended use",
            "Factors",
            "Metrics",
            "Evaluation data",
            "Training data",
            "Quantitative analyses",
            "Caveats and recommendations",
            "Lineage",
        ][: len(headings)]
        or "Evaluation data" not in headings
    )
    for place, each in enumerate(made.parts):
        below = place + 1 < len(made.parts) and made.parts[place + 1].level > each.level
        assert each.blocks or below, f"'{each.title}' is empty"


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    bare = page(source(tmp_path, evaluation={}, judgement=Judgement(None, None, ()), plots={}, training={}))
    titles = {each.title for each in bare.parts}
    assert not titles & {"Metrics", "By slice", "Calibration", "Plots", "Threshold", "Behavioural tests", "Serving"}
    assert "None" not in read(html(bare)).text
    assert "nan" not in markdown(bare)


def test_a_refused_version_says_so_first_with_the_inequality(tmp_path: Path) -> None:
    made = page(source(tmp_path))
    assert made.lead[0].text == "not blessed"
    assert made.alerts == (f"rmse of version 2 on town={EVIL} (n = 90) 80 > champion v1 60 + 5 %",)
    assert "rmse 61 [58, 64]" in {each.text for each in made.lead}


def test_it_tells_how_to_call_the_model(tmp_path: Path) -> None:
    text = read(html(page(source(tmp_path)))).text
    assert "curl http://127.0.0.1:8000/model/predict" in text
    assert '"town": ' in text


def test_the_html_holds_its_plots_and_the_markdown_has_them_beside_it(tmp_path: Path) -> None:
    folder = write_card(source(tmp_path), tmp_path / "card")
    assert (folder / "loss_curve.png").read_bytes() == png()
    assert "](loss_curve.png)" in (folder / MARKDOWN).read_text()
    text = (folder / HTML).read_text()
    assert base64.b64encode(png()).decode() in text
    assert not re.search(r'(src|href)="(?!data:|#)', text), "nothing is fetched from elsewhere"


def test_it_is_kept_with_the_run_of_its_version_and_comes_back(tmp_path: Path) -> None:
    store = MemoryStore()
    run = store.start_run("x", "x", {})
    store.log_files(run, write_card(source(tmp_path), tmp_path / "plots"), "plots")
    version = store.register(make_bundle(tmp_path, mixed_table(), seed=1), run)
    with pytest.raises(NotFoundError, match="has no model card"):
        fetch_card(store, version, tmp_path)
    keep_card(store, source(tmp_path / "again", version=version, plots={}))
    found = fetch_card(store, store.version("model", "1"), tmp_path / "fetched")
    assert (found.name, (found / HTML).is_file()) == (ARTIFACTS, True)
    assert (found / "loss_curve.png").read_bytes() == png(), "the plots of the run"


def test_limits_tell_what_the_data_did_not_cover(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, mixed_table())
    chance = np.random.default_rng(0)
    reference = {
        "rows": 10_000,
        "target": {},
        "columns": {
            "town": {"kind": "categorical", "missing": 0.0, "levels": {"Bern": 0.999, "x y": 0.001}, "other": 0.0},
            "size": {
                "kind": "numeric",
                "missing": 0.4,
                "min": -2.0,
                "max": 2.0,
                "edges": [-0.67, 0.0, 0.67],
                "shares": [0.25, 0.25, 0.25, 0.25],
            },
        },
    }
    moved = pa.table({"size": chance.normal(1.0, 1.0, 2_000), "town": ["Bern"] * 2_000})
    told = limits(bundle.features.schema, reference, moved, REFUSED)
    assert [each.split(":")[0] for each in told] == ["town", "size", "size", "size", "town=x"]
    assert "x y (10 rows)" in told[0]
    assert "missing in 40%" in told[1]
    assert "population stability index" in told[2]
    assert "outside of the range" in told[3]
    assert told[4] == "town=x: 7 rows of the test part decide nothing about its rmse."


def test_a_column_that_is_spread_alike_is_stable() -> None:
    chance = np.random.default_rng(1)
    column = {"kind": "numeric", "edges": [-0.6745, 0.0, 0.6745], "shares": [0.25] * 4}
    index = stability(column, pa.chunked_array([chance.normal(size=3_000)]), 10_000)
    assert index is not None
    assert abs(index) < 0.01
    levels = {"kind": "categorical", "levels": {"1": 0.7, "2": 0.2}, "other": 0.0, "missing": 0.1}
    same = stability(levels, pa.chunked_array([[1] * 700 + [2] * 200 + [None] * 100]), 1_000)
    assert same is not None
    assert abs(same) < 0.01


def test_what_a_study_found_is_what_the_card_says_it_was_trained_with(tmp_path: Path) -> None:
    found = {"trials": 12, "best": 2, "params": {"train.learning_rate": 0.004, "train.batch_size": 256}}
    text = markdown(page(source(tmp_path, training=found)))
    assert "learning rate 0.004" in text
    assert "**Batch size**: 256" in text


def test_the_parts_of_a_date_are_told_in_words(tmp_path: Path) -> None:
    table = mixed_table()
    days = np.datetime64("2024-01-01") + np.arange(table.num_rows)
    dated = make_bundle(tmp_path, table.append_column("day", pa.array(days)))
    text = markdown(page(source(tmp_path / "other", bundle=dated)))
    assert re.search(r"\| day \| datetime \| [a-z, ]*weekday[a-z, ]* \|", text), text.split("Features")[1][:900]
