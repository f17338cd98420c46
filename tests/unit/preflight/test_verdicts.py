"""A verdict says its inequality in words, and the way out."""

from __future__ import annotations

from typing import Any

import pytest

from rayline import config
from rayline.capacity import Capacity, Node, NodeKind, matches
from rayline.config import Config
from rayline.errors import ConfigError
from rayline.preflight import Held, Verdict, judged, needs_of, refusal


def node(cpus: float, gpus: float = 0, free: float | None = None, **labels: str) -> Node:
    total = {"CPU": cpus, "GPU": gpus}
    return Node("10.0.0.1", "", total, {**total, "CPU": cpus if free is None else free}, labels, id="a")


def cluster(*nodes: Node, **settings: Any) -> Capacity:
    return Capacity("the cluster at 10.0.0.1:6379", nodes, **settings)


GROWING = cluster(
    node(1),
    kinds=(
        NodeKind("cpu-worker", {"CPU": 2.0}, {"tier": "batch"}, 4),
        NodeKind("gpu-worker", {"CPU": 2.0, "GPU": 1.0}, {}, 1),
    ),
    more=5,
    reach="scales",
)
HERE = Capacity("this machine", (Node("this machine", "", {"CPU": 2.0}, {"CPU": 2.0}),))


def configured(**sections: Any) -> Config:
    values = {"name": "table", "data": {"source": "t.csv"}, "features": {"target": "y"}}
    return config.parse({**values, **sections})


def verdicts(capacity: Capacity, *steps: str, held: Held | None = None, **sections: Any) -> tuple[Verdict, ...]:
    return judged(needs_of(configured(**sections), steps, capacity, held), capacity)


@pytest.mark.parametrize(
    ("capacity", "step", "sections", "outcome", "words"),
    [
        (cluster(node(2), node(2), node(2), node(2)), "tune", {"tune": {"cpus_per_trial": 3}}, "never",
         "a trial needs 3 CPUs on one node, and the largest node has 2 (8 in all)"),
        (cluster(node(4)), "train", {"train": {"num_workers": 1, "use_gpu": True}}, "never",
         "needs 1 GPU more than this machine has"),
        (cluster(node(4), node(4, 1)), "train", {"train": {"num_workers": 2, "use_gpu": True}}, "never",
         "needs 1 GPU more than this cluster can reach: 2 training workers of 1 CPU and 1 GPU each need"),
        (GROWING, "train", {"train": {"num_workers": 2, "use_gpu": True}}, "never",
         "its nodes have 0 GPUs, and its autoscaler adds at most 1 GPU"),
        (GROWING, "train", {"train": {"num_workers": 4}}, "grows",
         "which needs 2 nodes more of type cpu-worker (the autoscaler may add 4)"),
        (GROWING, "train", {"train": {"num_workers": [1, 4]}}, "grows",
         "1 of at most 4 training workers have room now; all 4 need 2 nodes more of type cpu-worker"),
        (GROWING, "train", {"train": {"num_workers": 2}, "cluster": {"train_on": {"tier": "bach"}}}, "never",
         "no node has or can have the label 'tier: bach' (cluster.train_on). Did you mean 'tier: batch'?"),
        (GROWING, "train", {"train": {"num_workers": 2}, "cluster": {"train_on": {"tier": "batch"}}}, "grows",
         "1 node more of type cpu-worker"),
        (cluster(node(4, free=1)), "train", {"train": {"num_workers": 2}}, "waits",
         "2 training workers of 1 CPU each need 2 CPUs, and 1 of 4 CPUs are free now"),
        (cluster(node(2)), "tune", {"tune": {}, "cluster": {"reserve_cpus": 1.5}}, "never",
         "beside 1.5 CPUs that stay free for it (cluster.reserve_cpus)"),
        (HERE, "release", {"service": {"replicas": 5}}, "never",
         "needs 0.5 CPU more than this machine has: 5 replicas of 0.5 CPU each need 2.5 CPUs; it has 2 CPUs"),
        (HERE, "release", {"service": {"num_gpus": 1}}, "never", "needs 1 GPU more than this machine has"),
        (HERE, "features", {}, "fits", "2 Ray Data tasks at once fit into 2 of 2 CPUs"),
        (cluster(node(0)), "features", {}, "never", "needs 1 CPU more than this cluster can reach"),
        (cluster(node(1), reach="unknown", why="no head"), "train", {"train": {"num_workers": 3}}, "unsure",
         "whether more nodes can come is not known: no head"),
    ],
)  # fmt: skip
def test_the_inequality_is_told(
    capacity: Capacity, step: str, sections: dict[str, Any], outcome: str, words: str
) -> None:
    (verdict,) = verdicts(capacity, step, **sections)
    assert verdict.outcome == outcome
    assert words in verdict.words
    assert bool(verdict.way_out) == (outcome == "never")


def test_the_refusal_names_each_step_and_its_way_out() -> None:
    found = verdicts(
        HERE, "features", "train", "release", train={"num_workers": 3}, service={"num_gpus": 1, "num_cpus": 1}
    )
    message = refusal(found)
    assert message.startswith("nothing was started. train: needs 1 CPU more than this machine has")
    assert "Lower train.num_workers, or use a larger machine or a cluster." in message
    assert "release: needs 1 GPU more" in message
    assert "features" not in message
    assert refusal(verdicts(HERE, "features")) == ""


def test_a_live_service_keeps_what_it_has() -> None:
    held = Held(live=True, replicas=2)
    (fits,) = verdicts(cluster(node(3, free=2)), "train", train={"num_workers": 2}, held=held)
    (never,) = verdicts(cluster(node(2, free=1)), "train", train={"num_workers": 2}, held=held)
    assert fits.outcome == "fits"
    assert never.outcome == "never"
    assert "beside 1 CPU that the service has" in never.words


def test_a_scaling_service_keeps_the_room_that_it_may_grow_into() -> None:
    service = {"num_cpus": 1.0, "autoscaling": {"min_replicas": 1, "max_replicas": 3}}
    (verdict,) = verdicts(cluster(node(4, free=3)), "tune", tune={}, service=service, held=Held(True, 1))
    assert verdict.need.reserve == 2.0
    assert verdict.outcome == "fits"


def test_a_rollout_takes_a_process_only_where_its_canary_is_placed_remote() -> None:
    assert verdicts(HERE, "release", held=Held(True, 1)) == ()
    (apart,) = verdicts(HERE, "release", held=Held(True, 1), rollout={"placement": "remote"})
    assert apart.need.what == "process of the canary"


def test_groups_take_gpus_by_themselves_only_where_there_are_some() -> None:
    train = {"num_workers": 2}
    (with_gpus,) = verdicts(cluster(node(4, 2)), "train", train=train)
    (without,) = verdicts(cluster(node(4, 1)), "train", train=train)
    assert with_gpus.need.each == {"CPU": 1.0, "GPU": 1.0}
    assert without.need.each == {"CPU": 1.0}


def test_trials_without_gpus_that_must_have_them_are_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"tune\.gpus_per_trial is 0"):
        verdicts(HERE, "tune", tune={}, train={"use_gpu": True})


@pytest.mark.parametrize(
    ("selector", "found"),
    [("batch", True), ("web", False), ("!web", True), ("!batch", False), ("in(web, batch)", True), ("!in(web)", True),
     ("in(web)", False)],
)  # fmt: skip
def test_label_selectors_are_read_as_ray_does(selector: str, found: bool) -> None:
    assert matches({"tier": selector}, {"tier": "batch", "zone": "a"}) is found
    assert matches({"tier": selector}, {}) is selector.startswith("!")
