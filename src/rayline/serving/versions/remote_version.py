"""What Ray Serve runs for a version in a process of its own: it answers the rows that replicas send together.

Whatever happens to this process, by a fault in native code, a leak or a kernel that takes its memory back, happens to
this version's share of the traffic alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.serving.replica import compute_on
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.versions.acceptance import answers_its_example
from rayline.serving.versions.batching import Rows
from rayline.serving.versions.execution import Execution
from rayline.serving.versions.memory import Scales, bundle_mb
from rayline.serving.versions.served import Served

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """What the process of a version is started with.

    Attributes:
        service: the service's name.
        live: the version.
        storage: the project's state folder.
        threads: that compute one forward pass.
        execution: how networks are run; see ``ServiceConfig``.
        memory_limit: of the process, in MiB; None for what the machine has.
    """

    service: str
    live: LiveVersion
    storage: str
    threads: int = 1
    execution: Execution = "auto"
    memory_limit: float | None = None


class RemoteVersion:
    """One version, alone in its process."""

    def __init__(self, settings: RemoteSettings) -> None:
        """Load and warm the version. Raises ``RaylineError`` where it cannot be, or does not fit."""
        compute_on(settings.threads)
        live = settings.live
        how: dict[str, Any] = {
            "storage": settings.storage,
            "execution": settings.execution,
            "threads": settings.threads,
        }
        self._scales = Scales(settings.memory_limit)
        with self._scales.weighing(live.number, bundle_mb(storage.fetch(Path(live.path)))):
            self._served = Served.load(settings.service, live, (), **how)
            answers_its_example(self._served)

    def about(self) -> dict[str, Any]:
        """Return what is held here: ``digest``, ``pid`` and ``memory``, JSON-ready."""
        live = self._served.live
        return {"digest": live.digest, "pid": os.getpid(), "memory": self._scales.report([live.number])}

    def predict(self, requests: list[Rows]) -> list[Predictions | Exception]:
        """Answer the rows of several requests in one pass; what is wrong with one of them is its own answer alone."""
        return self._served.predict_many(requests)
