"""What a service begins with: its first version has all traffic, and gives the bins that all are counted by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayline.config import ServiceConfig
from rayline.serving.records.capture_files import check_redacted
from rayline.serving.records.counters import prediction_edges
from rayline.serving.records.yardstick import Yardstick, read_yardstick, write_yardstick
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan

if TYPE_CHECKING:
    from rayline.registry.bundle import Bundle


def check_fits(bundle: Bundle, config: ServiceConfig) -> None:
    """Raise ``ConfigError`` where a column to redact or to slice by is none of the inputs."""
    check_redacted(config.capture.redact, bundle.features.schema)
    _yardstick(bundle).slicers(config.slices)


def keep_first_plan(state: Any, name: str, storage: str, version: LiveVersion, bundle: Bundle) -> dict[str, Any] | None:
    """Publish the plan that a service begins with, where it has none.

    Args:
        state: the service's live-state actor.
        name: of the service.
        storage: that its state lies in.
        version: what gets all traffic the first time.
        bundle: of that version.

    Returns:
        The plan that it had; None the first time.
    """
    import ray

    before: dict[str, Any] | None = ray.get(state.plan.remote())
    if before is None or read_yardstick(storage, name) == Yardstick():
        write_yardstick(storage, name, _yardstick(bundle))
    if before is None:
        edges = prediction_edges(bundle.features.target_mean, bundle.features.target_std)
        ray.get(state.publish.remote(TrafficPlan.first(name, version, tuple(edges), 1).to_json()))
    return before


def _yardstick(bundle: Bundle) -> Yardstick:
    return Yardstick.of(bundle.reference, bundle.features.input_columns)
