"""What a rollout needs of the world: a service to move traffic on, and a store to write to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rayline.serving.records.observation import Observation
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror, TrafficPlan

if TYPE_CHECKING:
    from rayline.config import Placement, Task
    from rayline.registry.store import Point, Version


class ServicePort(Protocol):
    """A live service. Doing anything twice leaves the same result as doing it once.

    Every method raises ``ServiceError`` where the service did not answer as it must, which may pass, and a
    ``UsageError`` or ``BundleError`` where trying again cannot help. What changes something raises ``StaleController``
    where a higher fencing number was seen.
    """

    def fenced(self, fence: int) -> ServicePort:
        """Return this service for one controller, whose changes carry its fencing number."""
        ...

    def plan(self) -> TrafficPlan:
        """Return the traffic plan in force."""
        ...

    def load(self, version: LiveVersion) -> None:
        """Make a version live at weight 0; return once every replica has it warm."""
        ...

    def unload(self, number: int) -> None:
        """Drop a version; refused while it has traffic, nothing where it is not live."""
        ...

    def set_weights(self, *, stable: int, weights: Mapping[int, int]) -> int:
        """Move traffic between live versions; return the plan's generation once every replica follows it."""
        ...

    def set_mirror(self, mirror: Mirror | None) -> int:
        """Give a live version copies of requests, or nobody; return once every replica follows."""
        ...

    def set_routes(self, routes: Sequence[HeaderRoute]) -> int:
        """Send requests that carry a header to a version, by these routes alone; return once every replica follows."""
        ...

    def place(self, number: int, placement: Placement) -> None:
        """Have a live version answered inline or from an application of its own; return once every replica follows."""
        ...

    def observe(self) -> Observation:
        """Return the counts of every replica."""
        ...


class Records(Protocol):
    """The part of the tracking store that a rollout writes to; ``registry.store.Store`` has it all."""

    def start_run(self, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> str: ...

    def log_metrics(self, run_id: str, metrics: Sequence[Point]) -> None: ...

    def log_text(self, run_id: str, text: str, path: str) -> None: ...

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None: ...

    def finish_run(
        self, run_id: str, status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"] = "FINISHED"
    ) -> None: ...

    def version(self, name: str, selector: str | None = None) -> Version: ...

    def set_alias(self, name: str, alias: str, number: int) -> None: ...

    def drop_alias(self, name: str, alias: str) -> None: ...

    def tag_version(self, name: str, number: int, tags: Mapping[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """How a controller reaches the world, wherever it is started.

    Attributes:
        service: takes a service's name and the storage folder.
        records: takes MLflow's tracking URI, or None, and the storage folder.
        task: gives the task of a version's model.
    """

    service: Callable[[str, str], ServicePort]
    records: Callable[[str | None, str], Records]
    task: Callable[[LiveVersion], Task]


def live_service(name: str, storage: str) -> ServicePort:
    """Find a service on this Ray cluster. Raises ``NotFoundError``."""
    from rayline.serving.service import Service

    return Service.connect(name, storage)


def live_records(tracking_uri: str | None, storage: str) -> Records:
    """Open the MLflow store. Raises ``TrackingError``."""
    from rayline.registry.mlflow_store import MlflowStore

    store: Any = MlflowStore.open(tracking_uri, storage)
    records: Records = store
    return records


def live_task(version: LiveVersion) -> Task:
    """Return the task of a version's model. Raises ``BundleError``."""
    from rayline.registry.bundle import Bundle

    return Bundle.load(version.path).task


LIVE = Ports(live_service, live_records, live_task)
