"""A Study's course: killed at any point it resumes to the same trials; dead workers, limits, failures, objectives."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rayline.config import Config, Space, StopConfig
from rayline.errors import ConfigError
from rayline.training.spec import TrainSpec
from rayline.tuning.ledger import Trial, read
from rayline.tuning.population import check_movable
from training_examples import spec_of, study_config
from tuning_world import METRIC, Disk, Killed, Workers, attempt

RATE = {"train.learning_rate": Space(low=1e-4, high=1e-1, log=True)}
TREE = {
    "model.dropout": Space(low=0.0, high=0.5, when={"model.hidden": [[8, 4]]}),
    "model.hidden": Space(choose=((4,), (8, 4))),
    "train.learning_rate": Space(choose=(0.001, 0.01, 0.1)),
}


def config_of(space: Mapping[str, Space] = RATE, epochs: int = 8, max_failures: int = 3, **tune: Any) -> Config:
    settings = {"grace_epochs": 2, "reduction_factor": 2, "trials": 8, **tune}
    return study_config(space, spec_of(epochs=epochs, max_failures=max_failures), **settings)


def data_for(config: Config) -> tuple[TrainSpec, None]:
    spec = spec_of()
    return TrainSpec(
        config.model, config.train, spec.task, spec.classes, spec.layout, spec.target_mean, spec.target_std
    ), None


def essence(trials: list[Trial]) -> list[tuple[Any, ...]]:
    """Return what a killed Study must have in common with one that ran through."""
    return [(t.number, t.params, t.status, [report.epoch for report in t.history], t.metrics, t.moves) for t in trials]


def whole(config: Config, size: int = 1, **more: Any) -> tuple[list[Trial], Disk]:
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, _ = attempt(disk, config, data_for, Workers(disk, size), **more)
        return trials, disk


CASES = [
    ("tpe", "asha", RATE),
    ("tpe", "median", TREE),
    ("random", "hyperband", TREE),
    ("cmaes", "none", {**RATE, "train.weight_decay": Space(low=0.0, high=1.0)}),
    ("qmc", "asha", RATE),
    ("grid", "asha", {key: space for key, space in TREE.items() if key != "model.dropout"}),
    ("random", "pbt", RATE),
]


@pytest.mark.parametrize(("sampler", "scheduler", "space"), CASES)
def test_a_driver_killed_at_any_turn_resumes_to_the_same_trials(
    sampler: str, scheduler: str, space: Mapping[str, Space]
) -> None:
    generations = {"trials": 14, "grace_epochs": 8, "epochs": 2} if sampler == "cmaes" else {"trials": 6}
    config = config_of(space, sampler=sampler, scheduler=scheduler, **generations)
    expected, _ = whole(config)
    assert [trial.number for trial in expected] == list(range(len(expected)))

    @settings(max_examples=5)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    def resumed(kills: list[int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            disk = Disk(Path(folder))
            for turns in kills:
                try:
                    attempt(disk, config, data_for, Workers(disk, turns=turns))
                except Killed:
                    continue
            trials, _ = attempt(disk, config, data_for, Workers(disk))
            assert essence(trials) == essence(expected)
            assert disk.trained <= sum(len(trial.history) for trial in expected) + (100 if scheduler == "pbt" else 0)

    resumed()


@settings(max_examples=12)
@given(st.floats(0, 1), st.integers(1, 3), st.sampled_from(["tpe", "random", "qmc"]), st.sampled_from(["asha", "pbt"]))
def test_a_ledger_cut_at_any_byte_resumes_to_the_same_numbers(
    share: float, size: int, sampler: str, scheduler: str
) -> None:
    config = config_of(sampler=sampler, scheduler=scheduler, trials=6)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        attempt(disk, config, data_for, Workers(disk, size))
        content = disk.ledger.read_bytes()
        disk.ledger.write_bytes(content[: int(share * len(content))])
        kept = {trial.number: trial for trial in read(disk.ledger)}
        told: list[Trial] = []
        fresh = Disk(Path(folder))  # without checkpoints: what was cut off is trained again
        if scheduler == "pbt":
            fresh = disk
        workers = Workers(fresh, size)
        trials, _ = attempt(fresh, config, data_for, workers, on_trial=told.append)
        assert [trial.number for trial in trials] == list(range(6))
        assert {trial.number: trial for trial in trials if trial.number in kept} == kept
        assert sorted(trial.number for trial in told) == list(range(6))
        assert workers.most <= size


def test_several_at_once_keep_all_workers_busy_and_lose_nothing() -> None:
    config = config_of(trials=9)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        workers = Workers(disk, size=4)
        trials, why = attempt(disk, config, data_for, workers)
    assert [trial.number for trial in trials] == list(range(9))
    assert workers.most == 4
    assert why == "all 9 trials are done"


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "qmc", "gp"])
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(sampler: str) -> None:
    space = {**RATE, "model.dropout": Space(low=0.0, high=0.5)}
    config = config_of(space, epochs=1, sampler=sampler, scheduler="none", trials=6)
    one, _ = whole(config)
    again, _ = whole(config)
    other, _ = whole(replace(config, tune=replace(config.tune, seed=1)))
    assert essence(one) == essence(again)
    assert {trial.params["train.learning_rate"] for trial in one}.isdisjoint(
        trial.params["train.learning_rate"] for trial in other
    )
    assert len({trial.params["train.learning_rate"] for trial in one}) == 6


def test_a_sampler_that_learns_finds_more_than_chance() -> None:
    def near(sampler: str) -> float:
        trials, _ = whole(config_of(epochs=1, sampler=sampler, scheduler="none", trials=24))
        return sum(trial.metrics[METRIC] for trial in trials[12:]) / 12

    chance = near("random")
    assert near("tpe") < chance


def test_conditional_parameters_are_searched_only_where_they_apply() -> None:
    trials, _ = whole(config_of(TREE, epochs=1, trials=12))
    assert {("model.dropout" in trial.params) == (trial.params["model.hidden"] == [8, 4]) for trial in trials} == {True}
    assert any("model.dropout" in trial.params for trial in trials)


def test_a_grid_visits_every_combination_once_and_then_ends() -> None:
    space = {
        "model.hidden": Space(choose=((4,), (8,))),
        "train.accumulate": Space(low=1, high=3, integer=True, when={"model.hidden": [[8]]}),
    }
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, why = attempt(disk, config_of(space, sampler="grid", trials=50), data_for, Workers(disk))
    combinations = [(tuple(trial.params["model.hidden"]), trial.params.get("train.accumulate")) for trial in trials]
    assert sorted(combinations, key=str) == [((4,), None), ((8,), 1), ((8,), 2), ((8,), 3)]
    assert why == "all 4 combinations of the grid are done"


def test_a_grid_over_a_span_of_real_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'grid' needs a finite number of values for 'train\.learning_rate'"):
        whole(config_of(sampler="grid"))


def test_choices_may_be_lists_mappings_and_nothing() -> None:
    choices = (None, {"a": [1, 2]}, [1, True], True, 1, "1")
    space = {"model.options.x": Space(choose=choices)}
    trials, _ = whole(config_of(space, epochs=1, sampler="grid"))
    seen = [trial.params["model.options.x"] for trial in trials]
    assert sorted(map(repr, seen)) == sorted(map(repr, choices))


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_bad_trials_are_ended_early_and_the_best_goes_to_the_end(scheduler: str) -> None:
    trials, disk = whole(config_of(trials=16, scheduler=scheduler, sampler="random"))
    assert {trial.status for trial in trials} == {"finished", "stopped"}
    assert all((len(trial.history) == 8) == (trial.status == "finished") for trial in trials)
    assert all(len(trial.history) >= 2 for trial in trials)
    assert min(trials, key=lambda trial: trial.metrics[METRIC]).status == "finished"
    assert disk.trained < 16 * 8


def test_a_worker_that_dies_is_replaced_and_its_trial_goes_on() -> None:
    config = config_of(trials=3, scheduler="none")
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, _ = attempt(disk, config, data_for, Workers(disk, deaths=frozenset({5, 6, 15})), notice=said.append)
        assert [(trial.status, len(trial.history)) for trial in trials] == [("finished", 8)] * 3
        assert disk.trained == 24
    assert said[0] == "trial 1: its worker process was killed; it goes on from its last checkpoint"
    assert len(said) == 3


def test_a_trial_whose_worker_dies_too_often_fails_and_the_study_goes_on() -> None:
    config = config_of(trials=2, scheduler="none", max_failures=1)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, _ = attempt(disk, config, data_for, Workers(disk, deaths=frozenset({2, 4})))
    assert [trial.status for trial in trials] == ["failed", "finished"]
    assert trials[0].error == (
        "its worker died 2 times, which is more than train.max_failures (1) allows: its worker process was killed"
    )


def test_a_trial_without_data_fails_with_the_reason_and_the_study_goes_on() -> None:
    def picky(config: Config) -> tuple[TrainSpec, None]:
        if config.train.learning_rate < 0.01:
            raise ConfigError("no features are left")
        return data_for(config)

    config = config_of({"train.learning_rate": Space(choose=(0.001, 0.01))}, sampler="grid")
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, _ = attempt(disk, config, picky, Workers(disk))
    assert {(trial.status, trial.error) for trial in trials} == {("failed", "no features are left"), ("finished", None)}


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (StopConfig(target=0.5), "a trial reached the target 0.5"),
        (StopConfig(no_gain_for=3), "3 trials in a row brought no gain"),
        (StopConfig(seconds=1e-9), "its 1e-09 seconds are over"),
    ],
)
def test_a_study_ends_by_its_limits_and_not_again_when_resumed(stop: StopConfig, words: str) -> None:
    config = config_of(trials=200, sampler="random", scheduler="none", stop=stop)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, why = attempt(disk, config, data_for, Workers(disk, size=2))
        assert why == words
        assert len(trials) < 200
        again, why_again = attempt(disk, config, data_for, Workers(disk, size=2))
        assert (again, why_again) == (trials, words)


def test_a_target_ends_the_trials_that_still_run() -> None:
    space = {"train.epochs": Space(choose=(4, 40))}
    config = config_of(space, sampler="grid", scheduler="none", stop=StopConfig(target=0.3))
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, _ = attempt(disk, config, data_for, Workers(disk, size=2))
    assert {(trial.params["train.epochs"], trial.status) for trial in trials} == {(4, "finished"), (40, "stopped")}
    assert all(len(trial.history) < 40 for trial in trials)


def test_several_objectives_end_no_trial_early_and_are_all_told() -> None:
    config = config_of(objectives=("loss", "mae"), scheduler="none", trials=12)
    trials, _ = whole(config, directions=("min", "min"))
    assert {(trial.status, len(trial.history)) for trial in trials} == {("finished", 8)}


def test_earlier_trials_teach_the_sampler_and_do_not_count() -> None:
    config = config_of(epochs=1, scheduler="none", trials=6)
    earlier, _ = whole(config_of(epochs=1, scheduler="none", trials=24, sampler="random", seed=3))
    cold, _ = whole(config)
    warm, _ = whole(config, earlier=[*earlier, Trial(0, {"other.key": 1}, {METRIC: 0.0}, (), "finished", None)])
    assert [trial.number for trial in warm] == list(range(6))
    assert sum(trial.metrics[METRIC] for trial in warm) < sum(trial.metrics[METRIC] for trial in cold)


def test_a_population_lets_its_worst_go_on_from_its_best() -> None:
    config = config_of(trials=8, scheduler="pbt", sampler="random", epochs=12, grace_epochs=3)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        trials, _ = attempt(disk, config, data_for, Workers(disk, size=3))
    assert [(trial.status, len(trial.history)) for trial in trials] == [("finished", 12)] * 8
    moved = [trial for trial in trials if trial.moves]
    assert moved
    assert {epoch for trial in moved for epoch, _ in trial.moves} <= {3, 6, 9}
    alone, _ = whole(config_of(trials=8, scheduler="none", sampler="random", epochs=12))
    last = [sum(trial.history[-1].metrics[METRIC] for trial in each) for each in (trials, alone)]
    assert last[0] < last[1]


@pytest.mark.parametrize(
    ("space", "builder", "words"),
    [
        ({"model.hidden": Space(choose=((4,), (8,)))}, "mlp", r"cannot search 'model\.hidden'"),
        (RATE, "sklearn.linear_model:SGDClassifier", "starts over"),
        ({"train.batch_size": Space(choose=(8,), when={"train.learning_rate": 1})}, "mlp", "with a 'when'"),
    ],
)
def test_a_population_refuses_what_may_not_change(space: dict[str, Space], builder: str, words: str) -> None:
    config = config_of(space, scheduler="pbt")
    with pytest.raises(ConfigError, match=words):
        check_movable(replace(config, model=replace(config.model, builder=builder)))
