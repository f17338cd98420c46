"""What Ray Serve runs: one replica of a service, which holds all of its live versions.

Nothing here loads training code, user code or, for the ready-made network, torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from random import getrandbits
from typing import Any

from rayline.config import AccessConfig, CaptureConfig, ServiceConfig
from rayline.errors import ServiceError
from rayline.serving.host import Host
from rayline.serving.http import frontdoor
from rayline.serving.http.access import Tokens
from rayline.serving.http.endpoint import Endpoint
from rayline.serving.http.peers import Peers
from rayline.serving.load import Load
from rayline.serving.names import service_folder
from rayline.serving.records.feedback import Answers, Feedback, FeedbackLog
from rayline.serving.records.late_truth import LateTruth
from rayline.serving.records.metrics import MetricsExporter
from rayline.serving.records.recording import Recording
from rayline.serving.scaling import METRIC
from rayline.serving.traffic.follower import Follower
from rayline.serving.versions import away
from rayline.serving.versions.answering import Limits
from rayline.serving.versions.execution import Execution


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What a replica is started with.

    Attributes:
        service: the service's name.
        storage: where bundles, plan and feedback lie.
        limits: what the replica takes on.
        threads: that compute one forward pass.
        execution: how networks are run; see ``ServiceConfig``.
        memory_limit: of the process, in MiB; None for what the machine has.
        access: where the tokens lie; every replica reads them for itself, so that none goes through Ray.
        slices: columns by whose levels counts are kept apart.
        capture: what is written down of requests.
    """

    service: str
    storage: str
    limits: Limits = field(default_factory=Limits)
    threads: int = 1
    execution: Execution = "auto"
    memory_limit: float | None = None
    access: AccessConfig = field(default_factory=AccessConfig)
    slices: tuple[str, ...] = ()
    capture: CaptureConfig = field(default_factory=CaptureConfig)

    @classmethod
    def from_config(cls, service: str, storage: str, config: ServiceConfig) -> ReplicaSettings:
        """Return what a service's section asks of each replica."""
        limits = Limits(
            max_ongoing=config.max_ongoing_requests,
            max_queued=config.max_queued_requests,
            timeout=config.request_timeout,
            max_rows=config.max_rows,
            max_body=int(config.max_body_mb * 1024 * 1024),
            batching=config.batching.enabled,
            batch_rows=config.batching.max_rows,
        )
        return cls(
            service,
            storage,
            limits,
            threads=config.threads,
            execution=config.execution,
            memory_limit=config.memory_limit_mb,
            access=config.access,
            slices=config.slices,
            capture=config.capture,
        )


class Replica:
    """One replica."""

    def __init__(self, settings: ReplicaSettings) -> None:
        """Load every live version. Raises ``RaylineError`` where the stable one cannot be loaded."""
        import ray

        compute_on(settings.threads)
        tag = f"{getrandbits(32):08x}"
        context = ray.get_runtime_context()
        self.tag = tag
        load = partial(away.load, storage=settings.storage, execution=settings.execution, threads=settings.threads)
        self._host = Host(settings.service, self._changed, load, settings.memory_limit)
        actor = context.get_actor_name() or ""
        self._follower = Follower(settings.service, f"replica-{tag}", self._host, context.current_actor, actor)
        self._follower.first_plan()
        self._log = FeedbackLog(service_folder(settings.storage, settings.service) / "feedback" / f"{tag}.jsonl")
        answers = Answers(tag)
        self._recording = Recording.of(
            settings.service,
            settings.storage,
            tag,
            self._host,
            answers,
            slices=settings.slices,
            capture=settings.capture,
        )
        feedback = Feedback(self._host, answers, self._log, tag, self._recording.recorder.slices_of)
        self._late = LateTruth(settings.storage, settings.service, feedback, self._recording.recorder.slicers)
        feedback.look_up = self._late.offer
        self._endpoint = Endpoint(
            settings.service,
            self._host,
            answers,
            feedback,
            pass_on=self._follower.pass_on,
            peers=Peers() if frontdoor.requests_come_direct() else None,
            limits=settings.limits,
            tokens=Tokens.read(settings.access),
        )
        self._load = Load(frontdoor.lag)
        self._endpoint.answering.listeners.append(self._recording.recorder.answered)
        self._recording.start()
        self._late.start()
        self._follower.start(feedback, lambda: {**self._recording.facts(), "feedback": feedback.facts()})
        self._metrics = MetricsExporter(settings.service, self._host, self._recording.facts)
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

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Serve how many requests were under way on average since it last asked."""
        return {METRIC: self._load.under_way(self._host.report()["stats"])}

    def __del__(self) -> None:
        """Stop the threads; Serve calls this after the last request."""
        for name in ("_follower", "_metrics", "_late", "_recording"):
            if hasattr(self, name):
                getattr(self, name).stop()
        if hasattr(self, "_log"):
            self._log.close()

    def _changed(self) -> None:
        self._follower.tell()


def compute_on(threads: int) -> None:
    """Keep matrix products on so many threads.

    One is the default: a row's product is too small to share, replicas share the cores, and the thread that asked has
    its numbers in the cache.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch, where a bundle brings its own module
    import numpy  # noqa: F401 - its BLAS must be loaded before it can be told
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
