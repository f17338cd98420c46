"""How many trials may run at once: from what the cluster has free, and from what each needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.config import Config
from rayline.errors import ClusterError, ConfigError
from rayline.training.room import Room, room_for

SETTINGS = {"CPU": "tune.cpus_per_trial", "GPU": "tune.gpus_per_trial"}


def concurrent_trials(config: Config) -> int:
    """Return how many trials may run at once: what fits beside everything else, at most what was asked for.

    With ``tune.max_concurrent`` above what fits now, as many are asked of the cluster, which may grow.

    Raises:
        ClusterError: not even one fits.
        ConfigError: GPUs are asked for, and no trial has one.
    """
    tune = config.tune
    assert tune is not None
    if config.train.alone and config.train.use_gpu is True and not tune.gpus_per_trial:
        raise ConfigError(
            "train.use_gpu is true, but tune.gpus_per_trial is 0: give each trial a GPU, or a part of it."
        )
    least, most = needs(config, 0), needs(config, 1)
    rooms = {name: room_for(amount, name) for name, amount in most.items()}
    fitting = fitting_in(rooms, most) or fitting_in(rooms, least)
    if fitting < 1:
        raise ClusterError(_too_little(config, least, rooms))
    if config.train.alone and tune.max_concurrent is not None:
        return min(tune.max_concurrent, tune.trials)  # those that find no place yet wait for one, without a trial
    return min(fitting, tune.max_concurrent or fitting, tune.trials)


def needs(config: Config, place: int) -> dict[str, float]:
    """Return what one trial takes of the cluster; ``place`` picks the least (0) or the most (1) of an elastic group."""
    tune = config.tune
    assert tune is not None
    if config.train.alone:
        wanted = {"CPU": tune.cpus_per_trial, "GPU": tune.gpus_per_trial}
    else:
        workers = float(config.train.workers[place])
        wanted = {"CPU": workers, "GPU": workers if _groups_use_gpus(config) else 0.0}
    return {name: amount for name, amount in wanted.items() if amount}


def fitting_in(rooms: Mapping[str, Room], each: Mapping[str, float]) -> int:
    """Return how many times ``each`` fits into what is free."""
    return min(int(rooms[name].free / amount + 1e-9) for name, amount in each.items())


def _groups_use_gpus(config: Config) -> bool:
    import ray

    resources: dict[str, Any] = ray.cluster_resources()
    return config.train.use_gpu is not False and resources.get("GPU", 0.0) >= 1


def _too_little(config: Config, each: Mapping[str, float], rooms: Mapping[str, Room]) -> str:
    name = next(name for name, amount in each.items() if rooms[name].free + 1e-9 < amount)
    setting = SETTINGS[name] if config.train.alone else "train.num_workers"
    room = rooms[name]
    return (
        f"a trial needs {each[name]:g} {name}s and the cluster has {room.free:g} free of {room.total:g}. "
        f"Lower {setting}, add nodes, or stop what holds the rest."
    )
