"""A process that asks one cluster who it is, and prints the answer as one line of JSON: ``ADDRESS`` is its argument."""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

TIMEOUT_S = 20


def told(address: str) -> dict[str, Any]:
    """Return versions and nodes of a cluster. No driver is registered there."""
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private.services import canonicalize_bootstrap_address
    from ray.autoscaler.v2.sdk import get_cluster_status

    address = canonicalize_bootstrap_address(address) or address
    raylet: Any = importlib.import_module("ray._raylet")
    client = raylet.GcsClient(address=address)
    began = time.monotonic()
    metadata = get_cluster_metadata(client)
    seconds = time.monotonic() - began
    status = get_cluster_status(address, TIMEOUT_S)
    nodes = [
        {"address": node.ip_address, "total": node.total_resources(), "labels": dict(node.labels or {})}
        for node in [*status.active_nodes, *status.idle_nodes]
    ]
    return {"ray": metadata["ray_version"], "python": metadata["python_version"], "nodes": nodes, "seconds": seconds}


def main() -> None:
    """Print the answer, or ``{"error": ...}``."""
    try:
        answer = told(sys.argv[1])
    except Exception as error:  # noqa: BLE001 - told to the parent process
        answer = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
