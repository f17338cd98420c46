"""Nodes and kinds of nodes as plain values, and what it means that a node carries a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_ONE_OF = re.compile(r"in\((.*)\)")

Reach = Literal["fixed", "scales", "unknown"]
"""``fixed``: no more nodes come. ``scales``: an autoscaler adds those of ``kinds``. ``unknown``: it may, and its
settings could not be read."""


@dataclass(frozen=True, slots=True)
class Node:
    """One living node.

    Attributes:
        name: its address.
        kind: the autoscaler's name of its kind, empty where it has none.
        total, free: resource name to amount: CPUs, GPUs, bytes of ``memory`` and ``object_store_memory``, others.
        labels: all of them, Ray's own too.
        head: whether it is the cluster's head.
        host: the name of the machine that it is on; several nodes may share one.
        id: Ray's, in hexadecimal; empty for this machine before a cluster runs on it.
    """

    name: str
    kind: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    head: bool = False
    host: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """A kind of node that an autoscaler starts: what each has, and how many more of it may come.

    Attributes:
        most: of this kind at once.
        running: of this kind now.
    """

    name: str
    total: Mapping[str, float]
    labels: Mapping[str, str]
    most: int
    running: int = 0

    @property
    def more(self) -> int:
        """How many the autoscaler may add."""
        return max(0, self.most - self.running)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a cluster has and can reach.

    Attributes:
        where: what messages call it: ``this machine`` or ``the cluster at 10.0.0.1:6379``.
        nodes: those that live.
        kinds: those that the autoscaler may add; a kind of which none may come is listed too.
        more: nodes of all kinds together that may still come.
        limits: the most of a resource that the autoscaler lets the whole cluster have; none is most often set.
        reach: whether more nodes come.
        why: of an unknown reach, why.
        gpus_here: GPUs of the driver's own machine.
    """

    where: str
    nodes: tuple[Node, ...]
    kinds: tuple[NodeKind, ...] = ()
    more: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    reach: Reach = "fixed"
    why: str = ""
    gpus_here: int = 0

    @property
    def local(self) -> bool:
        """Whether this is the driver's own machine, on which no cluster runs yet."""
        return not any(node.id for node in self.nodes)

    def has(self, resource: str) -> float:
        """Return how much of a resource the living nodes have together."""
        return sum(node.total.get(resource, 0.0) for node in self.nodes)

    def free(self, resource: str) -> float:
        """Return how much of it is free."""
        return sum(node.free.get(resource, 0.0) for node in self.nodes)

    def can_reach(self, resource: str) -> float:
        """Return how much of it there can be once the autoscaler has added all that it may."""
        has, left, more = self.has(resource), self.more, 0.0
        for each in sorted((kind.total.get(resource, 0.0), kind.more) for kind in self.kinds)[::-1]:
            taken = min(left, each[1])
            left -= taken
            more += taken * each[0]
        return min(has + more, max(has, self.limits.get(resource, has + more)))


def whole(amount: float) -> int:
    """Return an amount in ten-thousandths, which is how Ray counts: sums of them are exact."""
    return round(amount * 10_000)


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether a node with these labels is one that Ray's label selector asks for.

    A value reads ``tier-1``, ``!tier-1``, ``in(a, b)`` or ``!in(a, b)``; a label that a node lacks is none of them.
    """
    return all(_carries(labels.get(key), wanted) for key, wanted in selector.items())


def _carries(label: str | None, wanted: str) -> bool:
    refused = wanted.startswith("!")
    bare = wanted.removeprefix("!").strip()
    listed = _ONE_OF.fullmatch(bare)
    values = {each.strip() for each in listed[1].split(",")} if listed else {bare}
    return (label not in values) if refused else (label in values)
