"""A service with its rollout, driven by hand: no threads, no time but what a test lets go by."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayline.rollout.engine import Engine, Order
from rayline.rollout.plan import Plan
from rayline.rollout.state import RolloutState
from rayline.rollout.storage import RolloutFiles
from rayline.serving.observation import ArmStats
from rayline.serving.plan import TrafficPlan
from rollout_doubles import SERVICE, Cell, Hook, live_version, ports, quiet, serve


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return Unix time."""
        return self.now


ids = (f"order-{number:05d}" for number in itertools.count())


class World:
    """One service with its controller, driven by hand: what ``Engine`` sees, without threads or time."""

    def __init__(
        self, folder: Path, *, before: Hook = quiet, after: Hook = quiet, files: RolloutFiles | None = None
    ) -> None:
        self.cell = Cell()
        self.clock = Clock()
        self.folder = folder
        self.files = files or RolloutFiles(folder, SERVICE)
        self.ports = ports(self.cell, before=before, after=after)
        self.engine = self.restarted()

    def restarted(self) -> Engine:
        """Forget the engine, and let another one read back what is on disk."""
        self.engine = Engine(self.files, self.ports, self.clock)
        return self.engine

    def start(self, number: int, plan: Plan) -> RolloutState:
        """Begin a rollout."""
        return self.engine.start(Order(next(ids), plan, live_version(number), None, "exp"))

    def undo(self) -> RolloutState:
        """Begin to return to what was stable before."""
        return self.engine.start(Order(next(ids), None, None, None, "exp"))

    def ask(self, verb: Callable[..., RolloutState], **details: Any) -> RolloutState:
        """Apply a verb."""
        return self.engine.ask(next(ids), lambda state, now: verb(state, now, **details))

    def run(self, seconds: float, traffic: Mapping[int, ArmStats] | None = None, *, rounds: int = 1) -> RolloutState:
        """Let time go by in ``rounds``; each brings ``traffic``, and all that can be done at once is done."""
        for _ in range(rounds):
            self.clock.now += seconds
            for number, more in (traffic or {}).items():
                serve(self.cell, number, more)
            self.settle()
        return self.state

    def settle(self) -> None:
        """Do all that can be done without time going by."""
        for _ in range(200):
            if not (self.engine.tick() or self.engine.deliver()):
                return
        raise AssertionError("the engine does not come to rest")

    @property
    def state(self) -> RolloutState:
        """The current rollout."""
        assert self.engine.state is not None
        return self.engine.state

    @property
    def weights(self) -> dict[int, int]:
        """The traffic in force, without zeros."""
        plan = TrafficPlan.from_json(self.cell.read()["plan"])
        return {number: weight for number, weight in plan.weights.items() if weight}

    @property
    def live(self) -> tuple[int, ...]:
        """The live versions."""
        return TrafficPlan.from_json(self.cell.read()["plan"]).numbers

    def calls(self) -> list[Any]:
        """What the service was asked to change: name and details."""
        return [call[:2] for call in self.cell.read()["calls"]]

    def set(self, **facts: Any) -> None:
        """Change the outside world: ``service_down="why"``, ``store_down=True``, ``broken={"load": "why"}``."""
        with self.cell.changed() as world:
            world.update(facts)


class MemoryFiles(RolloutFiles):
    """The files of a service's rollouts without a disk: what is written becomes JSON all the same."""

    def __init__(self, *, before: Hook = quiet, after: Hook = quiet) -> None:
        super().__init__("nowhere", SERVICE)
        self._before = before
        self._after = after
        self._text: str | None = None
        self._archived: dict[str, str] = {}

    def read(self) -> RolloutState | None:
        """Return the current rollout."""
        return None if self._text is None else RolloutState.from_json(json.loads(self._text))

    def write(self, state: RolloutState) -> None:
        """Make a rollout the current one."""
        self._before("persist")
        self._text = json.dumps(state.to_json())
        self._after("persist")

    def archive(self, state: RolloutState) -> None:
        """Keep an earlier one."""
        self._archived[state.id] = json.dumps(state.to_json())

    def history(self) -> tuple[RolloutState, ...]:
        """Return all, the latest first."""
        texts = dict(sorted(self._archived.items(), reverse=True))
        current = self.read()
        if current is not None:
            texts = {current.id: json.dumps(current.to_json()), **texts}
        return tuple(RolloutState.from_json(json.loads(text)) for text in texts.values())
