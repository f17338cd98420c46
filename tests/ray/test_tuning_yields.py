"""A Study beside services on one cluster: it leaves them their growth, and gives way to a replica that waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from msgspec.structs import replace

from rayline.config import ClusterConfig, ModelConfig, Space
from rayline.errors import ClusterError
from rayline.processes import descendants
from rayline.training.neighbours import of_services
from rayline.tuning.study import StudyResult, base_data, tune
from training_examples import made_data, spec_of, study_config

pytestmark = pytest.mark.usefixtures("ray_cluster")
RATE = {"train.learning_rate": Space(low=1e-3, high=1e-1, log=True)}


def study(out: Path, cluster: ClusterConfig, trials: int = 4, **hears: Any) -> StudyResult:
    spec = spec_of(model=ModelConfig(builder="slow_model:build"), epochs=60, patience=0)
    config = replace(study_config(RATE, spec, trials=trials, scheduler="none"), cluster=cluster)
    return tune(config, base_data(spec, made_data()), out, **hears)


def workers() -> list[int]:
    """Return the processes of this session's cluster that train trials, between two calls of theirs too."""
    return [pid for pid, command in descendants(os.getpid()).items() if command.startswith("ray::Worker")]


@pytest.fixture
def serve_running() -> Iterator[Any]:
    from ray import serve

    yield serve
    serve.shutdown()


def test_trials_leave_the_reserve_free_and_give_way_in_the_processor_too(tmp_path: Path) -> None:
    seen: set[tuple[int, int]] = set()
    ended: set[int] = set()

    def look(number: int, report: Any) -> None:
        for pid in set(workers()) - ended:
            with suppress(ProcessLookupError):
                seen.add((pid, os.getpriority(os.PRIO_PROCESS, pid)))

    found = study(tmp_path / "one", ClusterConfig(reserve_cpus=1), trials=3, on_epoch=look)
    assert len(found.trials) == 3
    assert len(seen) == 1, "more than one worker, though a CPU was to stay free"
    ((worker, low),) = seen
    ended.add(worker)
    seen.clear()
    study(tmp_path / "two", ClusterConfig(reserve_cpus=1, priority="normal"), trials=2, on_epoch=look)
    ((_, normal),) = seen
    assert low == min(19, normal + 10)
    with pytest.raises(ClusterError, match=r"2 of them are left to services \(cluster\.reserve_cpus\)"):
        study(tmp_path / "three", ClusterConfig(reserve_cpus=2))


def test_a_replica_that_waits_gets_the_place_of_a_trial_and_no_trial_is_lost(
    tmp_path: Path, serve_running: Any
) -> None:
    class Model:
        def __call__(self) -> int:
            return os.getpid()

    deployment = serve_running.deployment(Model, name="model", ray_actor_options={"num_cpus": 1})
    target = serve_running.RunTarget(deployment.bind(), name="late", route_prefix=None)
    waited: list[float] = []
    served: list[str] = []

    def epoch(number: int, report: Any) -> None:
        if not waited and ray.available_resources().get("CPU", 0.0) == 0:  # both trials have their place
            serve_running.run_many(
                [target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
            )
            waited.append(report.epoch)

    def trial(ended: Any) -> None:
        if waited:
            served.append(str(serve_running.status().applications["late"].status.value))

    found = study(tmp_path, ClusterConfig(reserve_cpus=0), trials=10, on_epoch=epoch, on_trial=trial)
    assert waited
    assert [each.status for each in found.trials] == ["finished"] * 10
    assert served[-1] == "RUNNING", served
    assert of_services().held == 1.0
