"""Training rows through a bundle's serving path, in a process of its own, against what they gave offline."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from broken_rows import DOES_NOT_START, OFF_BY_A_THOUSANDTH, UNKNOWN_TAKEN_FOR_MISSING, break_rows
from rayline.config import CategoricalConfig, ColumnKind, FeaturesConfig
from rayline.errors import CheckFailed, SkewFound
from rayline.features.feature_set import FeatureSet
from rayline.features.request_rows import request_rows
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet
from rayline.model import build_module
from rayline.registry.bundle import Bundle, write_bundle
from rayline.serving.versions.rehearsal import Rehearsed, outcomes
from rayline.skew import Skew, compared, skew_of
from registry_examples import USER_MODULE, fitted, make_bundle, mixed_table, model_config, parts, real_table, weights


def skew(bundle: Bundle, table: pa.Table) -> Skew:
    return skew_of(bundle.path, table, bundle.features.transform(table))


def declared(table: pa.Table, columns: dict[str, Any]) -> FittedFeatureSet:
    """Some columns of a table, fitted as they are declared."""
    config = FeaturesConfig(target="target", columns=columns)
    return FeatureSet.from_config(config, schema_for(config, table)).fit(table)


def bundle_of(features: FittedFeatureSet, table: pa.Table, folder: Path) -> Bundle:
    """A bundle of an untrained MLP with these features."""
    (folder / "checkpoint").mkdir()
    save_file(weights(features.width, 1), folder / "checkpoint" / "model.safetensors")
    example = request_rows(table.slice(0, 3), features.schema, features.input_columns)
    return write_bundle(folder / "bundle", **parts(features, table, folder / "checkpoint") | {"example": example})


@pytest.mark.parametrize("kind", ["mixed", "binary", "multiclass", "regression"])
def test_a_sound_bundle_serves_what_it_was_trained_on(kind: str, tmp_path: Path) -> None:
    table = mixed_table() if kind == "mixed" else real_table(kind)

    found = skew(make_bundle(tmp_path, table), table)

    found.refuse()
    assert found == Skew(table.num_rows, 0.0)


def test_whatever_types_a_source_has_are_served_alike(tmp_path: Path) -> None:
    rows = 300
    moments = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=4711.25 * step) for step in range(rows)]
    columns: dict[str, tuple[ColumnKind, pa.Array]] = {
        "narrow": ("numeric", pa.array([step % 97 / 10 for step in range(rows)], pa.float32())),
        "price": ("numeric", pa.array([Decimal(step % 31) / 4 for step in range(rows)], pa.decimal128(9, 2))),
        "nan": ("numeric", pa.array([float("nan") if step % 3 == 0 else step / 7 for step in range(rows)])),
        "large": ("numeric", pa.array([2**53 + step for step in range(rows)], pa.uint64())),
        "grade": ("categorical", pa.array([None if step % 7 == 0 else step % 5 / 10 for step in range(rows)])),
        "narrow_grade": ("categorical", pa.array([step % 5 / 10 for step in range(rows)], pa.float32())),
        "town": ("categorical", pa.array([("a", "b", None)[step % 3] for step in range(rows)]).dictionary_encode()),
        "date": ("categorical", pa.array([dt.date(2024, 1, 1 + step % 9) for step in range(rows)], pa.date32())),
        "day": ("datetime", pa.array([moment.date() for moment in moments], pa.date32())),
        "zoned": ("datetime", pa.array(moments, pa.timestamp("ns", "Europe/Zurich"))),
        "seconds": ("datetime", pa.array([moment.replace(tzinfo=None) for moment in moments], pa.timestamp("ms"))),
        "flag": ("boolean", pa.array([None if step % 11 == 0 else step % 2 for step in range(rows)], pa.int8())),
    }
    table = pa.table({name: array for name, (_, array) in columns.items()} | {"target": pa.array(range(rows))})
    features = declared(table, {name: kind for name, (kind, _) in columns.items()})

    found = skew(bundle_of(features, table, tmp_path), table)

    assert found == Skew(rows, 0.0)


def test_a_users_network_is_tested_without_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gated_model.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    table = real_table("multiclass")
    features, model = fitted(table), model_config(builder="gated_model:build", options={"width": 12})
    (tmp_path / "checkpoint").mkdir()
    save_torch(build_module(model, features.layout, 3).state_dict(), tmp_path / "checkpoint" / "model.safetensors")
    bundle = write_bundle(tmp_path / "bundle", **parts(features, table, tmp_path / "checkpoint") | {"model": model})

    found = skew(bundle, table)

    found.refuse()
    assert found.largest < 1e-6


def test_a_row_path_that_is_off_by_a_thousandth_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path, mixed_table())
    break_rows(monkeypatch, tmp_path / "broken", OFF_BY_A_THOUSANDTH)

    found = skew(bundle, mixed_table())

    expected = bundle.features.transform(mixed_table())[0, 0]
    with pytest.raises(SkewFound) as refused:
        found.refuse()
    message = str(refused.value)
    assert f"row 0, column 'size': serving gives {expected + np.float32(1e-3):.9g} and offline gave {expected:.9g}" in (
        message
    )
    assert "where size = -9.0. They may differ by 1e-06. 120 of 120 training rows differ, in size." in message
    assert found.largest == pytest.approx(1e-3, rel=1e-3)
    assert issubclass(SkewFound, CheckFailed)
    assert SkewFound.exit_code == 1


def test_an_unknown_level_that_is_taken_for_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = mixed_table()
    features = declared(table, {"size": "numeric", "town": CategoricalConfig(max_levels=2)})
    bundle = bundle_of(features, table, tmp_path)
    break_rows(monkeypatch, tmp_path / "broken", UNKNOWN_TAKEN_FOR_MISSING)
    rare = set(table.column("town").to_pylist()) - {None, *features.columns[1].to_json()["levels"]}
    row = next(index for index, town in enumerate(table.column("town").to_pylist()) if town in rare)

    message = skew(bundle, table).message

    assert f"row {row}, column 'town' (feature 'town=<unknown>'): serving gives 0 and offline gave 1" in message
    assert f"where town = {rare.pop()!r}" in message
    assert "training rows differ, in town." in message


def test_a_bundle_that_needs_more_than_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path, mixed_table())
    break_rows(monkeypatch, tmp_path / "broken", DOES_NOT_START)

    message = skew(bundle, mixed_table()).message

    assert "does not serve its own training rows" in message
    assert "ended with ModuleNotFoundError" in message


def test_a_training_row_that_the_service_refuses_is_named(tmp_path: Path) -> None:
    bundle, table = make_bundle(tmp_path, mixed_table()), mixed_table()
    sizes = pa.array([[1.0] if row == 3 else [2.0] for row in range(table.num_rows)])
    offline = bundle.features.transform(table)

    message = skew_of(bundle.path, table.set_column(0, "size", sizes), offline).message

    assert "row 0, column 'size': [2.0] is not a finite number" in message


def test_of_very_wide_rows_only_the_first_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path, mixed_table())
    monkeypatch.setattr("rayline.skew.MOST_NUMBERS", bundle.features.width * 7 + 1)

    assert skew(bundle, mixed_table()) == Skew(7, 0.0)


def rehearsed(bundle: Bundle, table: pa.Table) -> tuple[list[dict[str, Any]], np.ndarray, Rehearsed]:
    offline = bundle.features.transform(table)
    rows = request_rows(table, bundle.features.schema, bundle.features.input_columns)
    return rows, offline, Rehearsed(offline.copy(), outcomes(bundle.predictor().predict_matrix(offline)))


@pytest.mark.parametrize(("difference", "allowed"), [(5e-7, True), (5e-6, False), (float("nan"), False)])
def test_a_feature_may_differ_by_a_millionth(difference: float, allowed: bool, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, mixed_table())
    rows, offline, served = rehearsed(bundle, mixed_table())
    place = int(np.flatnonzero(np.abs(offline[7]) < 0.5)[0])
    served.features[7, place] += difference

    message = compared(bundle, rows, offline, served).message

    assert (message == "") is allowed
    assert allowed or f"row 7, column '{bundle.features.columns[place].name}'" in message


@pytest.mark.parametrize("kind", ["mixed", "multiclass"])
def test_a_network_that_answers_otherwise_is_named(kind: str, tmp_path: Path) -> None:
    table = mixed_table() if kind == "mixed" else real_table(kind)
    bundle = make_bundle(tmp_path, table)
    rows, offline, served = rehearsed(bundle, table)
    answers = served.outcomes.copy()
    answers[4, -1] += 2e-5 * (bundle.features.target_std if kind == "mixed" else 1)

    found = compared(bundle, rows, offline, replace(served, outcomes=answers))

    what = "'target'" if kind == "mixed" else "probability of 'virginica'"
    assert f"predictions differ, though the features agree: row 4, {what}" in found.message
    assert found.largest == pytest.approx(2e-5, rel=1e-3)


def test_request_rows_are_json_as_people_write_it() -> None:
    table = pa.table(
        {
            "at": pa.array([dt.datetime(2024, 1, 1, 12)], pa.timestamp("ns")),
            "grade": pa.array([0.1], pa.float32()),
            "gap": pa.array([float("nan")]),
        }
    )
    config = FeaturesConfig(
        target="y", columns={"at": "datetime", "grade": "categorical", "gap": "numeric"}, task="regression"
    )
    schema = schema_for(config, pa.concat_tables([table] * 2).append_column("y", pa.array([1, 2])))

    rows = request_rows(table, schema, ("at", "grade", "gap"))

    assert json.loads(json.dumps(rows)) == [{"at": "2024-01-01T12:00:00", "grade": 0.1, "gap": None}]
