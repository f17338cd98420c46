"""Gauges that a process shows: told again and again, ended when hidden, bounded, and never in the way."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from rayline import meters
from rayline.gauges import StudyProgress, TrainProgress
from rayline.training.spec import EpochReport


class Gauge:
    """What Ray's would be told."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tag_keys = name, tag_keys
        assert description

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        TOLD[(self.name, tuple(tags.values()))] = value


TOLD: dict[tuple[str, tuple[str, ...]], float] = {}


@pytest.fixture(autouse=True)
def sink(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own, with a cluster that hears."""
    TOLD.clear()
    for name in ("_shown", "_made"):
        monkeypatch.setattr(meters, name, {})
    monkeypatch.setattr(meters, "_thread", [object()])  # told by hand here
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ray.util.metrics", SimpleNamespace(Gauge=Gauge))


def test_a_value_is_told_until_it_is_hidden() -> None:
    meters.show("rayline_train_epoch", 3, project="churn")
    assert meters.tell() == 1
    TOLD.clear()
    assert meters.tell() == 1, "Ray forgets what is not told again"
    assert TOLD == {("rayline_train_epoch", ("churn",)): 3.0}
    meters.hide("rayline_train_epoch", 0.0, project="churn")
    assert meters.tell() == 0
    assert meters.shown() == {}


def test_what_is_hidden_lingers_so_that_a_scrape_sees_it() -> None:
    meters.show("rayline_train_rows_per_second", 10, project="churn")
    meters.show("rayline_train_rows_per_second", 20, project="fraud")
    meters.hide("rayline_train_rows_per_second", project="churn")
    assert meters.tell() == 2
    meters.hide("rayline_train_rows_per_second", 0.0, project="churn")
    assert meters.tell() == 1
    meters.show("rayline_train_rows_per_second", 30, project="churn")
    assert meters.tell() == 2, "shown again, it stays"


def test_a_typing_error_is_told_at_once() -> None:
    with pytest.raises(KeyError):
        meters.show("rayline_train_epoc", 1, project="churn")
    with pytest.raises(KeyError):
        meters.show("rayline_train_epoch", 1)


def test_the_number_of_series_is_bounded() -> None:
    for number in range(meters.MOST_SERIES + 50):
        meters.show("rayline_train_epoch", number, project=str(number))
    assert meters.tell() == meters.MOST_SERIES
    meters.show("rayline_train_epoch", -1, project="0")
    assert meters.shown()[("rayline_train_epoch", ("0",))] == -1, "one that is known goes on"


def test_without_a_cluster_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    meters.show("rayline_train_epoch", 1, project="churn")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    assert meters.tell() == 0
    monkeypatch.delitem(sys.modules, "ray")
    assert meters.tell() == 0
    assert TOLD == {}


def value(gauge: str, *labels: str) -> float:
    return meters.shown()[(gauge, labels)]


def test_a_training_shows_epoch_metrics_and_speed() -> None:
    progress, now = TrainProgress("churn", rows=1_000, epochs=5), time.time()
    assert value("rayline_train_epoch", "churn") == 0
    progress.epoch(EpochReport(1, {"train_loss": 0.5}, now - 0.4))
    progress.epoch(EpochReport(2, {"train_loss": 0.4}, now - 0.2))
    assert value("rayline_train_epoch", "churn") == 2
    assert value("rayline_train_metric", "churn", "train_loss") == 0.4
    assert value("rayline_train_rows_per_second", "churn") == pytest.approx(5_000)


def test_epochs_of_an_earlier_attempt_tell_no_speed() -> None:
    progress, now = TrainProgress("churn", rows=1_000, epochs=5), time.time()
    for number in (1, 2, 3):
        progress.epoch(EpochReport(number, {"train_loss": 0.5}, now - 1_000 + number))
    assert value("rayline_train_epoch", "churn") == 3
    progress.epoch(EpochReport(4, {"train_loss": 0.5}, now))
    assert ("rayline_train_rows_per_second", ("churn",)) not in meters.shown()


@pytest.mark.parametrize(("way", "best"), [("min", 0.2), ("max", 0.9)])
def test_a_study_shows_its_trials_and_the_best(way: str, best: float) -> None:
    progress = StudyProgress("churn", 4, {"valid_loss": way})
    progress.running([0, 1])
    for status, found in (("finished", 0.9), ("stopped", 0.2), ("failed", None)):
        metrics = {} if found is None else {"valid_loss": found}
        progress.trial(SimpleNamespace(status=status, metrics=metrics))
    progress.running([3])
    shown = {state: value("rayline_study_trials", "churn", state) for state in ("running", "finished", "failed")}
    assert shown == {"running": 1, "finished": 1, "failed": 1}
    assert value("rayline_study_best", "churn", "valid_loss") == best
    assert value("rayline_study_planned_trials", "churn") == 4
