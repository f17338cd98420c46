"""A Study begins from earlier ones, which it finds by name, with what today's space has of their trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayline.config import Config, DataConfig, FeaturesConfig, Space, TuneConfig
from rayline.errors import NotFoundError
from rayline.registry.memory import MemoryStore
from rayline.registry.store import Point
from rayline.warm_start import find_study, remembered

SPACE = {
    "train.learning_rate": Space(low=0.001, high=0.1, log=True),
    "model.builder": Space(choose=("mlp", "residual_mlp")),
    "model.options.width": Space(low=8, high=64, integer=True, when={"model.builder": "residual_mlp"}),
}


def config_of(*names: str) -> Config:
    return Config(
        name="today",
        data=DataConfig(source="t.csv"),
        features=FeaturesConfig(target="y"),
        tune=TuneConfig(space=SPACE, warm_start=names),
    )


def study_in(store: MemoryStore, project: str, *trials: Any, status: Any = "FINISHED", data: str = "d") -> str:
    """Keep a Study with trials of (params, loss); a loss of None failed."""
    tags = {"rayline.kind": "study", "rayline.project": project, "rayline.data": data}
    parent = store.start_run(project, f"{project}-study", tags)
    for params, loss in trials:
        child = store.start_run(project, "trial", {"rayline.params": json.dumps(params)}, parent)
        store.log_metrics(child, [] if loss is None else [Point("best_valid_loss", loss, 0, 1)])
        store.finish_run(child, "FAILED" if loss is None else "FINISHED")
    if status != "RUNNING":
        store.finish_run(parent, status)
    return parent


GOOD = {"train.learning_rate": 0.01, "model.builder": "mlp"}


def test_trials_are_taken_with_what_todays_space_has_of_them(tmp_path: Path) -> None:
    store = MemoryStore()
    odd = {"train.learning_rate": 0.9, "model.builder": "mlp", "model.options.width": 16, "train.momentum": 0.5}
    parent = study_in(
        store, "bike", (GOOD, 0.5), (odd, 0.4), (GOOD, None), ({"train.momentum": 0.1}, 0.3), data="other"
    )
    trials, notices = remembered(store, config_of("bike"), SPACE, "d", tmp_path)
    assert [(trial.params, trial.metrics) for trial in trials] == [
        (GOOD, {"valid_loss": 0.5}),
        ({"model.builder": "mlp"}, {"valid_loss": 0.4}),  # the width needs another builder
    ]
    assert notices[0].split("; ") == [
        f"warm start from Study 'bike' (run {parent}): 2 trials",
        "train.momentum not searched now and left out",
        "1 values of train.learning_rate lie outside what is searched now",
        "its rows were others",
    ]


def test_a_resumed_study_begins_from_the_same_trials(tmp_path: Path) -> None:
    store = MemoryStore()
    study_in(store, "bike", (GOOD, 0.5))
    first = remembered(store, config_of("bike"), SPACE, "d", tmp_path)
    study_in(store, "bike", (GOOD, 0.1), (GOOD, 0.2))
    assert remembered(store, config_of("bike"), SPACE, "d", tmp_path) == first
    later, _ = remembered(store, config_of("bike"), SPACE, "d", tmp_path / "new")
    assert [trial.metrics["valid_loss"] for trial in later] == [0.1, 0.2]
    several, notices = remembered(store, config_of("bike", "bike-study"), SPACE, "d", tmp_path)
    assert (len(several), len(notices)) == (4, 2)


def test_a_study_is_found_by_every_name_that_it_has() -> None:
    store = MemoryStore()
    old = study_in(store, "bike", (GOOD, 0.5))
    new = study_in(store, "bike", (GOOD, 0.4))
    study_in(store, "bike", (GOOD, 0.3), status="RUNNING")
    study_in(store, "bike", (GOOD, 0.2), status="FAILED")
    store.start_run("bike", "bike-train", {"rayline.project": "bike"})
    for name in ("bike", "bike-study", "bike/bike", "bike/bike-study", new):
        assert find_study(store, name, "elsewhere").run_id == new
    assert find_study(store, old, "bike").run_id == old


def test_an_unknown_study_is_told_the_nearest(tmp_path: Path) -> None:
    store = MemoryStore()
    study_in(store, "bike", (GOOD, 0.5))
    with pytest.raises(NotFoundError, match=r"names 'biek', and MLflow has no finished Study.*Did you mean 'bike'"):
        remembered(store, config_of("biek"), SPACE, "d", tmp_path)
    with pytest.raises(NotFoundError, match="There is none yet"):
        find_study(MemoryStore(), "bike", "bike")
    assert remembered(store, config_of(), SPACE, "d", tmp_path) == ((), ())


def test_a_study_that_says_less_is_read_by_its_parameters(tmp_path: Path) -> None:
    store = MemoryStore()
    parent = store.start_run("old", "old-study", {"rayline.kind": "study", "rayline.project": "old"})
    child = store.start_run("old", "trial", {}, parent)
    store.log_params(child, {"train.learning_rate": "0.02", "model.builder": "mlp", "train.seed": "0"})
    store.log_metrics(child, [Point("best_valid_loss", 0.5, 0, 1)])
    store.finish_run(child)
    store.finish_run(parent)
    trials, _ = remembered(store, config_of("old"), SPACE, "d", tmp_path)
    assert [trial.params for trial in trials] == [{"train.learning_rate": 0.02, "model.builder": "mlp"}]
