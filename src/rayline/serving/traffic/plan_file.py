"""What the live state keeps on disk: its traffic plan, the highest fence that it saw, and who its replicas are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline import storage
from rayline.errors import ServiceError
from rayline.serving.traffic.plan import TrafficPlan
from rayline.storage.places import own

ROSTER = "replicas.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """What was read back.

    Attributes:
        plan: the traffic plan; None before the first.
        fence: the highest fencing number that a changing call carried; 0 where none did.
    """

    plan: TrafficPlan | None
    fence: int


class PlanFile:
    """The files of one service's live state. What is written is there whole, and on the disk, or not at all."""

    def __init__(self, path: Path) -> None:
        """Use ``path`` for the plan and a file beside it for the replicas."""
        self._path = own(path)

    def read(self) -> Kept:
        """Return what was kept. Raises ``ServiceError`` where the file is damaged."""
        try:
            raw = json.loads(storage.refresh(self._path).read_text(encoding="utf-8"))
            return Kept(TrafficPlan.from_json(raw), int(raw.get("fence", 0)))
        except FileNotFoundError:
            return Kept(None, 0)
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"traffic plan '{self._path}' is damaged: {error}. Delete it and deploy again."
            ) from error

    def write(self, plan: TrafficPlan, fence: int) -> None:
        """Keep a plan and a fence."""
        _write(self._path, {**plan.to_json(), "fence": fence}, sync=True)

    def read_roster(self) -> dict[str, str]:
        """Return the replicas that were alive last, each with the name of its actor; none where that is not known."""
        try:
            raw = json.loads(storage.refresh(self._path.parent / ROSTER).read_text(encoding="utf-8"))
            return {str(name): str(actor) for name, actor in raw.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def write_roster(self, replicas: Mapping[str, str]) -> None:
        """Keep who is alive. It need not outlive the machine: the replicas would not either."""
        _write(self._path.parent / ROSTER, dict(replicas), sync=False)


def _write(path: Path, raw: Mapping[str, Any], *, sync: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(raw, file, indent=2)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    draft.replace(path)
    if sync:
        storage.keep(path)
    else:
        storage.keep_soon(path)
