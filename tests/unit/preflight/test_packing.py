"""Bundles are counted exactly: what fits can be laid out node by node, and what is refused cannot in any way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rayline.capacity import Capacity, Node, NodeKind
from rayline.preflight import Need, judge
from rayline.preflight.packing import holds, place

AMOUNTS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
LABELS = st.sampled_from([{}, {"tier": "batch"}, {"tier": "web"}])
RESOURCES = st.fixed_dictionaries({"CPU": AMOUNTS, "GPU": st.sampled_from([0.0, 1.0, 2.0])})


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    total = draw(RESOURCES)
    free = {name: draw(st.sampled_from([amount, amount / 2, 0.0])) for name, amount in total.items()}
    return Node("n", "", total, free, draw(LABELS), id="n")


@st.composite
def capacities(draw: st.DrawFn) -> Capacity:
    there = tuple(draw(st.lists(nodes(), min_size=1, max_size=3)))
    count = draw(st.integers(0, 2))
    kinds = tuple(NodeKind(f"kind-{at}", draw(RESOURCES), draw(LABELS), draw(st.integers(0, 2))) for at in range(count))
    more = draw(st.integers(0, 3)) if kinds else 0
    return Capacity("the cluster", there, kinds, more, reach="scales" if kinds else "fixed")


@st.composite
def needs(draw: st.DrawFn) -> Need:
    each = draw(
        st.sampled_from([{"CPU": 0.5}, {"CPU": 1.0}, {"CPU": 3.0}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 0.5, "GPU": 0.5}])
    )
    least = draw(st.integers(1, 4))
    keeps = draw(st.sampled_from([{}, {"CPU": 1.0}]))
    reserve = draw(st.sampled_from([0.0, 0.0, 1.5]))
    return Need("train", "worker", each, least, least, "x", draw(LABELS), keeps, reserve, by="y")


def tried(rooms: list[Mapping[str, float]], each: Mapping[str, float], count: int) -> bool:
    """Tell whether bundles can be laid out, by putting them down one by one; GPUs are single devices."""
    laid = 0
    for room in rooms:
        cpus, devices = room.get("CPU", 0.0), [1.0] * int(room.get("GPU", 0.0))
        while laid < count and cpus + 1e-9 >= each.get("CPU", 0.0):
            wanted = each.get("GPU", 0.0)
            spot = next((at for at, left in enumerate(devices) if left + 1e-9 >= wanted), None)
            if wanted and spot is None:
                break
            if spot is not None:
                devices[spot] -= wanted
            cpus -= each.get("CPU", 0.0)
            laid += 1
    return laid >= count


def grown(capacity: Capacity) -> list[list[NodeKind]]:
    """Return every set of nodes that the autoscaler may add."""
    return [
        [kind for kind, count in zip(capacity.kinds, counts, strict=True) for _ in range(count)]
        for counts in itertools.product(*(range(kind.more + 1) for kind in capacity.kinds))
        if sum(counts) <= capacity.more
    ]


def possible(need: Need, capacity: Capacity) -> bool:
    """Tell by trying everything whether a need can ever be met, once all others but the service have ended."""
    top = capacity.can_reach("CPU")
    for added in grown(capacity):
        places = [*capacity.nodes, *added]
        rooms = [each.total for each in places if need.labels.items() <= each.labels.items()]
        cpus = sum(each.total.get("CPU", 0.0) for each in places)
        left = cpus - need.least * need.each["CPU"] - need.keeps.get("CPU", 0.0) - min(need.reserve, top)
        if left >= -1e-9 and tried(rooms, need.each, need.least):
            return True
    return False


@given(needs(), capacities())
def test_never_is_said_of_what_cannot_be_laid_out_in_any_way_and_of_nothing_else(
    need: Need, capacity: Capacity
) -> None:
    in_use = capacity.has("CPU") - capacity.free("CPU")
    need = replace(need, keeps={name: min(amount, in_use) for name, amount in need.keeps.items()})  # the service runs
    verdict = judge(need, capacity)
    if verdict.refused:
        assert not possible(need, capacity), verdict.words
        assert verdict.way_out
    elif verdict.outcome in ("fits", "waits"):
        assert possible(need, Capacity(capacity.where, capacity.nodes)), verdict.words
    assert verdict.words


@given(needs(), capacities())
def test_what_fits_can_be_laid_out_in_what_is_free_now(need: Need, capacity: Capacity) -> None:
    if judge(need, capacity).outcome == "fits":
        free = [node.free for node in capacity.nodes if need.labels.items() <= node.labels.items()]
        whole_gpus = all(float(room.get("GPU", 0.0)).is_integer() for room in free)
        assert not whole_gpus or tried(free, need.each, need.least)


@given(needs(), capacities())
def test_the_nodes_that_are_asked_for_may_come_and_are_enough(need: Need, capacity: Capacity) -> None:
    found = place(capacity, need.each, need.labels, need.least)
    new = [kind for kind in capacity.kinds for _ in range(found.new.get(kind.name, 0))]
    assert len(new) <= capacity.more
    assert all(found.new.get(kind.name, 0) <= kind.more for kind in capacity.kinds)
    if found.has < need.least <= found.reach:
        rooms = [each.total for each in [*capacity.nodes, *new] if need.labels.items() <= each.labels.items()]
        assert tried(rooms, need.each, need.least)
        for kind in set(found.new):  # none of them is one too many
            fewer = list(new)
            fewer.remove(next(each for each in new if each.name == kind))
            rest = [each.total for each in [*capacity.nodes, *fewer] if need.labels.items() <= each.labels.items()]
            assert not tried(rest, need.each, need.least) or len(found.new) > 1


def test_parts_of_a_gpu_do_not_lie_on_two() -> None:
    assert holds({"GPU": 2.0}, {"GPU": 0.6}) == 2
    assert holds({"GPU": 2.0}, {"GPU": 0.5}) == 4
    assert holds({"CPU": 1.0}, {"CPU": 0.1}) == 10  # without the rounding of binary fractions
    assert holds({"CPU": 1.0}, {}) > 10**6


def test_limits_of_the_whole_cluster_hold() -> None:
    kind = NodeKind("big", {"CPU": 8.0}, {}, 10)
    capacity = Capacity("c", (Node("h", "", {"CPU": 1.0}, {}, id="h"),), (kind,), 10, {"CPU": 17.0}, "scales")
    assert capacity.can_reach("CPU") == 17.0
    assert place(capacity, {"CPU": 8.0}, {}, 5).reach == 2
