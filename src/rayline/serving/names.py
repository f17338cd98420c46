"""What the parts of a service are called: its actor, its application and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayline.cluster import NAMESPACE
from rayline.storage import folder_of


def live_state_name(service: str) -> str:
    """Return the name of a service's live-state actor."""
    return f"live-state:{service}"


def live_state_handle(service: str) -> Any:
    """Return the live-state actor of a service. Raises ``ValueError`` where there is none."""
    import ray

    return ray.get_actor(live_state_name(service), namespace=NAMESPACE)


def service_folder(storage: str | Path, service: str) -> Path:
    """Return the folder of a service's state."""
    return folder_of(storage) / "services" / service


def plan_path(storage: str | Path, service: str) -> Path:
    """Return the file of a service's traffic plan."""
    return service_folder(storage, service) / "plan.json"


def remote_name(service: str, number: int) -> str:
    """Return the name of the application of a version that is placed remote."""
    return f"{service}-v{number}"
