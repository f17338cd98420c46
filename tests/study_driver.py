"""A Study in a process of its own, to be killed: ``python study_driver.py ADDRESS OUT SCHEDULER TRIALS``.

It writes a line to ``OUT/heard`` for each trial that it hears of, and ends with what it found as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import ray

from rayline.config import Config, ModelConfig, Space
from rayline.training.spec import TrainSpec
from rayline.tuning.ledger import Trial
from rayline.tuning.study import base_data, tune
from training_examples import made_data, spec_of, study_config

EPOCHS = 12


def spec_here() -> TrainSpec:
    return spec_of(model=ModelConfig(builder="slow_model:build"), epochs=EPOCHS, patience=0)


def config_here(scheduler: str, trials: int) -> Config:
    space = {"train.learning_rate": Space(low=1e-3, high=1e-1, log=True)}
    return study_config(space, spec_here(), scheduler=scheduler, trials=trials, grace_epochs=3)


def main(address: str, out: Path, scheduler: str, trials: int) -> None:
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    out.mkdir(parents=True, exist_ok=True)

    def heard(trial: Trial) -> None:
        with (out / "heard").open("a") as file:
            file.write(f"{os.getpid()} {trial.number}\n")

    found = tune(config_here(scheduler, trials), base_data(spec_here(), made_data()), out / "study", heard)
    rows = [[trial.number, trial.status, len(trial.history), trial.params] for trial in found.trials]
    print(json.dumps({"best": found.best.number, "trials": rows}))
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
