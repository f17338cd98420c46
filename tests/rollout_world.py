"""A service with its rollout, driven by hand: no threads, no time but what a test lets go by."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayline.rollout.engine import Engine, Order
from rayline.rollout.plans.plan import Plan
from rayline.rollout.state import RolloutState
from rayline.rollout.steady import SteadyClock
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.records.observation import ArmStats
from rayline.serving.traffic.plan import TrafficPlan
from rollout_doubles import SERVICE, Cell, Hook, live_version, ports, quiet, serve


class Clock:
    """A clock that stands still until it is told.

    Attributes:
        now: what has really gone by.
        jumped: by how much somebody has set the wall clock forward or back.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.jumped = 0.0

    def __call__(self) -> float:
        """Return what has really gone by."""
        return self.now

    def steady(self) -> SteadyClock:
        """Return the clock of a process that starts now."""
        return SteadyClock(wall=lambda: self.now + self.jumped, monotonic=self)


ids = (f"order-{number:05d}" for number in itertools.count())


disks = itertools.count()


class World:
    """One service with its controller, driven by hand: what ``Engine`` sees, without threads or time."""

    def __init__(
        self, folder: Path, *, before: Hook = quiet, after: Hook = quiet, files: RolloutFiles | None = None
    ) -> None:
        self.cell = Cell()
        self.clock = Clock()
        self.folder = folder
        self.files = files or RolloutFiles(folder, SERVICE)
        self.zombies: list[Engine] = []
        self.ports = ports(self.cell, before=before, after=after)
        self.engine = self.restarted()

    def restarted(self) -> Engine:
        """Forget the engine, and let another one read back what is on disk."""
        self.files.close()
        self.engine = Engine(self.files, self.ports, self.clock.steady())
        return self.engine

    def replaced(self) -> Engine:
        """Let another engine take over while the old one, which is returned, does not know."""
        old, self.files = self.engine, self.files.another()
        self.zombies.append(old)
        self.engine = Engine(self.files, self.ports, self.clock.steady())
        return old

    def start(self, number: int, plan: Plan) -> RolloutState:
        """Begin a rollout."""
        return self.engine.start(Order(next(ids), "rollout", plan, live_version(number), None, "exp"))

    def undo(self, to: int | None = None) -> RolloutState:
        """Begin to return to what was stable before."""
        return self.engine.start(Order(next(ids), "undo", None, None, None, "exp", to=to))

    def retry(self) -> RolloutState:
        """Begin the last rollout anew."""
        return self.engine.start(Order(next(ids), "retry", None, None, None, "exp"))

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
            if not (self.engine.tick() or self.engine.deliver() or self.engine.notify()):
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
    """The real storage on a database in memory, which all handles of one disk share; it lasts as long as one is open.

    Args:
        before: hears that something is about to be written, and may raise.
        after: hears that it was.
        disk: of another handle; a new one where there is none.
    """

    def __init__(
        self, *, before: Hook = quiet, after: Hook = quiet, disk: tuple[str, sqlite3.Connection] | None = None
    ) -> None:
        super().__init__("nowhere", SERVICE)
        self._before = before
        self._after = after
        if disk is None:
            name = f"file:rollout-{next(disks)}?mode=memory&cache=shared"
            disk = (name, sqlite3.connect(name, uri=True, check_same_thread=False))
        self._disk = disk

    def another(self) -> MemoryFiles:
        """Return another handle to the same disk."""
        return MemoryFiles(before=self._before, after=self._after, disk=self._disk)

    def gone(self) -> None:
        """Let go of the disk and all that is on it."""
        self.close()
        self._disk[1].close()

    def write(self, state: RolloutState, at: float = 0.0) -> None:
        """Make a rollout the current one."""
        self._before("persist")
        super().write(state, at)
        self._after("persist")

    def _exists(self) -> bool:
        return True

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._disk[0], uri=True, isolation_level=None, check_same_thread=False)
