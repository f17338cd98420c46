"""Gauges for Prometheus of what a process does now: kept here at once, told to Ray's metrics in the background.

Ray forgets a gauge that is not told again within two of its report intervals, so that nothing stays of a process that
has died; a thread tells all of them once a second. Whoever calls ``show`` writes one entry of a dictionary: no call
waits, and none fails, whatever becomes of the metrics. Without a Ray cluster nobody hears them.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import time
from typing import Any

EVERY_SECONDS = 1.0
LINGER_SECONDS = 60.0
"""For which a hidden series is still told: a report comes every 10 seconds, and a scrape as often."""
MOST_SERIES = 500
"""That one process shows; more than these are left out, as each is a series of Prometheus."""

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "rayline_train_epoch": ("Epochs that the training has finished.", ("project",)),
    "rayline_train_epochs": ("Epochs that it will have at most.", ("project",)),
    "rayline_train_rows_per_second": ("Training rows per second, of the last epoch.", ("project",)),
    "rayline_train_metric": ("A metric of the last epoch, such as train_loss.", ("project", "metric")),
    "rayline_study_trials": ("Trials of the Study by state: running, finished, stopped, failed.", ("project", "state")),
    "rayline_study_planned_trials": ("Trials that the Study will have at most.", ("project",)),
    "rayline_study_best": ("The best value of a metric among the trials that ended.", ("project", "metric")),
    "rayline_rollout_phase": ("1 for the phase that the rollout is in.", ("service", "phase")),
    "rayline_rollout_step": ("The step that the rollout is at, from 1; 0 before the first.", ("service",)),
    "rayline_rollout_steps": ("Steps of its plan.", ("service",)),
    "rayline_rollout_canary_percent": ("Percent of the traffic that the canary is to have.", ("service", "version")),
    "rayline_rollout_verdicts": ("Analyses of the rollout that ended, by verdict.", ("service", "verdict")),
    "rayline_feature_drift": (
        "Distance of a live input column from training, 0 to 1 (Jensen-Shannon), over the last minutes.",
        ("service", "version", "column"),
    ),
    "rayline_prediction_drift": (
        "Distance of a version's predictions from the stable one's, 0 to 1 (Jensen-Shannon), over the last minutes.",
        ("service", "version"),
    ),
}
"""Name, without the ``ray_`` that Ray puts before it, to what it tells and its labels."""

Key = tuple[str, tuple[str, ...]]

_LOG = logging.getLogger(__name__)
_shown: dict[Key, tuple[float, float]] = {}
_made: dict[str, Any] = {}
_lock = threading.Lock()
_thread: list[threading.Thread] = []


def show(gauge: str, value: float, **labels: str) -> None:
    """Have a gauge tell a value from now on. Costs a microsecond, and never fails for want of a cluster.

    Args:
        gauge: one of ``GAUGES``.
        value: in the unit that its name ends in.
        labels: all that the gauge has.

    Raises:
        KeyError: there is no such gauge, or a label is missing.
    """
    key = _key(gauge, labels)
    if key in _shown or len(_shown) < MOST_SERIES:
        _shown[key] = (float(value), float("inf"))
    if not _thread:
        _begin()


def hide(gauge: str, after: float = LINGER_SECONDS, /, **labels: str) -> None:
    """Have the series of a gauge that carry these labels, all of them by default, end in so many seconds."""
    names, until = GAUGES[gauge][1], time.monotonic() + after
    for key, (value, ends) in list(_shown.items()):
        if key[0] == gauge and ends > until and all(key[1][names.index(name)] == text for name, text in labels.items()):
            _shown[key] = (value, until)


def shown() -> dict[Key, float]:
    """Return what is told at this moment: gauge and values of its labels, to its value."""
    now = time.monotonic()
    return {key: value for key, (value, until) in list(_shown.items()) if until > now}


def tell() -> int:
    """Tell Ray's metrics everything, once; return how many series. Does nothing where no cluster is connected."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return 0
    now = time.monotonic()
    for key, (_, until) in list(_shown.items()):
        if until <= now:
            _shown.pop(key, None)
    told = shown()
    for (gauge, values), value in told.items():
        names = GAUGES[gauge][1]
        if gauge not in _made:
            metrics = importlib.import_module("ray.util.metrics")
            _made[gauge] = metrics.Gauge(gauge, GAUGES[gauge][0], tag_keys=names)
        _made[gauge].set(value, tags=dict(zip(names, values, strict=True)))
    return len(told)


def _key(gauge: str, labels: dict[str, str]) -> Key:
    return gauge, tuple(labels[name] for name in GAUGES[gauge][1])


def _begin() -> None:
    with _lock:
        if not _thread:
            _thread.append(threading.Thread(target=_run, name="rayline-meters", daemon=True))
            _thread[0].start()


def _run() -> None:
    failed = False
    while True:
        time.sleep(EVERY_SECONDS)
        try:
            tell()
        except Exception:  # noqa: BLE001 - work goes on without its gauges; the next round tries again
            if not failed:
                _LOG.warning("gauges could not be told to Ray's metrics; more such failures are passed over.")
            failed = True
