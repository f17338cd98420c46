"""How many trials a second does a Study run, against bare Ray Tune and bare Optuna?

Question   A Study of 64 short trials and one of 16 real ones, from the call to its return: `rayline.tuning.study.tune`
           against Ray Tune at its defaults, Ray Tune with `reuse_actors=True`, and Optuna's `study.optimize` on SQLite
           in one process?
Ceiling    The same trainings one after the other in this process, already loaded, divided by the number of CPUs: what
           is left when suggesting, starting, reporting and keeping cost nothing.
Method     Every arm trains the same networks by the same call, `families.fit(TrainContext(...))`, with a checkpoint
           after each epoch, and hears each epoch. All search at random and end no trial early, so that each does the
           same work; Rayline also keeps its ledger. The Ray arms run on the same running cluster, one after the other,
           and each starts its own workers, which load PyTorch, inside the measured time; Optuna's process loads
           Optuna and PyTorch inside the measured time too, while its start and that of Python are left out. Short:
           3 epochs of a 4-8-1 network on 160 made rows. Real: 20 epochs of a 64-128-64-10 network on scikit-learn's
           digits. Rounds are interleaved and begin with another arm each time.
Command    python benchmarks/tune.py [--quick]

The last line is one JSON object; its ratios are trials per second, Rayline's over the other's: above 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune as ray_tune
from rich.console import Console
from rich.table import Table

from rayline.config import Config, DataConfig, FeaturesConfig, ModelConfig, Space, TrainConfig, TuneConfig
from rayline.model import InputLayout
from rayline.training.context import Place, TrainContext
from rayline.training.families import fit
from rayline.training.spec import EpochReport, TrainData, TrainSpec
from rayline.tuning.study import base_data, tune

CPUS = 2
LOW, HIGH = 1e-3, 1e-1
MARK = "seconds:"


@dataclass(frozen=True, slots=True)
class Task:
    """What all arms do: so many trials of this."""

    trials: int
    spec: TrainSpec
    data: TrainData


def short(trials: int) -> Task:
    """Return many trials that take a few hundredths of a second each."""
    chance = np.random.default_rng(7)
    x = chance.normal(size=(240, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    train = TrainConfig(epochs=3, batch_size=32, patience=0, use_gpu=False)
    spec = TrainSpec(
        ModelConfig(hidden=(8,)), train, "binary", ("no", "yes"), InputLayout.plain(4), target_mean=0.0, target_std=1.0
    )
    return Task(trials, spec, TrainData((x[:160], y[:160]), (x[160:], y[160:])))


def real(trials: int) -> Task:
    """Return trials on scikit-learn's digits: 1,797 images of 8 by 8, every fourth for validation."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    held = np.arange(len(y)) % 4 == 0
    train = TrainConfig(epochs=20, batch_size=32, patience=0, use_gpu=False)
    classes = tuple(str(each) for each in range(10))
    spec = TrainSpec(
        ModelConfig(hidden=(128, 64)),
        train,
        "multiclass",
        classes,
        InputLayout.plain(64),
        target_mean=0.0,
        target_std=1.0,
    )
    return Task(trials, spec, TrainData((x[~held], y[~held]), (x[held], y[held])))


TASKS: dict[str, Callable[[int], Task]] = {"short": short, "real": real}


def train_once(task: Task, rate: float, out: Path, report: Callable[[EpochReport], None]) -> float:
    """Do the work of one trial, the same in every arm; return the best loss."""
    from msgspec.structs import replace as with_fields

    spec = replace(task.spec, train=with_fields(task.spec.train, learning_rate=rate))
    return fit(TrainContext(spec, task.data, out, report, Place())).metrics["valid_loss"]


def rayline_arm(task: Task, out: Path) -> None:
    """Run a Study of Rayline's."""
    config = Config(
        name="bench",
        data=DataConfig(source="unused.csv"),
        features=FeaturesConfig(target="y"),
        model=task.spec.model,
        train=task.spec.train,
        tune=TuneConfig(
            trials=task.trials,
            space={"train.learning_rate": Space(low=LOW, high=HIGH, log=True)},
            sampler="random",
            scheduler="none",
        ),
    )
    heard: list[int] = []
    found = tune(config, base_data(task.spec, task.data), out, lambda trial: heard.append(len(trial.history)))
    check(task, [len(trial.history) for trial in found.trials if trial.status == "finished"])
    check(task, heard)


