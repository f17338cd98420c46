"""A Study: trials search a space of settings, some of them only where another one is set, and the best one goes on.

Each trial is an MLflow run below the Study's; ASHA ends the hopeless ones early. Killed in the middle and started
again, it goes on with the trials that are left.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rayline
from rayline.config import Config, DataConfig, FeaturesConfig, Space, TrainConfig, TuneConfig
from rayline.events import Event, TrialEnded


def show(event: Event) -> None:
    """Print each trial as it ends."""
    if isinstance(event, TrialEnded):
        settings = ", ".join(f"{key} {shown(value)}" for key, value in event.params.items())
        print(f"trial {event.number + 1} of {event.of}: {event.score} with {settings} ({event.status})")


def shown(value: object) -> str:
    """Return a setting's value, a number with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(folder: Path) -> None:
    """Search on scikit-learn's wine table and register the best model."""
    config = Config(
        name="wine",
        data=DataConfig(source="sklearn:wine"),
        features=FeaturesConfig(target="target"),
        train=TrainConfig(epochs=12, batch_size=16),
        tune=TuneConfig(
            trials=5,
            cpus_per_trial=0.5,
            space={
                "train.learning_rate": Space(low=0.001, high=0.03, log=True),
                "model.hidden": Space(choose=((), (16,), (32, 16))),
                "model.dropout": Space(low=0.0, high=0.3, when={"model.hidden": [(16,), (32, 16)]}),
            },
        ),
        storage=str(folder.resolve()),
    )
    outcome = rayline.run(config, until="register", listener=show)
    best = outcome.result("tune")
    print(f"trial {best['best'] + 1} is the best: {best['metrics']}")
    print(f"version {outcome.result('register')['version']}: {outcome.result('evaluate')['metrics']}")


if __name__ == "__main__":
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rayline")
    try:
        main(state)
    finally:
        rayline.stop(state)
