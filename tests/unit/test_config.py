"""One YAML file becomes one typed, frozen configuration; whatever is wrong is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rayline import config
from rayline.config import Config
from rayline.errors import ConfigError, NotFoundError

MINIMAL: dict[str, Any] = {"name": "bikes", "data": {"source": "b.csv"}, "features": {"target": "cnt"}}


def written(folder: Path, values: dict[str, Any]) -> Path:
    file = folder / "rayline.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_only_name_source_and_target_are_needed(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, MINIMAL))
    assert loaded.name == "bikes"
    assert loaded.train.epochs > 0
    assert loaded.tune is None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, MINIMAL))
    assert loaded.data.source == str(tmp_path / "b.csv")
    assert loaded.storage == str(tmp_path / ".rayline")


@pytest.mark.parametrize("source", ["sklearn:digits", "s3://bucket/a.parquet", "/data/a.csv"])
def test_absolute_sources_and_uris_stay(tmp_path: Path, source: str) -> None:
    loaded = config.load(written(tmp_path, {**MINIMAL, "data": {"source": source}}))
    assert loaded.data.source == source


@pytest.mark.parametrize(
    ("uri", "anchored"),
    [
        ("sqlite:///x.db", "sqlite:///{folder}/x.db"),
        ("sqlite:///deep/x.db?timeout=3", "sqlite:///{folder}/deep/x.db?timeout=3"),
        ("mlruns", "{folder}/mlruns"),
        ("sqlite:////data/x.db", "sqlite:////data/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql://user:pass@host/db", "postgresql://user:pass@host/db"),
    ],
)
def test_a_tracking_database_is_beside_the_file(tmp_path: Path, uri: str, anchored: str) -> None:
    loaded = config.load(written(tmp_path, {**MINIMAL, "registry": {"tracking_uri": uri}}))
    assert loaded.registry.tracking_uri == anchored.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=5", "unknown configuration key 'train.epoch'. Did you mean 'epochs'?"),
        ("trian.epochs=5", "unknown configuration key 'trian'. Did you mean 'train'?"),
        ("rollout.steps=[{set_wieght: 3}]", "unknown configuration key 'rollout.steps[0].set_wieght'"),
        ("tune.space.train.learning_rate={low: 1, hihg: 2}", "'tune.space.train"),
        ("train.epochs=many", "configuration key 'train.epochs': expected `int`"),
        ("train.epochs=0", "configuration key 'train.epochs': expected `int` >= 1"),
        ("service.port=70000", "configuration key 'service.port'"),
        ("name=Big Name", "configuration key 'name'"),
        ("data.split={valid: 0.6, test: 0.5}", "leave nothing to train on"),
        ("data.split={by: time, key: id}", "'key' belongs to 'by: hash'"),
        ("rollout.steps=[{set_weight: 5, pause: 3}]", "exactly one of"),
        ("rollout.steps=[{analysis: false}]", "leave the step out"),
        ("tune.space={train.epochs: {low: 3}}", "both 'low' and 'high'"),
        ("tune.space={train.epochs: {low: 3, high: 2}}", "low (3.0) must be below high (2.0)"),
        ("tune.space={train.epochs: {low: 0, high: 2, log: true}}", "low above 0"),
        ("train.epochs=[1", "override 'train.epochs=[1': its value is not valid YAML"),
        ("name=2011-13-45", "configuration key 'name'"),
        ("features.columns={day: {kind: datetime, reference: soon}}", "reference needs an ISO 8601 date"),
        ("features.columns={day: {kind: datetime, reference: ''}}", "reference needs an ISO 8601 date"),
        ("features.columns={day: {kind: datetime, reference: 2011-13-01}}", "reference needs an ISO 8601 date"),
        ("epochs", "must read section.key=value"),
        ("name.deep=3", "not a section"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, MINIMAL), [override])
    assert message in str(caught.value)


def test_a_missing_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="rayline init"):
        config.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rayline.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=str(file)):
        config.load(file)


def test_a_configuration_cannot_be_changed() -> None:
    loaded = config.parse(MINIMAL)
    with pytest.raises(AttributeError):
        loaded.name = "other"  # type: ignore[misc]


rates = st.floats(min_value=1e-6, max_value=10, allow_nan=False)


@given(
    epochs=st.integers(1, 10_000),
    rate=rates,
    hidden=st.lists(st.integers(1, 4096), max_size=4),
    weights=st.lists(st.integers(0, 100), max_size=5),
)
def test_plain_values_and_back_are_the_same(epochs: int, rate: float, hidden: list[int], weights: list[int]) -> None:
    raw = {
        **MINIMAL,
        "train": {"epochs": epochs, "learning_rate": rate},
        "model": {"hidden": hidden},
        "rollout": {"steps": [{"set_weight": weight} for weight in weights]},
    }
    once = config.parse(raw)
    assert config.parse(config.plain(once)) == once
    assert json.loads(json.dumps(config.plain(once))) == config.plain(once)
    assert math.isclose(once.train.learning_rate, rate)


@given(rate=rates)
def test_a_trial_changes_only_its_own_keys(rate: float) -> None:
    base = config.parse(MINIMAL)
    trial = config.with_values(base, {"train.learning_rate": rate})
    assert trial.train.learning_rate == rate
    assert msgspec.structs.replace(trial, train=base.train) == base


def test_a_trial_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        config.with_values(config.parse(MINIMAL), {"train.learning_rat": 0.1})


def test_every_section_has_a_working_default() -> None:
    loaded: Config = config.parse(MINIMAL)
    assert loaded.rollout.strategy == "canary"
    assert loaded.service.host == "127.0.0.1"


@pytest.mark.parametrize("written_as", ["2011-01-01", "'2011-01-01'", "2011-01-01T10:00:00+02:00"])
def test_a_date_needs_no_quotes(tmp_path: Path, written_as: str) -> None:
    override = f"features.columns={{day: {{kind: datetime, reference: {written_as}}}}}"
    found = config.load(written(tmp_path, MINIMAL), [override]).features.columns["day"]
    assert found.reference == written_as.strip("'")


def test_on_is_a_key_of_a_hook_and_no_truth(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL)
    file.write_text(file.read_text() + "rollout: {hooks: [{on: [abort], webhook: 'http://127.0.0.1/x'}]}\n")
    assert config.load(file).rollout.hooks[0].on == ("abort",)


def test_a_service_that_is_as_it_was_written_down_has_not_changed() -> None:
    service = config.ServiceConfig(slices=("city",), capture=config.CaptureConfig(redact=("name",)))
    recorded = json.loads(json.dumps(config.plain(service)))
    assert config.changes(recorded, service, "service") == ()


def test_what_a_service_says_otherwise_is_told_by_its_own_key() -> None:
    recorded = json.loads(json.dumps(config.plain(config.ServiceConfig(slices=("city",)))))
    del recorded["drain"]  # written by an earlier version, which did not know it
    now = config.ServiceConfig(drain=3, threads=2, capture=config.CaptureConfig(sample=0.5))
    assert set(config.changes(recorded, now, "service")) == {
        'service.slices ["city"] -> []',
        "service.threads 1 -> 2",
        "service.capture.sample 1.0 -> 0.5",
    }
