"""What stands before a run: whether the steps to come find their place, asked before any of them starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rayline import cluster
from rayline.capacity import Capacity, this_machine
from rayline.config import Config
from rayline.errors import NeverFits
from rayline.events import Notice
from rayline.preflight import Held, judged, needs_of, refusal, replicas_of
from rayline.project import Project

STEPS = ("features", "train", "tune", "release")
"""The steps that take something of the cluster."""


def refuse_what_never_fits(project: Project, steps: Collection[str], live: Mapping[str, Any] | None = None) -> None:
    """Refuse before anything starts what the cluster can never hold; tell of what has to wait or to grow.

    Without a cluster that was named or that runs, this machine is what there is, and nothing is started to see it.
    Steps that this project was asked about already are not looked at again.

    Args:
        project: what is to run.
        steps: those of ``STEPS`` that will.
        live: what the project's service says of itself, None where it does not run.

    Raises:
        ClusterError: the cluster cannot be reached.
        NeverFits: it can never hold one of the steps, or does not see the storage folder.
        ConfigError: GPUs are asked for and no trial has one.
    """
    steps = set(steps) - project.looked_at
    project.looked_at |= steps
    held = held_by(project.config, live)
    asked = needs_of(project.config, steps, Capacity("", ()), held)
    if not asked:
        return
    capacity = this_machine() if all(need.here for need in asked) else seen_capacity(project)
    verdicts = judged(needs_of(project.config, steps, capacity, held), capacity)
    if message := refusal(verdicts):
        raise NeverFits(message)
    if not capacity.local:
        refuse_unseen_storage(project, capacity)
    for each in verdicts:
        if each.told:
            project.listener(Notice(f"{each.need.step}: {each.words}"))


def seen_capacity(project: Project) -> Capacity:
    """Return what there is to run on: the cluster that was named or runs already, else this machine.

    Raises ``ClusterError`` where a cluster was named and cannot be reached.
    """
    if not has_cluster(project.config):
        return this_machine()
    from rayline.capacity.reading import of_cluster

    project.open_store_early()
    project.connect()
    return of_cluster(scales=named_cluster() is not None or cluster.alive(project.storage) is None)


def named_cluster() -> str | None:
    """Return the address of the cluster that RAY_ADDRESS names, or None."""
    return os.environ.get("RAY_ADDRESS") or None


def has_cluster(config: Config) -> bool:
    """Tell whether there is a cluster to look at: connected, named by RAY_ADDRESS, or this project's own local one."""
    connected = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    return connected or named_cluster() is not None or cluster.alive(config.storage) is not None


def held_by(config: Config, live: Mapping[str, Any] | None) -> Held:
    """Return what the project's own service has of the cluster."""
    if live is None:
        return Held()
    return Held(True, replicas_of(config.service)[0])


def refuse_unseen_storage(project: Project, capacity: Capacity) -> None:
    """Refuse a local folder as storage where another machine of the cluster does not see it.

    Raises:
        NeverFits: one does not.
    """
    from rayline.capacity.shared_folder import seen_elsewhere

    if "://" in project.config.storage:
        return
    seen = seen_elsewhere(Path(project.config.storage), capacity)
    if seen.blind:
        raise NeverFits(unseen(project.config.storage, seen.blind))


def unseen(storage: str, blind: Collection[str]) -> str:
    """Return what to say of a storage folder that some nodes do not see."""
    return (
        f"nothing was started. storage '{storage}' is a folder of this machine, which {' and '.join(sorted(blind))} "
        "cannot see: steps there would lose what they write. Set 'storage' to an object store (s3://, gs://) or to a "
        "folder that every node mounts."
    )


def steps_to_come(project: Project, until: str) -> list[str]:
    """Return the steps of ``STEPS``, but for the release, that a flow up to ``until`` has still to take."""
    fitting = "tune" if project.config.tune is not None and until != "train" else "train"
    steps = ["features"] if until == "features" else ["features", fitting]
    return [step for step in steps if project.find(step) is None]
