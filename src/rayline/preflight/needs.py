"""What each step of a configuration takes of a cluster, as bundles that must lie on one node each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rayline.capacity import Capacity
from rayline.config import Config
from rayline.config.service import ServiceConfig
from rayline.errors import ConfigError
from rayline.preflight.packing import holds

MANY = 10**9


@dataclass(frozen=True, slots=True)
class Need:
    """What one step takes at once.

    Attributes:
        what: one of its bundles, such as ``training worker``.
        each: what one bundle takes, by resource.
        least: bundles without which the step cannot be.
        most: bundles that it takes where there is room.
        labels: that their nodes must carry, as Ray's label selector.
        keeps: of each resource, what the service that is live has already, and keeps.
        reserve: CPUs that must stay free beside all that, as far as ``reserve_on`` nodes have so many.
        setting: what a user lowers to ask for less.
        by: the setting that asks for the labels.
        here: it is no bundle, but takes this from the driver's own machine.
    """

    step: str
    what: str
    each: Mapping[str, float]
    least: int
    most: int
    setting: str
    labels: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, float] = field(default_factory=dict)
    reserve: float = 0.0
    reserve_on: Mapping[str, str] = field(default_factory=dict)
    by: str = ""
    here: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What the project's own service has.

    Attributes:
        live: it answers.
        replicas: that it never goes below.
        apart: processes of versions that are placed remote.
    """

    live: bool = False
    replicas: int = 0
    apart: int = 0


def needs_of(config: Config, steps: Collection[str], capacity: Capacity, held: Held | None = None) -> tuple[Need, ...]:
    """Return what steps take, in the order of a flow.

    Args:
        config: what they do.
        steps: those that will run: any of ``features, train, tune, release``.
        capacity: decides what ``train.use_gpu: auto`` means, as it does when the training starts.
        held: the service's own part.

    Raises:
        ConfigError: GPUs are asked for and no trial has one.
    """
    held = held or Held()
    found: list[Need] = []
    if "features" in steps:
        found.append(Need("features", "Ray Data task", {"CPU": 1.0}, 1, MANY, "the node's CPUs"))
    if "train" in steps:
        found += _training(config, capacity, held)
    if "tune" in steps and config.tune is not None:
        found.append(_trials(config, capacity, held))
    if "release" in steps:
        found += _canary(config) if held.live else _service(config)
    return tuple(found)


def _training(config: Config, capacity: Capacity, held: Held) -> list[Need]:
    train = config.train
    if train.alone:
        if train.use_gpu is not True:
            return []
        return [Need("train", "training", {"GPU": 1.0}, 1, 1, "train.use_gpu", here=True)]
    least, most = train.workers
    return [_beside_service("train", "training worker", _worker(config, capacity), least, most, config, held)]


def _worker(config: Config, capacity: Capacity) -> dict[str, float]:
    """Return what one worker of a group takes: ``auto`` takes GPUs where each worker has one by now."""
    use, least = config.train.use_gpu, config.train.workers[0]
    on_gpus = use is True or (use == "auto" and capacity.has("GPU") >= least)
    return {"CPU": 1.0, "GPU": 1.0} if on_gpus else {"CPU": 1.0}


def _trials(config: Config, capacity: Capacity, held: Held) -> Need:
    tune = config.tune
    assert tune is not None
    if not config.train.alone:
        least, most = config.train.workers
        together = min(tune.trials, tune.max_concurrent or 1)
        each = _worker(config, capacity)
        return _beside_service("tune", "trial worker", each, least, most * together, config, held)
    if config.train.use_gpu is True and not tune.gpus_per_trial:
        raise ConfigError(
            "train.use_gpu is true, but tune.gpus_per_trial is 0: give each trial a GPU, or a part of it."
        )
    each = _asked({"CPU": tune.cpus_per_trial, "GPU": tune.gpus_per_trial})
    fitting = sum(holds(node.total, each) for node in capacity.nodes)  # without a number no more are asked for
    most = min(tune.trials, max(1, fitting) if tune.max_concurrent is None else tune.max_concurrent)
    return _beside_service("tune", "trial", each, 1, most, config, held)


def _beside_service(
    step: str, what: str, each: Mapping[str, float], least: int, most: int, config: Config, held: Held
) -> Need:
    """Return the need of a training, whose nodes and CPUs the service may have a say in."""
    setting = "train.num_workers"
    if what == "trial":
        setting = "tune.cpus_per_trial" + (" or tune.gpus_per_trial" if "GPU" in each else "")
    kept = {name: amount * (held.replicas + held.apart) for name, amount in _replica(config.service).items()}
    return Need(
        step,
        what,
        each,
        least,
        most,
        setting,
        labels=config.cluster.train_on,
        keeps=kept if held.live else {},
        reserve=reserved_cpus(config, held),
        reserve_on=config.cluster.serve_on,
        by="cluster.train_on",
    )


def _service(config: Config) -> list[Need]:
    """Return what a service takes that comes up."""
    service = config.service
    least, most = replicas_of(service)
    setting = "service.replicas" if service.autoscaling is None else "service.autoscaling.min_replicas"
    each = _replica(service)
    labels, lower = config.cluster.serve_on, f"{setting} or service.num_cpus"
    found = [Need("release", "replica", each, least, most, lower, labels, by="cluster.serve_on")]
    if service.placement == "remote":
        taken = {name: amount * least for name, amount in each.items()}
        found.append(_apart("process of the version", "service.placement", config, taken))
    return found


def _canary(config: Config) -> list[Need]:
    """Return what a rollout takes: a process where its canary is placed remote, nothing where it is inline."""
    if (config.rollout.placement or config.service.placement) != "remote":
        return []
    return [_apart("process of the canary", "rollout.placement", config, {})]


def _apart(what: str, setting: str, config: Config, taken: Mapping[str, float]) -> Need:
    """Return the need of a version in a process of its own; ``taken`` is what the replicas have before."""
    own = config.cluster.remote_on
    labels, by = (own, "cluster.remote_on") if own is not None else (config.cluster.serve_on, "cluster.serve_on")
    return Need("release", what, _replica(config.service), 1, 1, setting, labels, taken, by=by)


def replicas_of(service: ServiceConfig) -> tuple[int, int]:
    """Return how many replicas there are at least and at most."""
    scaling = service.autoscaling
    if scaling is None:
        return service.replicas, service.replicas
    return scaling.min_replicas, scaling.max_replicas


def _replica(service: ServiceConfig) -> dict[str, float]:
    return _asked({"CPU": service.num_cpus, "GPU": service.num_gpus})


def _asked(amounts: Mapping[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in amounts.items() if amount}


def reserved_cpus(config: Config, held: Held) -> float:
    """Return the CPUs that trainings leave free for the service to grow into."""
    if config.cluster.reserve_cpus is not None:
        return config.cluster.reserve_cpus
    if config.service.autoscaling is None or not held.live:
        return 0.0
    return max(0, config.service.autoscaling.max_replicas - held.replicas) * config.service.num_cpus
