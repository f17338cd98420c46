"""The kinds of steps that a rollout goes through. Pure."""

from __future__ import annotations

from msgspec import Struct

from rayline.config import AnalysisConfig, ExperimentConfig


class SetWeight(Struct, frozen=True, tag="set_weight"):
    """Give the canary ``weight`` percent of the traffic."""

    weight: int


class Pause(Struct, frozen=True, tag="pause"):
    """Wait ``seconds``; None waits until a person promotes."""

    seconds: float | None


class Analyse(Struct, frozen=True, tag="analysis"):
    """Measure both arms; only success goes on to the next step."""

    config: AnalysisConfig


class MirrorTraffic(Struct, frozen=True, tag="set_mirror"):
    """Copy ``percent`` of the requests to the canary, whose answers are compared and dropped; 0 ends it."""

    percent: int


class RouteHeader(Struct, frozen=True, tag="set_header_route"):
    """Send requests with this header and value to the canary; None ends it."""

    header: str | None
    value: str = ""


class Bake(Struct, frozen=True, tag="bake"):
    """With all traffic on the canary, keep the old version loaded for ``seconds``, and watch.

    Attributes:
        seconds: until the canary takes over for good.
        watch: limits on the canary that send it back; None watches nothing.
    """

    seconds: float
    watch: AnalysisConfig | None = None


class Ask(Struct, frozen=True, tag="experiment"):
    """Ask which version is better, until a sequential test knows; a canary that is goes on to the next step."""

    config: ExperimentConfig


class Conclude(Struct, frozen=True, tag="conclude"):
    """End here: the stable version keeps the traffic, and the canary is unloaded."""


PlanStep = SetWeight | Pause | Analyse | MirrorTraffic | RouteHeader | Bake | Ask | Conclude
