"""The live versions of one replica: loaded in the background, chosen by weight, dropped when the plan drops them.

A plan takes effect with one assignment, so that the hot path never waits. A version that this replica has not loaded
gets no request here, whatever the plan says: its share falls to the versions that are loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from types import MappingProxyType
from typing import Any

from rayline import storage
from rayline.errors import NotFoundError, ServiceError
from rayline.serving.records.observation import ArmStats
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.traffic.router import choose, chooser
from rayline.serving.versions.acceptance import answers_its_example, keeps_the_contract
from rayline.serving.versions.memory import Scales, bundle_mb
from rayline.serving.versions.served import Served

LEAVE_SECONDS = 10.0
LONGEST_NUMBER = 12  # digits that a client may name a version with: Python takes time over very many, and then refuses

Loader = Callable[[str, LiveVersion, tuple[float, ...]], Served]


@dataclass(frozen=True, slots=True)
class Table:
    """What the hot path reads: the loaded versions and how to choose among them. Replaced, never changed.

    Attributes:
        routes: header name and value to the version that such requests go to, in the plan's order.
    """

    versions: Mapping[int, Served]
    weights: Mapping[int, int]
    pick: Callable[[], int] | None
    routes: tuple[tuple[bytes, bytes, int], ...] = ()

    def routed(self, headers: Iterable[tuple[bytes, bytes]]) -> int | None:
        """Return the version that a request's headers lead to; None where no route fits."""
        sent = set(headers)
        return next((number for name, value, number in self.routes if (name, value) in sent), None)


_EMPTY = Table(MappingProxyType({}), MappingProxyType({}), None)


