"""Where Serve is asked to put the processes of a service."""

from __future__ import annotations

from rayline.config import ServiceConfig
from rayline.serving.starting import ANYWHERE, actor_options


def test_processes_go_to_nodes_with_the_labels_and_anywhere_without_any() -> None:
    config = ServiceConfig(num_cpus=0.5, num_gpus=1)
    assert actor_options(config, {"role": "serve"}) == {
        "num_cpus": 0.5,
        "num_gpus": 1,
        "label_selector": {"role": "serve"},
    }
    assert "label_selector" not in actor_options(config, ANYWHERE)
