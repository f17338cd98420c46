"""``aws.yaml`` and ``gcp.yaml`` as Ray's own launcher reads them, without a cloud."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster_files import document

FILES = ["aws.yaml", "gcp.yaml"]


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = prepare_config(deepcopy(config))
    validate_config(found)
    return found


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return document(request.param)


def test_the_launcher_takes_it(config: dict[str, Any]) -> None:
    found = prepared(config)
    assert found["idle_timeout_minutes"] == 5
    groups = found["available_node_types"]
    assert list(groups) == ["head", "serve", "train-cpu", "train-gpu"]
    assert found["max_workers"] == sum(group["max_workers"] for group in groups.values())
    assert groups["head"]["resources"] == {"CPU": 0}
    assert groups["train-gpu"]["resources"]["GPU"] == 1
    assert groups["serve"]["min_workers"] == 1


def test_workers_carry_the_labels_that_placement_asks_for(config: dict[str, Any]) -> None:
    groups = prepared(config)["available_node_types"]
    assert {name: group["labels"]["rayline-role"] for name, group in groups.items()} == {
        "head": "head",
        "serve": "serve",
        "train-cpu": "train",
        "train-gpu": "train",
    }


def test_training_is_on_spot_nodes_and_serving_is_not(config: dict[str, Any]) -> None:
    spot = {
        name: "InstanceMarketOptions" in group["node_config"]
        or {"preemptible": True} in group["node_config"].get("scheduling", [])
        for name, group in config["available_node_types"].items()
    }
    assert spot == {"head": False, "serve": False, "train-cpu": True, "train-gpu": True}


def test_tokens_are_asked_for_everywhere_and_stand_nowhere(config: dict[str, Any]) -> None:
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    mounted = config["file_mounts"]
    assert mounted == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert f"--env RAY_AUTH_TOKEN_PATH={next(iter(mounted))}" in config["docker"]["run_options"]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


def test_the_second_autoscaler_is_used(config: dict[str, Any]) -> None:
    assert "RAY_enable_autoscaler_v2=1" in config["head_start_ray_commands"][-1]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("idle_timeout_minutes",), "soon"),
        (("available_node_types", "serve", "min_workers"), 99),  # more than max_workers
        (("available_node_types", "serve", "recources"), {"CPU": 1}),
        (("head_node_type",), "haed"),
        (("docker", "imagee"), "x"),
    ],
)
def test_the_parser_finds_a_mistake(config: dict[str, Any], where: tuple[str, ...], value: Any) -> None:
    place = config
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    with pytest.raises(Exception, match=r".+"):
        prepared(config)