class Host:
    """The versions of one replica."""

    def __init__(
        self,
        service: str,
        on_change: Callable[[], None],
        load: Loader = Served.load,
        memory_limit: float | None = None,
    ) -> None:
        """Start empty.

        Args:
            service: its name.
            on_change: called from a background thread when a version has loaded or failed to.
            load: loads and warms one version.
            memory_limit: of this process, in MiB: a version that would not fit is not loaded.
        """
        self._scales = Scales(memory_limit)
        self._service = service
        self._on_change = on_change
        self._load = load
        self._lock = threading.Lock()
        self._plan: TrafficPlan | None = None
        self._loaded: dict[int, Served] = {}
        self._loading: dict[int, LiveVersion] = {}
        self._failed: dict[int, str] = {}
        self._gone: dict[int, ArmStats] = {}
        self._moving: set[int] = set()
        self._table = _EMPTY

    @property
    def plan(self) -> TrafficPlan | None:
        """The newest plan that was applied."""
        return self._plan

    @property
    def table(self) -> Table:
        """What is served at this moment."""
        return self._table

    def choose(self, session: str | None, pinned: str | None, headers: Iterable[tuple[bytes, bytes]] = ()) -> Served:
        """Return the version that answers a request.

        Args:
            session: the key of a sticky choice.
            pinned: a version's number, as the client wrote it; it wins over the routes, and they over the session.
            headers: of the request, names in lower case; looked at only where the plan has routes.

        Raises:
            NotFoundError: the pinned version is not live.
            ServiceError: no version is loaded.
        """
        table = self._table
        if pinned is not None:
            served = table.versions.get(int(pinned)) if pinned.isdecimal() and len(pinned) < LONGEST_NUMBER else None
            if served is None:
                live = ", ".join(str(number) for number in table.versions) or "none"
                raise NotFoundError(f"service '{self._service}' has no live version '{pinned}'. Live: {live}.")
            return served
        if table.pick is None:
            raise ServiceError(f"service '{self._service}' has no version loaded on this replica yet; try again.")
        if table.routes and (number := table.routed(headers)) is not None:
            return table.versions[number]
        return table.versions[table.pick() if session is None else choose(session, table.weights)]

    def apply(self, plan: TrafficPlan, *, wait: bool = False) -> None:
        """Follow a plan: weights at once, new versions as they load. An older or equal generation changes nothing.

        Args:
            plan: what to serve.
            wait: return only when each version has loaded or failed.
        """
        with self._lock:
            if self._plan is not None and plan.generation <= self._plan.generation:
                return
            self._plan = plan
            wanted = {version.number: version for version in plan.versions}
            for number, served in list(self._loaded.items()):
                if number not in wanted or not wanted[number].same_bundle(
                    served.live
                ):  # one that only moves answers until it has moved
                    self._gone[number] = _sum(self._gone.get(number), self._loaded.pop(number).counters.snapshot())
            self._failed = {
                number: why
                for number, why in self._failed.items()
                if number in wanted and not self._has(wanted[number])
            }
            missing = [
                version
                for version in plan.versions
                if not self._has(version) and self._loading.get(version.number) != version
            ]
            self._loading.update({version.number: version for version in missing})
            self._retable()
        threads = [threading.Thread(target=self._bring, args=(each, plan.edges), daemon=True) for each in missing]
        for thread in threads:
            thread.start()
        if wait:
            for thread in threads:
                thread.join()

    def report(self) -> dict[str, Any]:
        """Return what this replica holds and has done, as JSON-ready values."""
        with self._lock:
            plan, loaded, failed = self._plan, dict(self._loaded), dict(self._failed)
            stats = dict(self._gone)
        for number, served in loaded.items():
            stats[number] = _sum(stats.get(number), served.counters.snapshot())
        return {
            "generation": plan.generation if plan else 0,
            "loaded": {str(number): served.live.digest for number, served in loaded.items()},
            "placed": {
                str(number): "moving" if number in self._moving else served.live.placement
                for number, served in loaded.items()
            },
            "failed": {str(number): why for number, why in failed.items()},
            "memory": self._scales.report(loaded),
            "stats": {str(number): each.to_json() for number, each in stats.items()},
        }

    def _bring(self, version: LiveVersion, edges: tuple[float, ...]) -> None:
        served, why, left = None, "", None
        try:
            needs = bundle_mb(storage.fetch(Path(version.path))) if version.placement == "inline" else 0.0
            with self._scales.weighing(version.number, needs):
                served = self._load(self._service, version, edges)
                if version.placement == "inline":
                    answers_its_example(served)
                keeps_the_contract(served, self._stable())
        except Exception as error:  # noqa: BLE001 - whatever a bundle does wrong must not end the replica
            served, why = None, f"{type(error).__name__}: {error}"
        with self._lock:
            if self._loading.get(version.number) == version:
                del self._loading[version.number]
                if self._plan is not None and version in self._plan.versions:
                    if served is not None:
                        left = self._loaded.get(version.number)
                        self._loaded[version.number] = _counting_on(self._loaded.get(version.number), served)
                        self._failed.pop(version.number, None)
                    else:
                        self._failed[version.number] = why
                    self._retable()
        if left is not None:
            self._see_off(left)
        self._on_change()

    def _see_off(self, left: Served) -> None:
        """Wait until nobody asks a version at the place that it has left: it may be gone as soon as this is told."""
        number, deadline = left.live.number, monotonic() + LEAVE_SECONDS
        self._moving.add(number)
        while getattr(left.remote, "busy", False) and monotonic() < deadline:
            sleep(0.05)
        self._moving.discard(number)

    def _stable(self) -> Served | None:
        with self._lock:
            return self._loaded.get(self._plan.stable) if self._plan is not None else None

    def _has(self, version: LiveVersion) -> bool:
        loaded = self._loaded.get(version.number)
        return loaded is not None and loaded.live == version

    def _retable(self) -> None:
        if self._plan is None or not self._loaded:
            self._table = _EMPTY
            return
        versions = dict(sorted(self._loaded.items()))
        weights = {number: weight for number, weight in self._plan.weights.items() if weight and number in versions}
        if not weights:
            weights = {self._plan.stable if self._plan.stable in versions else next(iter(versions)): 100}
        routes = tuple(
            (route.header.lower().encode(), route.value.encode(), route.number)
            for route in self._plan.routes
            if route.number in versions
        )
        self._table = Table(MappingProxyType(versions), MappingProxyType(weights), chooser(weights), routes)


def _counting_on(before: Served | None, served: Served) -> Served:
    """Return what was loaded anew with the counts of the same version elsewhere, which requests still add to."""
    return served if before is None else replace(served, counters=before.counters)


def _sum(earlier: ArmStats | None, stats: ArmStats) -> ArmStats:
    return stats if earlier is None else earlier.plus(stats)
