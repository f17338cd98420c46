"""What every store of rollouts must do: the conformance suite of the SQLite file and of the objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rayline.config import parse
from rayline.errors import StaleController
from rayline.rollout.plans.plan import Plan, SetWeight
from rayline.rollout.policy.moves import begin
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.files import RolloutStore
from rollout_doubles import SERVICE, good, live_version
from rollout_world import World

Open = Callable[[], RolloutStore]
LOOK: Mapping[str, Any] = {"interval": 1, "count": 2, "metrics": [{"measure": "error_rate", "max": 0.1}]}
FINE = {1: good(200), 2: good(100)}


def rollout(number: int = 2, message: str = "") -> RolloutState:
    state = begin(
        id=f"r{number}",
        kind="rollout",
        plan=Plan("canary", (SetWeight(10), SetWeight(100))),
        service=SERVICE,
        stable=live_version(1),
        canary=live_version(number),
        now=10.0,
        experiment="exp",
        tracking_uri=None,
    )
    return replace(state, message=message) if message else state


def canary() -> Plan:
    raw = {"name": "x", "data": {"source": "x"}, "features": {"target": "x"}}
    section = parse({**raw, "rollout": {"strategy": "canary", "analysis": LOOK}})
    return Plan.from_config(section.rollout, "binary")


class RolloutFilesSuite:
    """Subclasses give the fixture ``opened``: each call is another handle, as of another process."""

    def test_what_is_written_comes_back_and_earlier_rollouts_stay_as_they_were(self, opened: Open) -> None:
        files = opened()
        assert (files.read(), files.history(), files.known("r2"), files.clock()) == (None, (), None, 0.0)
        for state in (rollout(2), rollout(2, "on its way"), rollout(3), rollout(3, "more"), rollout(4)):
            files.write(state, at=12.5)
            assert files.read() == state
        for reader in (files, opened()):
            assert [(each.id, each.message) for each in reader.history()] == [
                ("r4", rollout(4).message),
                ("r3", "more"),
                ("r2", "on its way"),
            ]
            assert reader.known("r3") == rollout(3, "more")
            assert reader.known("r9") is None
            assert reader.clock() == 12.5

    def test_a_controller_that_was_replaced_can_neither_write_nor_beat_nor_tell(self, opened: Open) -> None:
        old, new = opened(), opened()
        first = old.claim()
        old.write(rollout(2))
        assert new.claim() == first + 1
        new.write(rollout(2, "by the new one"))
        signs = new.signs()
        for work in (lambda: old.write(rollout(3, "by the old one")), lambda: old.beat("x"), old.check):
            with pytest.raises(StaleController, match=rf"taken over the rollouts of '{SERVICE}': .*number {first + 1}"):
                work()
        new.check()
        state = new.read()
        assert state is not None
        assert (state.message, new.signs(), new.glance()) == ("by the new one", signs, "")
        assert [each.id for each in opened().history()] == ["r2"]

    def test_a_writer_that_was_replaced_before_it_knew_changes_nothing(self, opened: Open) -> None:
        old, new = opened(), opened()
        old.claim()
        new.claim()
        with pytest.raises(StaleController):
            old.write(rollout(2, "blind"))
        assert opened().read() is None

    def test_of_many_who_claim_at_once_each_has_a_number_of_its_own_and_the_last_one_writes(self, opened: Open) -> None:
        handles = [opened() for _ in range(6)]
        ready, numbers = threading.Barrier(len(handles)), list[int]()

        def come(files: RolloutStore) -> None:
            ready.wait()
            numbers.append(files.claim())

        threads = [threading.Thread(target=come, args=(each,)) for each in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(numbers)) == len(handles)
        written = 0
        for files in handles:
            try:
                files.write(rollout(2, f"by {files.fence}"))
                written += 1
            except StaleController:
                continue
        state = opened().read()
        assert state is not None
        assert (written, state.message) == (1, f"by {max(numbers)}")

    def test_signs_change_with_a_write_and_with_a_beat(self, opened: Open) -> None:
        files = opened()
        assert opened().signs() == (0, 0)
        files.write(rollout(2))
        before = opened().signs()
        files.write(rollout(2))
        moved = opened().signs()
        assert (moved[0] > before[0], moved[1]) == (True, before[1])
        files.beat("seen")
        assert opened().signs()[1] > moved[1]
        assert opened().glance() == "seen"

    def test_a_handle_that_was_closed_claims_again(self, opened: Open) -> None:
        files = opened()
        first = files.claim()
        files.close()
        assert files.fence is None
        files.write(rollout(2))
        assert files.fence == first + 1

    @pytest.mark.parametrize("every", [1, 3])
    def test_a_rollout_ends_as_it_should_with_a_new_controller_every_few_actions(
        self, opened: Open, tmp_path: Path, every: int
    ) -> None:
        world = World(tmp_path, files=opened())
        world.start(2, canary())
        for number in range(400):
            if not (world.engine.tick() or world.engine.deliver() or world.engine.notify()):
                if world.state.settled:
                    break
                world.run(1, FINE)
            if number % every == 0:
                old = world.replaced()
                with pytest.raises(StaleController):
                    old._files.check()
        assert (world.state.phase, world.weights) == ("Healthy", {2: 100})
        assert [each.phase for each in opened().history()] == ["Healthy"]
