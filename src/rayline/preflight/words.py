"""How a verdict is said: a need, the room for it, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rayline.capacity import Capacity, Node, NodeKind, matches
from rayline.errors import suggestion
from rayline.preflight.needs import Need
from rayline.preflight.packing import holds

Place = Node | NodeKind
OWN_LABELS = "ray.io/node-id"


def counted(need: Need, count: int) -> str:
    """Return so many bundles of a need: ``3 trials``."""
    return f"{count} {need.what}{'s' * (count != 1)}"


def amounts(of: Mapping[str, float]) -> str:
    """Return amounts of resources: ``2 CPUs and 1 GPU``."""
    return " and ".join(f"{amount:g} {_unit(name, amount)}" for name, amount in of.items())


def asks(need: Need) -> str:
    """Return what a need takes at the least."""
    if need.least == 1:
        return f"a {need.what} needs {amounts(need.each)}"
    together = {name: amount * need.least for name, amount in need.each.items()}
    return f"{counted(need, need.least)} of {amounts(need.each)} each need {amounts(together)}"


def room(need: Need, capacity: Capacity) -> str:
    """Return how much is free of each resource that a need asks for: ``1.5 of 2 CPUs``."""
    return " and ".join(f"{capacity.free(name):g} of {capacity.has(name):g} {_unit(name)}" for name in need.each)


def nodes(new: Mapping[str, int], capacity: Capacity) -> str:
    """Return nodes that must come, and how many of their kinds may."""
    if not new:
        return "nodes more, for the CPUs that stay free"
    may = {kind.name: min(kind.more, capacity.more) for kind in capacity.kinds}
    return " and ".join(
        f"{many} node{'s' * (many != 1)} more of type {name} (the autoscaler may add {may[name]})"
        for name, many in new.items()
    )


def never(need: Need, capacity: Capacity, reach: int, short: Mapping[str, float]) -> str:
    """Return why a need is never met.

    Args:
        need: it.
        capacity: what there is.
        reach: how many of its bundles find room in the end.
        short: of which resources all that can be reached is too little, and by how much.
    """
    places = _places(capacity)
    fitting = [each for each in places if matches(need.labels, each.labels)]
    if need.labels and not fitting:
        return _no_label(need, places)
    if short:
        subject = "this machine has" if capacity.local else "this cluster can reach"
        return f"needs {amounts(short)} more than {subject}: {asks(need)}{_beside(need)}; {_reached(short, capacity)}"
    for name, amount in need.each.items():
        if not any(holds(place.total, {name: amount}) for place in fitting):
            largest = max(place.total.get(name, 0.0) for place in fitting)
            which = "the largest node that it can reach" if capacity.kinds else "the largest node"
            whole = f"{capacity.can_reach(name):g} in all"
            return f"a {need.what} needs {amounts({name: amount})} on one node, and {which} has {largest:g} ({whole})"
    found = f"only {reach} find room" if reach else "no node has all of that"
    return f"{asks(need)}, each on one node, and {found}{_labelled(need)}"


def way_out(need: Need, capacity: Capacity) -> str:
    """Return what to do about a need that is never met."""
    if need.labels and not any(matches(need.labels, each.labels) for each in _places(capacity)):
        return f"Change {need.by}, or start a node with that label (ray start --labels)."
    if capacity.local:
        add = "use a larger machine or a cluster"
    else:
        add = "let the autoscaler add more (max_workers)" if capacity.kinds else "add nodes"
    return f"Lower {need.setting}, or {add}."


def _unit(name: str, amount: float = 2) -> str:
    return f"{name}s" if name in ("CPU", "GPU") and not 0 < amount <= 1 else name


def _places(capacity: Capacity) -> list[Place]:
    return [*capacity.nodes, *(kind for kind in capacity.kinds if kind.more)]


def _beside(need: Need) -> str:
    kept = {name: amount for name, amount in need.keeps.items() if amount and name in need.each}
    parts = [f"{amounts(kept)} that the service has"] if kept else []
    if need.reserve and "CPU" in need.each:
        parts.append(f"{amounts({'CPU': need.reserve})} that stay free for it (cluster.reserve_cpus)")
    return f", beside {' and '.join(parts)}" if parts else ""


def _reached(short: Mapping[str, float], capacity: Capacity) -> str:
    owner = "it has" if capacity.local else "its nodes have"
    has = amounts({name: capacity.has(name) for name in short})
    if not capacity.kinds:
        return f"{owner} {has}"
    more = amounts({name: capacity.can_reach(name) - capacity.has(name) for name in short})
    return f"{owner} {has}, and its autoscaler adds at most {more}"


def _labelled(need: Need) -> str:
    return f" on nodes with {', '.join(f'{key}: {value}' for key, value in need.labels.items())}" if need.labels else ""


def _no_label(need: Need, places: Sequence[Place]) -> str:
    def carried(key: str, value: str) -> bool:
        return any(matches({key: value}, place.labels) for place in places)

    lacking = {key: value for key, value in need.labels.items() if not carried(key, value)} or need.labels
    asked = " and ".join(f"'{key}: {value}'" for key, value in lacking.items())
    known = {f"{key}: {label}" for place in places for key, label in place.labels.items() if key != OWN_LABELS}
    near = suggestion(asked.strip("'"), known) if known else "There is no label at all"
    return f"no node has or can have the label {asked} ({need.by}). {near}".rstrip(".")
