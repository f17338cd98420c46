"""Who may take how much of a cluster that training shares with services. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rayline.capacity import Capacity, Node, matches
from rayline.preflight.packing import holds

BLINDLY = 64
"""How many are asked for at most of an autoscaler that does not tell what it can reach."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What services have of the cluster, in CPUs.

    Attributes:
        held: by replicas that have a place.
        waiting: asked for by replicas that have none yet.
        growth: what their autoscaling may ask for beyond ``held``, the waiting ones included.
    """

    held: float = 0.0
    waiting: float = 0.0
    growth: float = 0.0


@dataclass(frozen=True, slots=True)
class Floor:
    """What is left to the services.

    Attributes:
        reserve: ``cluster.reserve_cpus``: so many CPUs beyond what they had at first; None leaves all their growth.
        before: what they had when the training began.
    """

    reserve: float | None = None
    before: float = 0.0

    def kept(self, neighbours: Neighbours) -> float:
        """Return the CPUs that stay free for them. What they have taken of the reserve is not kept twice."""
        if self.reserve is None:
            return neighbours.growth
        return max(0.0, self.reserve - max(0.0, neighbours.held - self.before))


@dataclass(frozen=True, slots=True)
class Share:
    """How many workers a training may have.

    Attributes:
        now: on the nodes that there are, those that it has included.
        most: once the autoscaler has added what it may.
        kept: CPUs that are left to services.
        pressed: whether a replica waits for room that workers have.
        per_node: how many fit on one of the nodes that may still come.
        grows: whether nodes may come.
    """

    now: int
    most: int
    kept: float = 0.0
    per_node: int = 0
    grows: bool = False
    pressed: bool = False

    def nodes_for(self, workers: int) -> int:
        """Return how many nodes must come for so many workers more."""
        return math.ceil(workers / self.per_node) if self.per_node else 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What one worker takes, and where it may be.

    Attributes:
        each: resource name to amount; nothing that is 0.
        train_on, serve_on: labels that nodes of training and of services carry.
    """

    each: Mapping[str, float]
    train_on: Mapping[str, str] = field(default_factory=dict)
    serve_on: Mapping[str, str] = field(default_factory=dict)


def share(capacity: Capacity, needs: Needs, ours: int, neighbours: Neighbours, floor: Floor) -> Share:
    """Return how many workers may be had, services left what is theirs.

    A replica that waits is given way to as far as one worker remains; what is reserved is left in any case.

    Args:
        capacity: the cluster; ``ours`` of the workers are on it by now, and not in what is free.
        needs: of one worker.
        neighbours, floor: the services, and what is left to them.
    """
    mine = [node for node in capacity.nodes if matches(needs.train_on, node.labels)]
    whole = sum(holds(node.total, needs.each) for node in mine)
    fits = min(whole, ours + sum(holds(node.free, needs.each) for node in mine))  # what is free is told a little late
    kept = _to_keep(capacity, needs, floor.kept(neighbours))
    cpus = sum(node.free.get("CPU", 0.0) for node in mine) + ours * needs.each.get("CPU", 0.0)
    waiting = _to_keep(capacity, needs, neighbours.waiting)
    more, more_cpus, per_node = _may_come(capacity, needs)

    def within(all_cpus: float) -> int:
        beside = _within(all_cpus - kept, needs)
        return beside if waiting <= kept else min(beside, max(1, _within(all_cpus - waiting, needs)))

    now = min(fits, within(cpus))
    most = max(now, min(fits + more, within(cpus + more_cpus)))
    pressed = waiting > 0
    if capacity.reach == "unknown":
        return Share(now, max(most, BLINDLY), kept, 1, True, pressed)
    return Share(now, most, kept, per_node, more > 0, pressed)


def _to_keep(capacity: Capacity, needs: Needs, asked: float) -> float:
    """Return how many CPUs to leave on the nodes of training: services first take what only they may have."""
    theirs = [node for node in capacity.nodes if matches(needs.serve_on, node.labels)]
    apart = [node for node in theirs if not matches(needs.train_on, node.labels)]
    shared = [node for node in theirs if matches(needs.train_on, node.labels)]
    left = max(0.0, asked - sum(node.free.get("CPU", 0.0) for node in apart))
    coming = any(
        kind.more and matches(needs.serve_on, kind.labels) and matches(needs.train_on, kind.labels)
        for kind in capacity.kinds
    )
    return left if coming else min(left, _total(shared))


def _total(nodes: list[Node]) -> float:
    return sum(node.total.get("CPU", 0.0) for node in nodes)


def _within(cpus: float, needs: Needs) -> int:
    """Return how many workers so many CPUs are for; as many as one likes where they take none."""
    each = needs.each.get("CPU", 0.0)
    return max(0, int(cpus / each + 1e-9)) if each else 1_000_000


def _may_come(capacity: Capacity, needs: Needs) -> tuple[int, float, int]:
    """Return how many workers nodes that may come have room for, their CPUs, and how many the best node takes."""
    kinds = [kind for kind in capacity.kinds if kind.more and matches(needs.train_on, kind.labels)]
    left, workers, cpus, best = capacity.more, 0, 0.0, 0
    for kind in sorted(kinds, key=lambda kind: -holds(kind.total, needs.each)):
        fits = holds(kind.total, needs.each)
        taken = min(left, kind.more)
        left -= taken
        workers += taken * fits
        cpus += taken * kind.total.get("CPU", 0.0)
        best = max(best, fits)
    return workers, cpus, best
