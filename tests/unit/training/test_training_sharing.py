"""Who may have how much of a cluster: trainings leave services what is theirs, and count node by node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.capacity import Capacity, Node, NodeKind
from rayline.training.neighbours import counted
from rayline.training.sharing import Floor, Needs, Neighbours, Share, share

ONE = Needs({"CPU": 1.0})
NOBODY = Neighbours()
NO_FLOOR = Floor(0.0)


def node(total: float, free: float | None = None, **labels: str) -> Node:
    return Node("n", "", {"CPU": total}, {"CPU": total if free is None else free}, labels)


def cluster(*nodes: Node, kinds: tuple[NodeKind, ...] = (), more: int = 0, reach: Any = "fixed") -> Capacity:
    return Capacity("here", nodes, kinds, more, reach="scales" if kinds else reach)


def kind(cpus: float, most: int, running: int = 0, **labels: str) -> NodeKind:
    return NodeKind("cpu", {"CPU": cpus}, labels, most, running)


def test_a_worker_is_never_divided_among_nodes() -> None:
    found = share(cluster(node(1.5), node(1.5)), Needs({"CPU": 2.0}), 0, NOBODY, NO_FLOOR)
    assert (found.now, found.most, found.grows) == (0, 0, False)
    assert share(cluster(node(1.5), node(1.5)), ONE, 0, NOBODY, NO_FLOOR).now == 2


def test_a_cluster_without_nodes_that_scales_offers_what_may_come() -> None:
    empty = cluster(node(0), kinds=(kind(2, 3), kind(8, 1)), more=2)
    found = share(empty, ONE, 0, NOBODY, NO_FLOOR)
    assert found == Share(now=0, most=10, per_node=8, grows=True)
    assert (found.nodes_for(4), found.nodes_for(9)) == (1, 2)


def test_what_may_come_counts_only_where_it_carries_the_labels() -> None:
    needs = Needs({"CPU": 1.0}, train_on={"role": "train"})
    found = share(cluster(node(4), kinds=(kind(2, 2), kind(2, 1, role="train")), more=3), needs, 0, NOBODY, NO_FLOOR)
    assert (found.now, found.most) == (0, 2)


def test_trials_take_what_the_reserve_leaves() -> None:
    eight = cluster(node(4), node(4))
    found = share(eight, Needs({"CPU": 2.0}), 0, NOBODY, Floor(3.0))
    assert (found.now, found.most, found.kept) == (2, 2, 3.0)


def test_what_a_service_has_taken_of_the_reserve_is_not_kept_twice() -> None:
    floor = Floor(2.0, before=0.5)
    assert floor.kept(Neighbours(held=0.5)) == 2.0
    assert floor.kept(Neighbours(held=1.5)) == 1.0
    assert floor.kept(Neighbours(held=9.0)) == 0.0
    # All of it taken: as many trials as when nothing was.
    before = share(cluster(node(4, 3.5)), ONE, 0, Neighbours(held=0.5), floor)
    after = share(cluster(node(4, 0.5)), ONE, 1, Neighbours(held=2.5), floor)
    assert before.now == after.now == 1


def test_without_a_number_the_growth_of_autoscaled_services_is_kept() -> None:
    found = share(cluster(node(4, 3)), ONE, 0, Neighbours(held=1, growth=2), Floor(None))
    assert (found.now, found.kept) == (1, 2.0)


def test_services_on_nodes_of_their_own_take_nothing_from_training() -> None:
    needs = Needs({"CPU": 1.0}, train_on={"role": "train"}, serve_on={"role": "serve"})
    apart = cluster(node(4, role="train"), node(2, role="serve"))
    assert share(apart, needs, 0, NOBODY, Floor(4.0)).now == 4
    partly = Needs({"CPU": 1.0}, train_on={"role": "train"})  # services may be anywhere: their own nodes come first
    assert share(apart, partly, 0, NOBODY, Floor(4.0)).now == 2


def test_a_replica_that_waits_is_given_way_to_until_one_worker_is_left() -> None:
    full = cluster(node(4, 0))
    assert share(full, ONE, 4, Neighbours(waiting=2), NO_FLOOR) == Share(2, 2, pressed=True)
    assert share(full, ONE, 4, Neighbours(waiting=9), NO_FLOOR).now == 1
    assert share(full, ONE, 4, NOBODY, Floor(4.0)).now == 0  # what is reserved is kept in any case


def test_an_unknown_reach_is_asked_for() -> None:
    found = share(cluster(node(0), reach="unknown"), ONE, 0, NOBODY, NO_FLOOR)
    assert found.now == 0
    assert found.grows
    assert found.most >= 16


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=5),
    st.integers(0, 6),
    st.floats(0, 12),
    st.floats(0.25, 3),
)
def test_the_floor_always_stays_free(nodes: list[tuple[int, int]], ours: int, reserve: float, each: float) -> None:
    there = cluster(*(node(max(pair), min(pair)) for pair in nodes))
    found = share(there, Needs({"CPU": each}), ours, NOBODY, Floor(reserve))
    free = sum(min(pair) for pair in nodes) + ours * each
    assert 0 <= found.now <= found.most
    kept = min(reserve, sum(max(pair) for pair in nodes))
    assert found.now == 0 or free - found.now * each >= kept - 1e-6


def test_what_serve_tells_is_counted_in_cpus() -> None:
    def deployment(cpus: float | None, target: int, nodes: list[str | None], most: int | None = None) -> dict[str, Any]:
        scaling = {"autoscaling_config": {"max_replicas": most}} if most else {}
        options = {} if cpus is None else {"num_cpus": cpus}
        return {
            "target_num_replicas": target,
            "deployment_config": {"ray_actor_options": options, **scaling},
            "replicas": [{"node_id": each} for each in nodes],
        }

    churn = {"deployments": {"replica": deployment(0.5, 3, ["a", "b", None], most=6)}}
    other = {"deployments": {"model": deployment(None, 1, ["a"])}}
    assert counted({"applications": {"churn": churn, "other": other}}) == Neighbours(held=2.0, waiting=0.5, growth=2.0)
    assert counted({}) == NOBODY


@pytest.mark.parametrize("waiting", [0.0, 1.0])
def test_pressure_is_told_only_while_a_replica_waits(waiting: float) -> None:
    assert share(cluster(node(2, 1)), ONE, 1, Neighbours(waiting=waiting), NO_FLOOR).pressed == bool(waiting)
