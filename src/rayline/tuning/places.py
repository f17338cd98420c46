"""How many trials may run at once: what the cluster has and can reach, and what services keep of it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

from rayline.capacity import Capacity
from rayline.capacity.reading import nodes_of_cluster, of_cluster, with_nodes
from rayline.config import Config
from rayline.errors import ClusterError, ConfigError
from rayline.training.neighbours import of_services
from rayline.training.sharing import Floor, Needs, Neighbours, Share, share

SETTINGS = {"CPU": "tune.cpus_per_trial", "GPU": "tune.gpus_per_trial"}
PATIENCE_S = 15.0
"""How long to wait for what is just ending: Ray counts a process's CPUs as taken until it is gone."""


class Places:
    """Where a Study's workers may be.

    What nodes have is read each time. What an autoscaler can add is asked once, in a thread of its own where trials can
    start meanwhile.

    Args:
        config: what a trial takes, and what is left to services.

    Raises:
        ConfigError: GPUs are asked for, and no trial has one.
    """

    def __init__(self, config: Config) -> None:
        tune = config.tune
        assert tune is not None
        if config.train.alone and config.train.use_gpu is True and not tune.gpus_per_trial:
            raise ConfigError(
                "train.use_gpu is true, but tune.gpus_per_trial is 0: give each trial a GPU, or a part of it."
            )
        self._config = config
        self._capacity: Capacity | None = None
        self._asking: threading.Thread | None = None
        self._settled: Share | None = None
        cluster = config.cluster
        self._labels = {"train_on": cluster.train_on, "serve_on": cluster.serve_on}
        self.neighbours = of_services()
        self._floor = Floor(cluster.reserve_cpus, self.neighbours.held)
        self._needs = Needs(_each(config, 1), **self._labels)

    def look(self, ours: int) -> Share:
        """Return how many workers there may be, ``ours`` of which have their place.

        Raises:
            ClusterError: Ray does not tell.
        """
        if self._settled is not None:
            return self._settled
        self.neighbours = of_services()
        return self._share(self._now(), ours, self.neighbours)

    def first(self) -> Share:
        """Return how many workers there may be at the start, when none has a place yet.

        Raises:
            ClusterError: not even one fits, nor will.
        """
        tune = self._config.tune
        assert tune is not None
        wanted = min(tune.trials, tune.max_concurrent or tune.trials)
        found = self.look(0)
        if found.now < wanted:
            self._ask(wait=found.now == 0)
            found = self.look(0)
        deadline = time.monotonic() + PATIENCE_S
        while found.now < 1 and not found.grows and self._could_hold_one() and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self.look(0)
        if found.most < 1 and self._can_be_smaller():
            found = self.look(0)
        if found.most < 1:
            raise ClusterError(self._too_little(found))
        if not self._config.train.alone:
            # Each trial's group looks for its own room, and leaves services theirs; what is free tells nothing then.
            self._settled = Share(found.most, found.most)
        return self._settled or found

    def _can_be_smaller(self) -> bool:
        """Take the least of an elastic group, where its most can never have room."""
        least = _each(self._config, 0)
        smaller = least != self._needs.each
        self._needs = replace(self._needs, each=least)
        return smaller

    def _now(self) -> Capacity:
        nodes = nodes_of_cluster()
        known = self._capacity
        return with_nodes(known, nodes) if known is not None else replace(nodes, reach="fixed")

    def _share(self, capacity: Capacity, ours: int, neighbours: Neighbours) -> Share:
        if self._config.train.alone:
            return share(capacity, self._needs, ours, neighbours, self._floor)
        return _of_groups(capacity, self._needs, neighbours, self._floor)

    def _ask(self, *, wait: bool) -> None:
        def ask() -> None:
            self._capacity = of_cluster()

        if wait:
            ask()
        else:
            self._asking = threading.Thread(target=_quietly, args=(ask,), name="rayline-reach", daemon=True)
            self._asking.start()

    def _could_hold_one(self) -> bool:
        capacity = self._now()
        empty = replace(capacity, nodes=tuple(replace(node, free=node.total) for node in capacity.nodes))
        return self._share(empty, 0, Neighbours()).now >= 1

    def _too_little(self, found: Share) -> str:
        capacity = self._now()
        each = _each(self._config, 0)
        free = {name: capacity.free(name) for name in each}
        never = [name for name, amount in each.items() if capacity.can_reach(name) + 1e-9 < amount]
        held = [name for name, amount in each.items() if free[name] + 1e-9 < amount]
        name = next(iter([*never, *held, *each]))
        setting = SETTINGS[name] if self._config.train.alone else "train.num_workers"
        reach = capacity.can_reach(name)
        grown = f", and can reach {reach:g}" if capacity.kinds else ""
        kept = f" {found.kept:g} of them are left to services (cluster.reserve_cpus)." if found.kept else ""
        labels = self._labels["train_on"]
        where = f" on nodes with {_text(labels)} (cluster.train_on)" if labels else ""
        return (
            f"a trial needs {each[name]:g} {name}s{where} and the cluster has {free[name]:g} free of "
            f"{capacity.has(name):g}{grown}.{kept} Lower {setting}, add nodes, or stop what holds the rest."
        )


def _of_groups(capacity: Capacity, needs: Needs, neighbours: Neighbours, floor: Floor) -> Share:
    """Return how many groups fit: their workers take one CPU each, on whatever nodes there are."""
    workers = max(needs.each.values())
    one = replace(needs, each=dict.fromkeys(needs.each, 1.0))
    found = share(capacity, one, 0, neighbours, floor)
    per_group = int(workers)
    return replace(found, now=found.now // per_group, most=found.most // per_group)


def _quietly(ask: Any) -> None:
    """Ask for the reach; where the cluster does not tell, the Study keeps to the nodes that there are."""
    try:
        ask()
    except Exception:  # noqa: BLE001 - a thread of its own: the trials go on
        return


def _each(config: Config, place: int) -> dict[str, float]:
    """Return what one trial takes of the cluster; ``place`` picks the least (0) or the most (1) of an elastic group."""
    tune = config.tune
    assert tune is not None
    if config.train.alone:
        wanted = {"CPU": tune.cpus_per_trial, "GPU": tune.gpus_per_trial}
    else:
        workers = float(config.train.workers[place])
        wanted = {"CPU": workers, "GPU": workers if _groups_use_gpus(config) else 0.0}
    return {name: amount for name, amount in wanted.items() if amount}


def _groups_use_gpus(config: Config) -> bool:
    import ray

    resources: dict[str, Any] = ray.cluster_resources()
    return config.train.use_gpu is not False and resources.get("GPU", 0.0) >= 1


def _text(labels: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
