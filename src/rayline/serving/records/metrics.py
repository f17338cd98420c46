"""Prometheus metrics per version, brought up to date in the background from the counters of the hot path."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from rayline.serving.host import Host
from rayline.serving.records.observation import LATENCY_EDGES, ArmStats, ShadowStats

FLUSH_SECONDS = 2.0
_LOG = logging.getLogger(__name__)

MOST_SLICES = 40
BY_VERSION = {
    "rayline_shadow_rows": "Rows that the mirrored version answered beside another.",
    "rayline_shadow_disagreed_rows": "Of these, rows that it answered otherwise.",
    "rayline_shadow_distance": "Sum over these of the distance between the answers.",
    "rayline_shadow_dropped_rows": "Rows that were not mirrored, as too many waited.",
    "rayline_shadow_failed_rows": "Rows that the mirrored version could not answer.",
}
BY_SLICE = {
    "rayline_slice_rows": "Rows answered.",
    "rayline_slice_feedback_rows": "Rows whose truth arrived.",
    "rayline_slice_correct_rows": "Of these, rows whose label was predicted.",
    "rayline_slice_absolute_error": "Sum over these of the absolute error.",
}
BY_SERVICE = {
    "rayline_capture_rows": "Rows captured to files.",
    "rayline_capture_dropped_rows": "Rows that were to be captured and were dropped.",
    "rayline_capture_failed_writes": "Files of captured rows that could not be written.",
    "rayline_records_left_out_rows": "Rows answered but neither counted by their inputs nor captured.",
}
BOUNDARIES = LATENCY_EDGES[3::5]  # Prometheus keeps a series per bucket: every fifth of ours is enough


class MetricsExporter:
    """Exports what one replica has done: requests, errors, rows, feedback, weight, latency by bucket, and records.

    Of the slices, rows, truth and what was right are exported while there are at most ``MOST_SLICES`` of them.
    """

    def __init__(self, service: str, host: Host, records: Callable[[], dict[str, Any]] = dict) -> None:
        """Export the counts of a host, and what ``Recording.facts`` tells."""
        from ray.util.metrics import Counter, Gauge

        tags = ("service", "version")
        self._records = records
        self._recorded: dict[str, int] = {}
        self._host = host
        self._service = service
        self._seen: dict[int, ArmStats] = {}
        self._requests = Counter("rayline_requests", "Requests answered.", tag_keys=tags)
        self._errors = Counter("rayline_errors", "5xx answers.", tag_keys=tags)
        self._rows = Counter("rayline_rows", "Rows answered.", tag_keys=tags)
        self._feedback = Counter("rayline_feedback_rows", "Rows whose truth arrived.", tag_keys=tags)
        self._by_version = {name: Counter(name, told, tag_keys=tags) for name, told in BY_VERSION.items()}
        self._by_slice = {name: Counter(name, told, tag_keys=(*tags, "slice")) for name, told in BY_SLICE.items()}
        self._by_service = {name: Counter(name, told, tag_keys=("service",)) for name, told in BY_SERVICE.items()}
        self._latency = Counter(
            "rayline_latency_seconds_bucket",
            "Requests answered within 'le' seconds, inside the replica; cumulative, as a Prometheus histogram.",
            tag_keys=(*tags, "le"),
        )
        self._weight = Gauge("rayline_weight", "Percent of the traffic.", tag_keys=tags)
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="rayline-metrics", daemon=True).start()

    def stop(self) -> None:
        """Stop after the flush under way."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self.flush()
            except Exception:  # noqa: BLE001 - a replica serves on without its metrics; the next flush tries again
                _LOG.exception("the metrics of service '%s' could not be exported.", self._service)

    def flush(self) -> None:
        """Export what was counted since the last flush.

        The host's report goes on counting over an unload and a reload; the counters of a loaded version begin anew.
        """
        weights = self._host.table.weights
        for text, raw in self._host.report()["stats"].items():
            number, now = int(text), ArmStats.from_json(raw)
            tags = {"service": self._service, "version": text}
            gained = now.minus(self._seen[number]) if number in self._seen else now
            self._seen[number] = now
            self._weight.set(weights.get(number, 0), tags=tags)
            if gained.requests or gained.feedback:
                self._count(gained, tags)
            self._count_shadow(gained.shadow, tags)
            if len(now.slices) <= MOST_SLICES:
                self._count_slices(gained, tags)
        self._count_records()

    def _count_shadow(self, gained: ShadowStats, tags: dict[str, str]) -> None:
        amounts = (gained.rows, gained.rows - gained.agreed, gained.distance, gained.dropped, gained.errors)
        for counter, amount in zip(self._by_version.values(), amounts, strict=True):
            if amount > 0:
                counter.inc(amount, tags=tags)

    def _count_slices(self, gained: ArmStats, tags: dict[str, str]) -> None:
        for name, stats in gained.slices.items():
            for counter, amount in zip(
                self._by_slice.values(), (stats.rows, stats.feedback, stats.correct, stats.absolute_error), strict=True
            ):
                if amount > 0:
                    counter.inc(amount, tags={**tags, "slice": name})

    def _count_records(self) -> None:
        facts = self._records()
        captured = facts.get("capture", {})
        now = {
            "rayline_capture_rows": captured.get("captured", 0),
            "rayline_capture_dropped_rows": captured.get("dropped", 0),
            "rayline_capture_failed_writes": captured.get("failed_writes", 0),
            "rayline_records_left_out_rows": facts.get("left_out", 0),
        }
        for name, amount in now.items():
            gained = amount - self._recorded.get(name, 0)
            if gained > 0:
                self._by_service[name].inc(gained, tags={"service": self._service})
        self._recorded = now

    def _count(self, gained: ArmStats, tags: dict[str, str]) -> None:
        counts: list[tuple[Any, float]] = [
            (self._requests, gained.requests),
            (self._errors, gained.errors),
            (self._rows, sum(gained.prediction_counts.values())),
            (self._feedback, gained.feedback),
        ]
        for counter, amount in counts:
            if amount > 0:
                counter.inc(amount, tags=tags)
        for boundary in (*BOUNDARIES, float("inf")):
            within = sum(
                count
                for count, edge in zip(gained.latency_counts, (*LATENCY_EDGES, float("inf")), strict=True)
                if edge <= boundary
            )
            if within > 0:
                self._latency.inc(
                    within, tags={**tags, "le": "+Inf" if boundary == float("inf") else f"{boundary:.6g}"}
                )
