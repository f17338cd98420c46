"""``service``: how versions answer: replicas, limits, batching, placement, capture and access."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.section import NonNegative, Positive, Section

Placement = Literal["inline", "remote"]
"""``inline``: in the replica's own process. ``remote``: in a process and a Serve application of its own."""


class AutoscalingConfig(Section, frozen=True, kw_only=True):
    """Replicas by load, with Ray Serve's own policy and words; delays in seconds."""

    min_replicas: Positive = 1
    max_replicas: Positive = 2
    target_ongoing_requests: Annotated[float, Meta(gt=0)] = 16.0
    upscale_delay: NonNegative = 10.0
    downscale_delay: NonNegative = 120.0

    def __post_init__(self) -> None:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is less than min_replicas {self.min_replicas}")


class BatchingConfig(Section, frozen=True, kw_only=True):
    """Requests that wait together share one forward pass; a lone one never waits.

    ``max_rows`` bounds a pass. Size and wait follow the load by themselves.
    """

    enabled: bool = True
    max_rows: Positive = 1024


class CaptureConfig(Section, frozen=True, kw_only=True):
    """What was asked and answered, to Parquet under ``storage``: written aside, never in a request's way.

    ``sample`` is the share of requests; values of the columns in ``redact`` are left out; at most ``max_waiting`` rows
    wait to be written, and what comes beyond is counted and dropped. A file is closed after ``file_seconds``.
    """

    enabled: bool = True
    sample: Annotated[float, Meta(gt=0, le=1)] = 1.0
    redact: tuple[str, ...] = ()
    max_waiting: Positive = 50_000
    file_seconds: Annotated[float, Meta(gt=0)] = 60.0


class AccessConfig(Section, frozen=True, kw_only=True):
    """Who may ask: files that hold a bearer token each (mode 0600), one for requests and one for administration."""

    token_file: str | None = None
    admin_token_file: str | None = None


class ServiceConfig(Section, frozen=True, kw_only=True):
    """The live endpoint. ``ingress`` is Serve's HAProxy, or its plain Python proxy.

    ``max_ongoing_requests`` are worked on in one replica at a time and ``max_queued_requests`` wait; beyond, and after
    ``request_timeout`` seconds, a request gets 503 with Retry-After. ``drain`` seconds are given to requests under way
    when a replica stops. ``threads`` compute one forward pass. ``execution`` is how networks are run: ``auto`` takes
    what measured fastest for the bundle; it speaks of the ready-made MLP, every other kind has one engine.
    ``num_gpus`` are reserved for a replica, and the engines compute on the CPU all the same. ``placement`` is of
    stable versions; a rollout may place its canary otherwise.
    ``memory_limit_mb`` is of one replica: a version that would not fit is refused. ``slices`` are the columns by whose
    levels live counts are kept apart.
    """

    replicas: Positive = 1
    autoscaling: AutoscalingConfig | None = None
    num_cpus: Annotated[float, Meta(gt=0)] = 0.5
    num_gpus: NonNegative = 0.0
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    ingress: Literal["auto", "haproxy", "proxy"] = "auto"
    max_rows: Positive = 10_000
    max_body_mb: Annotated[float, Meta(gt=0, le=1024)] = 64.0
    max_ongoing_requests: Positive = 512
    max_queued_requests: Positive = 1024
    request_timeout: Annotated[float, Meta(gt=0)] = 30.0
    drain: NonNegative = 10.0
    threads: Positive = 1
    execution: Literal["auto", "numpy", "onnx", "torch"] = "auto"
    placement: Placement = "inline"
    memory_limit_mb: Annotated[float, Meta(gt=0)] | None = None
    slices: tuple[str, ...] = ()
    batching: BatchingConfig = BatchingConfig()
    capture: CaptureConfig = CaptureConfig()
    access: AccessConfig = AccessConfig()
