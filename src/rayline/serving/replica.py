"""What Ray Serve runs: one replica of a service, which holds all of its live versions.

Nothing here loads training code, user code or, for the ready-made network, torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from random import getrandbits
from typing import Any

from rayline.config import AccessConfig
from rayline.errors import ServiceError
from rayline.serving import frontdoor
from rayline.serving.access import Tokens
from rayline.serving.endpoint import Endpoint
from rayline.serving.feedback import Answers, Feedback, FeedbackLog
from rayline.serving.follower import Follower
from rayline.serving.host import Host
from rayline.serving.metrics import MetricsExporter
from rayline.serving.names import service_folder
from rayline.serving.peers import Peers
from rayline.serving.served import Served


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What a replica is started with.

    Attributes:
        service: the service's name.
        storage: where bundles, plan and feedback lie.
        max_rows: per request.
        access: where the tokens lie; every replica reads them for itself, so that none goes through Ray.
    """

    service: str
    storage: str
    max_rows: int
    access: AccessConfig


class Replica:
    """One replica."""

    def __init__(self, settings: ReplicaSettings) -> None:
        """Load every live version. Raises ``RaylineError`` where the stable one cannot be loaded."""
        import ray

        one_thread_per_process()
        tag = f"{getrandbits(32):08x}"
        context = ray.get_runtime_context()
        self.tag = tag
        load = partial(Served.load, storage=settings.storage)
        self._host = Host(settings.service, on_change=self._changed, load=load)
        self._follower = Follower(settings.service, f"replica-{tag}", self._host, context.current_actor)
        self._follower.first_plan()
        self._log = FeedbackLog(service_folder(settings.storage, settings.service) / "feedback" / f"{tag}.jsonl")
        answers = Answers(tag)
        feedback = Feedback(self._host, answers, self._log, tag)
        self._endpoint = Endpoint(
            settings.service,
            self._host,
            answers,
            feedback,
            pass_on=self._follower.pass_on,
            max_rows=settings.max_rows,
            peers=Peers() if frontdoor.requests_come_direct() else None,
            tokens=Tokens.read(settings.access),
        )
        self._follower.start(feedback)
        self._metrics = MetricsExporter(settings.service, self._host)
        frontdoor.open_for(self._endpoint)

    def __serve_build_asgi_app__(self) -> Any:
        """Return the ASGI application for requests that come through Serve."""
        return self._endpoint

    def check_health(self) -> None:
        """Tell Serve whether this replica can serve. Raises ``ServiceError`` where it cannot."""
        plan = self._host.plan
        if plan is None or plan.stable not in self._host.table.versions:
            raise ServiceError("the stable version is not loaded.")
        if not self._follower.alive():
            raise ServiceError("the traffic plan is not followed any more.")

    def __del__(self) -> None:
        """Stop the threads; Serve calls this after the last request."""
        for name in ("_follower", "_metrics"):
            if hasattr(self, name):
                getattr(self, name).stop()
        if hasattr(self, "_log"):
            self._log.close()

    def _changed(self) -> None:
        self._follower.tell()


def one_thread_per_process() -> None:
    """Keep matrix products on the thread that asked: a row's are too small to share, and replicas share the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch, where a bundle brings its own module
    import numpy  # noqa: F401 - its BLAS must be loaded before it can be told
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)
