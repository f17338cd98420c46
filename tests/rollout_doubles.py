"""Doubles of what a rollout acts on: a service and a tracking store that keep their state in a cell outside themselves.

The cell outlives the double, as a real service outlives the controller that moves its traffic.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rayline.config import Placement
from rayline.errors import NotFoundError, ServiceError, StaleController, TrackingError
from rayline.registry.store import Point, Version
from rayline.rollout.ports import Ports
from rayline.serving.records.observation import ArmStats, Observation, latency_bucket
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror, TrafficPlan

SERVICE = "bikes"


def live_version(number: int) -> LiveVersion:
    """A version whose bundle is nowhere."""
    return LiveVersion(number, f"/bundles/{number}", f"digest-{number}")


def arm(
    requests: int = 0,
    *,
    errors: int = 0,
    seconds: float = 0.01,
    labels: Mapping[str, int] | None = None,
    feedback: int = 0,
    correct: int = 0,
    absolute_error: float = 0.0,
) -> ArmStats:
    """Counts of an arm whose requests all took the same time."""
    counts = list(ArmStats().latency_counts)
    counts[latency_bucket(seconds)] = requests
    return ArmStats(
        requests=requests,
        errors=errors,
        latency_counts=tuple(counts),
        prediction_counts=dict(labels if labels is not None else {"yes": requests}),
        feedback=feedback,
        correct=correct,
        absolute_error=absolute_error,
    )


def good(requests: int) -> ArmStats:
    """An arm without fault: every answer right."""
    return arm(
        requests, labels={"no": requests // 3, "yes": requests - requests // 3}, feedback=requests, correct=requests
    )


def bad(requests: int) -> ArmStats:
    """An arm that answers, and is wrong nearly always."""
    return arm(requests, labels={"yes": requests}, feedback=requests, correct=requests // 10)


class Cell:
    """Keeps a JSON value in memory."""

    def __init__(self, value: dict[str, Any] | None = None) -> None:
        self._text = json.dumps(value if value is not None else fresh_world())

    def read(self) -> dict[str, Any]:
        """Return the value."""
        value: dict[str, Any] = json.loads(self._text)
        return value

    @contextmanager
    def changed(self) -> Iterator[dict[str, Any]]:
        """Give the value, and keep what became of it."""
        value = self.read()
        yield value
        self._text = json.dumps(value)


class FileCell:
    """Keeps a JSON value in a file that several processes share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_suffix(".lock")
        if not path.exists():
            path.write_text(json.dumps(fresh_world()))

    def read(self) -> dict[str, Any]:
        """Return the value."""
        value: dict[str, Any] = json.loads(self._path.read_text())
        return value

    @contextmanager
    def changed(self) -> Iterator[dict[str, Any]]:
        """Give the value, and keep what became of it; nobody else writes meanwhile."""
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            value = self.read()
            yield value
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(value))
            draft.replace(self._path)


def fresh_world() -> dict[str, Any]:
    """A service with version 1 live, and a registry without aliases."""
    return {
        "plan": TrafficPlan.first(SERVICE, live_version(1)).to_json(),
        "stats": {},
        "calls": [],
        "fence": 0,
        "doubled": False,
        "service_down": "",
        "broken": {},
        "aliases": {"champion": 1},
        "version_tags": {},
        "runs": {},
        "store_down": False,
    }


Hook = Callable[[str], None]


def quiet(what: str) -> None:
    """Let everything happen."""


class ServiceDouble:
    """Meets ``ServicePort``; its laws are those of ``TrafficPlan``.

    Args:
        cell: where its state is.
        before: hears what is about to happen, and may raise.
        after: hears what has happened, and may raise.
        traffic: counts that each observation finds more, by version.
        fence: that its changes carry.
    """

    def __init__(
        self,
        cell: Cell | FileCell,
        *,
        before: Hook = quiet,
        after: Hook = quiet,
        traffic: Callable[[int, int], ArmStats] | None = None,
        fence: int | None = None,
    ) -> None:
        self._fence = fence
        self._cell = cell
        self._before = before
        self._after = after
        self._traffic = traffic

    def fenced(self, fence: int) -> ServiceDouble:
        """Return this service for one controller."""
        return ServiceDouble(self._cell, before=self._before, after=self._after, traffic=self._traffic, fence=fence)

    def plan(self) -> TrafficPlan:
        """Return the plan in force."""
        world = self._cell.read()
        _refuse_down(world)
        return TrafficPlan.from_json(world["plan"])

    def load(self, version: LiveVersion) -> None:
        """Make a version live at weight 0."""
        self._change("load", version.number, lambda plan: plan.adding(version))

    def unload(self, number: int) -> None:
        """Drop a version without traffic."""
        self._change("unload", number, lambda plan: plan.removing(number))

    def set_weights(self, *, stable: int, weights: Mapping[int, int]) -> int:
        """Move traffic."""
        return self._change("set_weights", [stable, dict(weights)], lambda plan: plan.weighing(stable, weights))

    def set_mirror(self, mirror: Mirror | None) -> int:
        """Send copies of requests."""
        details = [mirror.number, mirror.percent] if mirror else None
        return self._change("set_mirror", details, lambda plan: plan.mirroring(mirror))

    def set_routes(self, routes: Sequence[HeaderRoute]) -> int:
        """Send requests with a header to a version."""
        details = [[each.header, each.value, each.number] for each in routes]
        return self._change("set_routes", details, lambda plan: plan.routing(routes))

    def place(self, number: int, placement: Placement) -> None:
        """Place a version."""
        self._change("place", [number, placement], lambda plan: plan.placing(number, placement))

    def observe(self) -> Observation:
        """Return the counts."""
        world = self._cell.read()
        _refuse_down(world)
        plan = TrafficPlan.from_json(world["plan"])
        if self._traffic is not None:
            for number, weight in plan.weights.items():
                serve(self._cell, number, self._traffic(number, weight))
            world = self._cell.read()
        stats = {int(number): ArmStats.from_json(each) for number, each in world["stats"].items()}
        return Observation(0.0, plan.generation, {"replica": stats})

    def _change(self, what: str, details: Any, change: Callable[[TrafficPlan], TrafficPlan]) -> int:
        self._before(what)
        with self._cell.changed() as world:
            _refuse_down(world)
            if self._fence is not None:
                if self._fence < world["fence"]:
                    raise StaleController(f"number {self._fence} was overtaken by {world['fence']}")
                world["fence"] = self._fence
            if what in world["broken"]:
                raise ServiceError(world["broken"][what])
            plan = change(TrafficPlan.from_json(world["plan"]))
            if world["doubled"]:  # as Ray may, which sends at least once
                plan = change(plan)
            world["plan"] = plan.to_json()
            world["calls"].append([what, details, os.getpid()])
        self._after(what)
        return plan.generation


