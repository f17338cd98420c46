"""Prometheus metrics per version, brought up to date in the background from the counters of the hot path."""

from __future__ import annotations

import logging
import threading
from typing import Any

from rayline.serving.host import Host
from rayline.serving.observation import LATENCY_EDGES, ArmStats

FLUSH_SECONDS = 2.0
_LOG = logging.getLogger(__name__)

BOUNDARIES = LATENCY_EDGES[3::5]  # Prometheus keeps a series per bucket: every fifth of ours is enough


class MetricsExporter:
    """Exports what one replica has done: requests, errors, rows, feedback, weight, and latency by bucket."""

    def __init__(self, service: str, host: Host) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = ("service", "version")
        self._host = host
        self._service = service
        self._seen: dict[int, ArmStats] = {}
        self._requests = Counter("rayline_requests", "Requests answered.", tag_keys=tags)
        self._errors = Counter("rayline_errors", "5xx answers.", tag_keys=tags)
        self._rows = Counter("rayline_rows", "Rows answered.", tag_keys=tags)
        self._feedback = Counter("rayline_feedback_rows", "Rows whose truth arrived.", tag_keys=tags)
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
