"""How many equal bundles find a place, node by node: a bundle is never divided among nodes.

Bundles of one need are all alike, so that counting is exact: a node holds as many as its scarcest resource allows, and
nothing that is placed on it takes room from another node. Amounts are whole numbers of Ray's smallest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayline.capacity import Capacity, NodeKind, matches, whole

ONE = whole(1)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where bundles find room.

    Attributes:
        free: how many fit into what is free now.
        has: how many fit on the living nodes once everything else has ended.
        reach: how many fit once the autoscaler has added all that it may.
        new: the nodes that must come for the ones that were asked for, by kind, in the order in which they are taken.
    """

    free: int
    has: int
    reach: int
    new: Mapping[str, int] = field(default_factory=dict)


def holds(room: Mapping[str, float], each: Mapping[str, float]) -> int:
    """Return how many bundles one node holds. A bundle that asks for nothing is held any number of times: 10 ** 9."""
    return min((_held(name, room.get(name, 0.0), amount) for name, amount in each.items() if amount), default=10**9)


def _held(name: str, room: float, amount: float) -> int:
    has, asked = whole(room), whole(amount)
    if name == "GPU" and asked < ONE:  # parts of one GPU never lie on two
        return has // ONE * (ONE // asked) + has % ONE // asked
    return has // asked


def place(capacity: Capacity, each: Mapping[str, float], labels: Mapping[str, str], wanted: int) -> Placement:
    """Return where bundles find room on nodes that carry the labels.

    Args:
        capacity: what there is.
        each: what one bundle takes.
        labels: a label selector.
        wanted: for so many bundles the nodes to come are counted; not for more.
    """
    nodes = [node for node in capacity.nodes if matches(labels, node.labels)]
    free = sum(holds(node.free, each) for node in nodes)
    has = sum(holds(node.total, each) for node in nodes)
    kinds = [kind for kind in capacity.kinds if matches(labels, kind.labels) and kind.more and holds(kind.total, each)]
    reach = has + _on_new(capacity, _widest(kinds, each), each, 10**9)[0]
    if wanted <= has or not kinds:
        return Placement(free, has, reach)
    missing = min(wanted, reach) - has
    placed, new = _on_new(capacity, _thriftiest(kinds, each), each, missing)
    if placed < missing:
        placed, new = _on_new(capacity, _widest(kinds, each), each, missing)
    return Placement(free, has, reach, new)


def _widest(kinds: Sequence[NodeKind], each: Mapping[str, float]) -> list[NodeKind]:
    """Return the kinds in the order that places the most on few nodes."""
    return sorted(kinds, key=lambda kind: (-holds(kind.total, each), kind.name))


def _thriftiest(kinds: Sequence[NodeKind], each: Mapping[str, float]) -> list[NodeKind]:
    """Return the kinds as an autoscaler takes them: none with GPUs for what asks for none, where others do."""
    spoiled = {kind.name: bool(kind.total.get("GPU")) and not each.get("GPU") for kind in kinds}
    return sorted(kinds, key=lambda kind: (spoiled[kind.name], -holds(kind.total, each), kind.name))


def _on_new(
    capacity: Capacity, kinds: Sequence[NodeKind], each: Mapping[str, float], wanted: int
) -> tuple[int, dict[str, int]]:
    """Take nodes kind by kind until ``wanted`` bundles are placed; return how many are, and the nodes taken."""
    placed, left, new = 0, capacity.more, dict[str, int]()
    room = {name: max(0, whole(limit) - whole(capacity.has(name))) for name, limit in capacity.limits.items()}
    for kind in kinds:
        on_one = holds(kind.total, each)
        most = [kind.more, left, -(-(wanted - placed) // on_one)]
        most += [room[name] // whole(amount) for name, amount in kind.total.items() if name in room and whole(amount)]
        count = max(0, min(most))
        if count:
            new[kind.name] = count
            left -= count
            placed += count * on_one
            for name in room:
                room[name] -= count * whole(kind.total.get(name, 0.0))
    return placed, new