def serve(cell: Cell | FileCell, number: int, more: ArmStats) -> None:
    """Let a version have answered more requests."""
    with cell.changed() as world:
        before = world["stats"].get(str(number))
        total = ArmStats.from_json(before).plus(more) if before else more
        world["stats"][str(number)] = total.to_json()


class RecordsDouble:
    """Meets ``Records``. Its model has the versions 1 to 9."""

    def __init__(self, cell: Cell | FileCell, *, before: Hook = quiet, after: Hook = quiet) -> None:
        self._cell = cell
        self._before = before
        self._after = after

    def start_run(self, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        """Open a run."""
        with self._changed("start_run") as world:
            run_id = f"run-{len(world['runs']) + 1}"
            world["runs"][run_id] = {"name": name, "tags": dict(tags), "status": "RUNNING", "points": [], "texts": {}}
        return run_id

    def log_metrics(self, run_id: str, metrics: Sequence[Point]) -> None:
        """Keep points."""
        with self._run("log_metrics", run_id) as run:
            run["points"] += [[point.name, point.value, point.step] for point in metrics]

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text."""
        with self._run("log_text", run_id) as run:
            run["texts"][path] = text

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with self._run("set_tags", run_id) as run:
            run["tags"] |= tags

    def finish_run(self, run_id: str, status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """Close a run."""
        with self._run("finish_run", run_id) as run:
            run["status"] = status

    def version(self, name: str, selector: str | None = None) -> Version:
        """Return the version of a number or an alias."""
        world = self._cell.read()
        if world["store_down"]:
            raise TrackingError("the store is away")
        text = selector or "@champion"
        number = world["aliases"].get(text[1:]) if text.startswith("@") else int(text)
        if number is None or not 1 <= number <= 9:
            raise NotFoundError(f"model '{name}' has no version {selector}.")
        aliases = tuple(sorted(alias for alias, each in world["aliases"].items() if each == number))
        tags = world["version_tags"].get(str(number), {})
        return Version(name, number, "run", f"models:/{name}/{number}", aliases, tags, 0.0)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        self.version(name, str(number))
        with self._changed(f"set_alias {alias} {number}") as world:
            world["aliases"][alias] = number

    def drop_alias(self, name: str, alias: str) -> None:
        """Point an alias at no version."""
        with self._changed("drop_alias") as world:
            world["aliases"].pop(alias, None)

    def tag_version(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        self.version(name, str(number))
        with self._changed("tag_version") as world:
            world["version_tags"].setdefault(str(number), {}).update(tags)

    @contextmanager
    def _changed(self, what: str) -> Iterator[dict[str, Any]]:
        self._before(what)
        with self._cell.changed() as world:
            if world["store_down"]:
                raise TrackingError("the store is away")
            yield world
        self._after(what)

    @contextmanager
    def _run(self, what: str, run_id: str) -> Iterator[dict[str, Any]]:
        with self._changed(what) as world:
            if run_id not in world["runs"]:
                raise NotFoundError(f"run '{run_id}' does not exist in this store.")
            yield world["runs"][run_id]


def ports(cell: Cell | FileCell, *, before: Hook = quiet, after: Hook = quiet) -> Ports:
    """Reach the doubles of one cell."""
    return Ports(
        service=lambda name, storage: ServiceDouble(cell, before=before, after=after),
        records=lambda uri, storage: RecordsDouble(cell, before=before, after=after),
        task=lambda version: "binary",
    )


def _refuse_down(world: dict[str, Any]) -> None:
    if world["service_down"]:
        raise ServiceError(world["service_down"])
