"""The rollout's controller is killed in the middle, on a live service under load: it comes back and finishes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayline import cluster, config, flow, release
from rayline.config import Config
from rayline.demo.clients import Clients
from rayline.errors import RolloutRefused
from rayline.features.prepared import Prepared
from rayline.rollout import commands
from rayline.rollout.state import RolloutState

NAME = "wine"
ANALYSIS = {
    "interval": 0.5,
    "count": 6,
    "inconclusive_limit": 200,
    "metrics": [{"measure": "error_rate", "max": 0.01, "minimum_samples": 20}],
}


def settings(folder: Path, port: int, **changes: Any) -> Config:
    return config.parse(
        {
            "name": NAME,
            "data": {"source": "sklearn:wine"},
            "features": {"target": "target"},
            "model": {"hidden": [8]},
            "train": {"epochs": 10, "batch_size": 16, "learning_rate": 0.01},
            "service": {"port": port, "replicas": 2, "num_cpus": 0.25},
            "rollout": {"strategy": "canary", "analysis": ANALYSIS},
            "storage": str(folder),
            **changes,
        }
    )


X
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


def controller_pid() -> int | None:
    from ray.util.state import list_actors

    found = [actor for actor in list_actors(filters=[("state", "=", "ALIVE")]) if "ontroller" in actor.class_name]
    ours = [actor for actor in found if (actor.name or "").endswith(f":{NAME}")]
    return int(ours[0].pid) if ours else None
