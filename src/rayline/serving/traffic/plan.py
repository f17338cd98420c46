"""The traffic plan of a service: which versions are live, and the share of the traffic that each has.

A plan is never changed; the next one has a higher generation, and whoever holds a newer generation refuses an older.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rayline.config import Placement
from rayline.errors import NotFoundError, UsageError

FORMAT = 2
READABLE = (1, FORMAT)


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """One version that is live.

    Attributes:
        number: in the registry.
        path: its bundle's folder, where every replica can read it.
        digest: of that bundle.
        placement: ``inline``: replicas hold it. ``remote``: an application of its own holds it, and replicas ask that.
    """

    number: int
    path: str
    digest: str
    placement: Placement = "inline"

    def same_bundle(self, other: LiveVersion) -> bool:
        """Tell whether this is the same version from the same bundle, wherever it is placed."""
        return (self.number, self.path, self.digest) == (other.number, other.path, other.digest)


@dataclass(frozen=True, slots=True)
class Mirror:
    """A version that gets copies of requests which others answer: its predictions are compared and thrown away.

    Attributes:
        number: the version.
        percent: of the requests, 1 to 100.
    """

    number: int
    percent: int


@dataclass(frozen=True, slots=True)
class HeaderRoute:
    """Requests that carry a header with a value go to one version, whatever the weights say.

    Attributes:
        header: its name, in lower case.
        value: exactly.
        number: the version.
    """

    header: str
    value: str
    number: int


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What every replica of a service serves.

    Attributes:
        service: the service's name.
        generation: rises with each change, from 1.
        stable: the version number that has the traffic when no rollout runs.
        versions: the live versions in order of their number; replicas hold all of them.
        weights: version number to percent of the traffic, 0 to 100, together 100; an unlisted live version has 0.
        edges: bounds of the bins that a regression's predictions are counted in, the same for all versions.
        mirror: who gets copies of requests; None for nobody.
        routes: what sends requests to a version by a header; the first that fits holds.

    Raises:
        UsageError: the plan contradicts itself.
    """

    service: str
    generation: int
    stable: int
    versions: tuple[LiveVersion, ...]
    weights: dict[int, int]
    edges: tuple[float, ...] = ()
    mirror: Mirror | None = None
    routes: tuple[HeaderRoute, ...] = ()

    def __post_init__(self) -> None:
        numbers = self.numbers
        if len(set(numbers)) != len(numbers):
            raise UsageError(f"service '{self.service}': versions {list(numbers)} name one twice; each is live once.")
        if self.stable not in numbers:
            raise UsageError(f"service '{self.service}': stable version {self.stable} is not live. {self._live()}")
        for number, weight in self.weights.items():
            if number not in numbers:
                raise UsageError(
                    f"service '{self.service}': version {number} cannot have weight {weight}, as it is not live. "
                    f"{self._live()}"
                )
            if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 100:
                raise UsageError(
                    f"service '{self.service}': weight {weight!r} of version {number} must be a whole percent, 0-100."
                )
        if self.mirror is not None and not 1 <= self.mirror.percent <= 100:
            raise UsageError(
                f"service '{self.service}': {self.mirror.percent} % of the requests cannot be mirrored; give 1 to 100."
            )
        pointed = [*(route.number for route in self.routes), *([self.mirror.number] if self.mirror else [])]
        for number in pointed:
            if number not in numbers:
                raise UsageError(
                    f"service '{self.service}': requests cannot be sent to version {number}, as it is not live. "
                    f"{self._live()}"
                )
        total = sum(self.weights.values())
        if total != 100:
            raise UsageError(f"service '{self.service}': weights {self.weights} add up to {total}; they must give 100.")

    @classmethod
    def first(
        cls, service: str, version: LiveVersion, edges: tuple[float, ...] = (), generation: int = 1
    ) -> TrafficPlan:
        """Return the plan of a new service: one version with all the traffic."""
        return cls(service, generation, version.number, (version,), {version.number: 100}, edges)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The live version numbers."""
        return tuple(version.number for version in self.versions)

    def version(self, number: int) -> LiveVersion:
        """Return a live version. Raises ``NotFoundError`` naming the live ones."""
        for version in self.versions:
            if version.number == number:
                return version
        raise NotFoundError(f"service '{self.service}' has no live version {number}. {self._live()}")

    def adding(self, version: LiveVersion) -> TrafficPlan:
        """Return the next plan, which also holds ``version`` at weight 0; this plan where it is live, wherever placed.

        Raises:
            UsageError: its number is live from another bundle.
        """
        if any(version.same_bundle(each) for each in self.versions):
            return self
        if version.number in self.numbers:
            raise UsageError(
                f"service '{self.service}': version {version.number} is live from another bundle "
                f"({self.version(version.number).digest[:12]}, not {version.digest[:12]}); unload it first."
            )
        versions = tuple(sorted((*self.versions, version), key=lambda each: each.number))
        return self._next(versions=versions)

    def removing(self, number: int) -> TrafficPlan:
        """Return the next plan without a version; this plan where it is not live.

        Raises:
            UsageError: it is the stable version, or has weight.
        """
        if number not in self.numbers:
            return self
        if number == self.stable or self.weights.get(number, 0) > 0:
            raise UsageError(
                f"service '{self.service}': version {number} still has traffic (weight {self.weights.get(number, 0)}, "
                f"stable {self.stable}); move the traffic to another version first."
            )
        return self._next(
            versions=tuple(version for version in self.versions if version.number != number),
            weights={key: value for key, value in self.weights.items() if key != number},
            mirror=self.mirror if self.mirror and self.mirror.number != number else None,
            routes=tuple(route for route in self.routes if route.number != number),
        )

    def weighing(self, stable: int, weights: Mapping[int, int]) -> TrafficPlan:
        """Return the next plan with these weights and this stable version; this plan where nothing changes."""
        wanted = {number: weight for number, weight in sorted(weights.items()) if weight}
        if stable == self.stable and wanted == {key: value for key, value in self.weights.items() if value}:
            return self
        return self._next(stable=stable, weights=wanted or dict(weights))

    def mirroring(self, mirror: Mirror | None) -> TrafficPlan:
        """Return the next plan, by which ``mirror`` gets copies of requests; this plan where it does already.

        Raises:
            UsageError: its version is not live, or its share is none.
        """
        return self if mirror == self.mirror else self._next(mirror=mirror)

    def routing(self, routes: Sequence[HeaderRoute]) -> TrafficPlan:
        """Return the next plan with these header routes; this plan where they hold already.

        Raises:
            UsageError: a version is not live.
        """
        return self if tuple(routes) == self.routes else self._next(routes=tuple(routes))

    def placing(self, number: int, placement: Placement) -> TrafficPlan:
        """Return the next plan with a version placed elsewhere; this plan where it is placed so.

        Raises:
            NotFoundError: the version is not live.
        """
        version = self.version(number)
        if version.placement == placement:
            return self
        moved = replace(version, placement=placement)
        return self._next(versions=tuple(moved if each.number == number else each for each in self.versions))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "format": FORMAT,
            "service": self.service,
            "generation": self.generation,
            "stable": self.stable,
            "versions": [asdict(version) for version in self.versions],
            "weights": {str(number): weight for number, weight in self.weights.items()},
            "edges": list(self.edges),
            "mirror": asdict(self.mirror) if self.mirror else None,
            "routes": [asdict(route) for route in self.routes],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TrafficPlan:
        """Return the plan that ``to_json`` wrote. Raises ``UsageError`` for another format."""
        if raw.get("format") not in READABLE:
            raise UsageError(f"traffic plan has format {raw.get('format')!r}; this version of Rayline reads {FORMAT}.")
        mirror = raw.get("mirror")
        return cls(
            service=raw["service"],
            generation=raw["generation"],
            stable=raw["stable"],
            versions=tuple(LiveVersion(**version) for version in raw["versions"]),
            weights={int(number): weight for number, weight in raw["weights"].items()},
            edges=tuple(raw["edges"]),
            mirror=Mirror(**mirror) if mirror else None,
            routes=tuple(HeaderRoute(**route) for route in raw.get("routes", ())),
        )

    def _next(self, **changes: Any) -> TrafficPlan:
        return replace(self, generation=self.generation + 1, **changes)

    def _live(self) -> str:
        return f"Live: {', '.join(str(number) for number in self.numbers)}."
