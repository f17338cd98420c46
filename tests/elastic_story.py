"""A group of workers on a cluster that shrinks and grows, in a process of its own: writes what was seen as JSON.

Two nodes of one CPU each. When epoch 4 was told, one node is killed with its worker; when three epochs were trained by
the worker that is left, a node joins; when three epochs were trained by two again, the rest runs at full speed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from torch import Tensor, nn

from rayline.config import ModelConfig
from rayline.modules.mlp import Mlp
from rayline.training import group, group_journal, trainer
from rayline.training.spec import EpochReport, TrainResult
from training_examples import made_data, spec_of

EPOCHS = 200


class Slow(nn.Module):
    """Takes its time until a file says that the story has been told, so that there is something to interrupt."""

    def __init__(self, inputs: int, outputs: int, full_speed: str) -> None:
        super().__init__()
        self.layers = Mlp(inputs, outputs, (8,), 0.0)
        self.full_speed = Path(full_speed)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (n, inputs) to float32 (n, outputs)."""
        if self.training and not self.full_speed.exists():
            time.sleep(0.05)
        result: Tensor = self.layers(x)
        return result


def build(inputs: int, outputs: int, full_speed: str) -> nn.Module:
    """Build the network."""
    return Slow(inputs, outputs, full_speed)


def main(out: Path) -> None:
    """Run the story and write it to `story.json` (a cluster's processes write to the same standard output)."""
    group.RESIZE_EVERY_S = 2.0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    full_speed = out / "full-speed"
    told: list[EpochReport] = []
    model = ModelConfig(builder="elastic_story:build", options={"full_speed": str(full_speed)})
    spec = spec_of(model=model, num_workers=(1, 2), epochs=EPOCHS, patience=0, learning_rate=0.001)
    with ThreadPoolExecutor(1) as beside:
        training = beside.submit(trainer.train, spec, made_data(), out, told.append)
        try:
            await_worlds(out, training, lambda seen: len(seen) >= 4)
            cluster.remove_node(second, allow_graceful=False)
            await_worlds(out, training, lambda seen: seen.count(1) >= 3)
            cluster.add_node(num_cpus=1)
            await_worlds(out, training, lambda seen: seen[-3:] == [2, 2, 2])
        finally:
            full_speed.touch()
        training.result()
    trained = group_journal.worlds(out)
    seen = [{"epoch": each.epoch, "workers": trained[each.epoch], "loss": each.metrics["train_loss"]} for each in told]
    (out / "story.json").write_text(json.dumps(seen))
    ray.shutdown()
    cluster.shutdown()


def await_worlds(out: Path, training: Future[TrainResult], told: Callable[[list[int]], bool]) -> None:
    """Wait until the workers of each epoch so far, in order, are as they must be."""
    deadline = time.monotonic() + 200
    while not told([workers for _, workers in sorted(group_journal.worlds(out).items())]):
        if training.done() or time.monotonic() > deadline:
            raise RuntimeError(f"the group did not change: {group_journal.worlds(out)}")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
