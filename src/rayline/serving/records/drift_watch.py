"""Shows the drift of a service's versions as gauges, from the counts that its live state holds anyway."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from rayline import meters
from rayline.serving.records.drift import Drift, drift_of
from rayline.serving.records.observation import Observation
from rayline.serving.records.yardstick import Yardstick
from rayline.serving.traffic.plan import TrafficPlan

EVERY_SECONDS = 5.0
WINDOW_SECONDS = 600.0
_LOG = logging.getLogger(__name__)


class DriftWatch:
    """Looks every few seconds at what a service has done in the last minutes.

    Args:
        look: gives the plan and the counts of now; None where there is no plan yet.
        yardstick: gives what the rows are counted by.
    """

    def __init__(
        self, look: Callable[[], tuple[TrafficPlan, Observation] | None], yardstick: Callable[[str], Yardstick]
    ) -> None:
        self._look = look
        self._yardstick = yardstick
        self._seen: deque[Observation] = deque(maxlen=int(WINDOW_SECONDS / EVERY_SECONDS))

    def start(self) -> None:
        """Begin, in a thread that keeps no process alive."""
        threading.Thread(target=self._run, name="rayline-drift", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(EVERY_SECONDS)
            try:
                self.step()
            except Exception:  # noqa: BLE001 - a service has its live state without these gauges; the next look tries again
                _LOG.debug("the drift of a service could not be shown", exc_info=True)

    def step(self) -> None:
        """Look once, and show what was found."""
        found = self._look()
        if found is None:
            return
        plan, now = found
        earliest = self._seen[0] if self._seen else None
        self._seen.append(now)
        stats = {number: each for number, each in now.since(earliest).items() if number in plan.numbers}
        _show(plan.service, drift_of(stats, plan.stable, self._yardstick(plan.service)))


def _show(service: str, drifts: dict[int, Drift]) -> None:
    told: set[meters.Key] = set()
    for number, drift in drifts.items():
        version = str(number)
        for column, value in drift.columns.items():
            told.add(("rayline_feature_drift", (service, version, column)))
            meters.show("rayline_feature_drift", value, service=service, version=version, column=column)
        if drift.predictions is not None:
            told.add(("rayline_prediction_drift", (service, version)))
            meters.show("rayline_prediction_drift", drift.predictions, service=service, version=version)
    for gauge, values in meters.shown():
        if gauge in ("rayline_feature_drift", "rayline_prediction_drift") and (gauge, values) not in told:
            labels: dict[str, str] = dict(zip(meters.GAUGES[gauge][1], values, strict=True))
            meters.hide(gauge, **labels)
