"""A rollout as it is followed from outside: what its files say, and nothing missed or made up in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayline.config import AnalysisConfig, MetricCondition
from rayline.errors import NotFoundError, ServiceError
from rayline.rollout import commands
from rayline.rollout.plans.plan import Analyse, Plan, SetWeight
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.storage import RolloutFiles
from rollout_doubles import SERVICE, good
from rollout_world import World

LOOK = Analyse(
    AnalysisConfig(
        metrics=(MetricCondition(measure="error_rate", max=0.05, minimum_samples=20),), interval=5.0, count=2
    )
)
CANARY = Plan("canary", (SetWeight(10), LOOK, SetWeight(50), LOOK, SetWeight(100)))
FINE = {1: good(270), 2: good(30)}


def started(world: World) -> World:
    world.start(2, CANARY)
    world.settle()
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_status_and_watch_read_the_files_alone(world: World) -> None:
    with pytest.raises(NotFoundError, match="service 'bikes' was never deployed here"):
        commands.status(SERVICE, storage=world.folder / "elsewhere")
    with pytest.raises(NotFoundError, match="service 'bikes' has no rollout"):
        commands.status(SERVICE, storage=world.folder)
    assert commands.last(SERVICE, storage=world.folder) is None
    started(world).run(5, FINE, rounds=4)
    assert commands.status(SERVICE, storage=world.folder).phase == "Healthy"
    assert [state.phase for state in commands.watch(SERVICE, storage=world.folder)] == ["Healthy"]
    assert commands.wait(SERVICE, storage=world.folder).seconds == 20.0
    with pytest.raises(NotFoundError, match="Did you mean 'bikes'"):
        commands.status("bike", storage=world.folder)


def test_a_change_while_the_state_is_read_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started(world)
    stale = commands.status(SERVICE, storage=world.folder)
    readings: list[RolloutState] = []

    def overtaken(name: str, *, storage: str | Path) -> RolloutState:
        """The controller writes its last word right after the first reading."""
        if not readings:
            readings.append(stale)
            world.run(5, FINE, rounds=4)
            return stale
        readings.append(RolloutFiles(storage, name).read() or stale)
        return readings[-1]

    monkeypatch.setattr(commands, "status", overtaken)
    assert commands.wait(SERVICE, storage=world.folder, timeout=10.0).phase == "Healthy"


def test_what_the_signs_do_not_show_is_read_before_the_controller_is_called_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(world)
    monkeypatch.setattr(commands, "SILENT_S", 0.0)
    monkeypatch.setattr(RolloutFiles, "signs", lambda files: (0, 0))
    seen = commands.watch(SERVICE, storage=world.folder)
    assert next(seen).phase == "Progressing"
    world.run(5, FINE, rounds=4)
    assert [state.phase for state in seen] == ["Healthy"]


def test_a_silent_controller_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started(world)
    monkeypatch.setattr(commands, "SILENT_S", 0.0)
    with pytest.raises(ServiceError, match="no sign of life"):
        commands.wait(SERVICE, storage=world.folder)


def test_wait_gives_up_after_its_timeout(world: World) -> None:
    started(world)
    with pytest.raises(ServiceError, match="still going on after 0 s: Progressing, 10 %"):
        commands.wait(SERVICE, storage=world.folder, timeout=0.0)