def ray_tune_arm(task: Task, out: Path, reuse: bool) -> None:
    """Run Ray Tune: all defaults, or with actors that are used again."""

    def trial(settings: dict[str, Any], task: Task) -> None:
        folder = out / ray_tune.get_context().get_trial_id()
        train_once(task, settings["rate"], folder, lambda report: ray_tune.report(dict(report.metrics)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = ray_tune.Tuner(
            ray_tune.with_parameters(trial, task=task),
            param_space={"rate": ray_tune.loguniform(LOW, HIGH)},
            tune_config=ray_tune.TuneConfig(
                metric="valid_loss", mode="min", num_samples=task.trials, **({"reuse_actors": True} if reuse else {})
            ),
            run_config=ray_tune.RunConfig(name="bench", storage_path=str(out), verbose=0),
        ).fit()
    check(task, [result.metrics["training_iteration"] for result in results])


def optuna_arm(name: str, trials: int, out: Path) -> float:
    """Run Optuna on SQLite in a process of its own, and return its seconds; it loads what it needs within them."""
    command = [sys.executable, __file__, "--optuna", name, "--trials", str(trials), "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.rpartition(MARK)[2])


def optuna_alone(name: str, trials: int, out: Path, began: float) -> None:
    """Be that process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = TASKS[name](trials)
    study = optuna.create_study(storage=f"sqlite:///{out / 'optuna.db'}", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        def report(each: EpochReport) -> None:
            trial.report(each.metrics["valid_loss"], each.epoch)

        rate = trial.suggest_float("rate", LOW, HIGH, log=True)
        return train_once(task, rate, out / str(trial.number), report)

    study.optimize(objective, n_trials=trials)
    seconds = time.perf_counter() - began
    check(task, [len(trial.intermediate_values) for trial in study.trials])
    print(f"{MARK}{seconds}")


def ceiling(task: Task, out: Path) -> float:
    """Return the seconds that the trainings alone take on all CPUs, from a few of them in this process."""
    few = min(task.trials, 8)
    train_once(task, LOW, out / "warm", lambda report: None)
    began = time.perf_counter()
    for number in range(few):
        train_once(task, LOW, out / str(number), lambda report: None)
    return (time.perf_counter() - began) / few * task.trials / CPUS


def check(task: Task, epochs: list[int]) -> None:
    """Refuse a figure of an arm that did not do the work."""
    if epochs != [task.spec.train.epochs] * task.trials:
        raise SystemExit(f"an arm did not do its {task.trials} trials of {task.spec.train.epochs} epochs: {epochs}")


def arms_of(name: str, task: Task) -> dict[str, Callable[[Path], float]]:
    """Return the arms, each of which gives its seconds."""

    def timed(run: Callable[[Path], None]) -> Callable[[Path], float]:
        def measure(out: Path) -> float:
            began = time.perf_counter()
            run(out)
            return time.perf_counter() - began

        return measure

    return {
        "rayline": timed(lambda out: rayline_arm(task, out)),
        "ray_tune": timed(lambda out: ray_tune_arm(task, out, reuse=False)),
        "reuse_actors": timed(lambda out: ray_tune_arm(task, out, reuse=True)),
        "optuna": lambda out: optuna_arm(name, task.trials, out),
    }


def measured(name: str, task: Task, rounds: int) -> dict[str, list[float]]:
    """Return the trials per second of each arm in each round, and of the ceiling."""
    arms = arms_of(name, task)
    found: dict[str, list[float]] = {arm: [] for arm in (*arms, "ceiling")}
    for turn in range(rounds):
        order = list(arms)[turn % len(arms) :] + list(arms)[: turn % len(arms)]
        for arm in order:
            with tempfile.TemporaryDirectory() as folder:
                settle()
                seconds = arms[arm](Path(folder))
            found[arm].append(task.trials / seconds)
            print(f"{name} round {turn + 1}: {arm} {seconds:.1f} s", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            found["ceiling"].append(task.trials / ceiling(task, Path(folder)))
    return found


def settle() -> None:
    """Wait until the CPUs of the last arm's workers are free again."""
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0.0) < CPUS and time.monotonic() < deadline:
        time.sleep(0.1)


def report(found: dict[str, dict[str, list[float]]], trials: dict[str, int], rounds: int) -> None:
    """Print the table, then the one line of JSON."""
    table = Table(title=f"trials per second, {rounds} interleaved rounds, medians (span)")
    for column in ("", *(f"{trials[name]} {name} trials" for name in found)):
        table.add_column(column, justify="right" if column else "left")
    for arm in next(iter(found.values())):
        table.add_row(arm, *(spread(figures[arm]) for figures in found.values()))
    Console(width=120).print(table)
    ratios = {}
    for name, figures in found.items():
        prefix = "" if name == "short" else f"{name}_"
        for arm in ("ray_tune", "reuse_actors", "optuna"):
            pairs = zip(figures["rayline"], figures[arm], strict=True)
            ratios[f"{prefix}trials_vs_{arm}"] = round(statistics.median(mine / its for mine, its in pairs), 2)
    print(
        json.dumps(
            {
                "benchmark": "tune",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "ray", "optuna", "torch")},
                "rounds": rounds,
                "results": {name: {"trials": trials[name], **figures} for name, figures in found.items()},
                "ratios": ratios,
            }
        )
    )


def spread(values: list[float]) -> str:
    """Return the median and the span of some figures."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main(began: float) -> int:
    """Measure and report, or be the process of Optuna's arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials, one round")
    parser.add_argument("--optuna", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.optuna:
        optuna_alone(given.optuna, given.trials, given.out, began)
        return 0
    trials = {"short": 8, "real": 4} if given.quick else {"short": 64, "real": 16}
    rounds = 1 if given.quick else 2
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found = {name: measured(name, TASKS[name](count), rounds) for name, count in trials.items()}
    report(found, trials, rounds)
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(time.perf_counter()))
