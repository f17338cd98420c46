"""The whole loop under live requests: a table goes live, a retrained model takes over, a bad one is taken back.

Customers change: what the first model learned no longer holds, so one trained on the new month takes over, judged by
what customers really did. The third comes from a table with amounts in cents. Its own test rows are in cents too, so no
check before can see it; live requests do, and it goes back by itself. No request fails on the way.

`python examples/07_full_loop.py` runs it here; `ray job submit --working-dir . -- python examples/07_full_loop.py
/shared/state` on a cluster. Killed and started again with the same state, it resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import rayline
from rayline.config import (
    AnalysisConfig,
    Config,
    FeaturesConfig,
    MetricCondition,
    ModelConfig,
    RolloutConfig,
    ServiceConfig,
    Step,
    TrainConfig,
)
from rayline.demo.clients import Clients
from rayline.events import Event, Finished, RolloutMoved

ROWS = 1_500


def customers(month: int, *, unit: float = 1.0) -> pd.DataFrame:
    """Return a month's customers, made up, and whether they stayed: from month 2 on, a high amount drives them away."""
    chance = np.random.default_rng(month)
    amount, visits = chance.gamma(4, 15, ROWS).round(2), chance.poisson(6, ROWS)
    region = chance.choice(["north", "south", "west"], ROWS)
    drawn = (0.05 if month == 1 else -0.05) * (amount - 60) + 0.3 * (visits - 6) + (region == "south")
    stayed = np.where(drawn + chance.normal(0, 0.5, ROWS) > 0, "yes", "no")
    return pd.DataFrame({"amount": amount * unit, "visits": visits, "region": region, "stayed": stayed})


def config_of(folder: Path, port: int) -> Config:
    """Return one configuration for all three: only the table changes."""
    watch = AnalysisConfig(
        interval=1.0,
        count=2,
        inconclusive_limit=60,
        metrics=(
            MetricCondition(measure="error_rate", max=0.01, minimum_samples=20),
            MetricCondition(measure="accuracy", max_decrease=0.1, minimum_samples=30),
        ),
    )
    return Config(
        name="customers",
        features=FeaturesConfig(target="stayed"),
        model=ModelConfig(hidden=(16,)),
        train=TrainConfig(epochs=8, batch_size=64, learning_rate=0.01),
        service=ServiceConfig(port=port),
        rollout=RolloutConfig(
            steps=(Step(set_weight=20), Step(analysis=True), Step(set_weight=100)),
            analysis=watch,
            progress_deadline=120,
        ),
        storage=str(folder.resolve()),
    )


def show(event: Event) -> None:
    """Print each step as it ends, and each move of the traffic."""
    if isinstance(event, Finished):
        print(f"  {event.step:9} {event.summary}" + (" (cached)" if event.cached else f" ({event.seconds:.1f} s)"))
    elif isinstance(event, RolloutMoved):
        print(f"  version {event.canary} at {event.weight:3} %: {event.message}")


def main(folder: Path, port: int) -> None:
    """Go once around the loop, and once more with a table that is wrong."""
    config = config_of(folder, port)
    print("January's customers: the first version goes live")
    live = rayline.run(config, data=customers(1), listener=show)
    assert live.released is not None

    now = customers(2)
    rows, truth = now.drop(columns="stayed").to_dict("records"), now["stayed"].tolist()
    with Clients(live.released.url, rows, truth) as clients:
        print("February's customers behave otherwise: a retrained version takes over, judged by what they did")
        better = rayline.run(config, data=now, listener=show).released
        print("March's table has amounts in cents: the rollout finds out, and takes the version back")
        worse = rayline.run(config, data=customers(3, unit=100.0), listener=show).released
        requests, failures = clients.requests, clients.failures
    assert better is not None
    assert worse is not None
    print(f"version {better.version}: {better.phase}; version {worse.version}: {worse.phase}, {worse.message}")
    print(f"{requests:,} requests meanwhile, {failures} failed")
    if (better.phase, worse.phase) != ("Healthy", "Degraded"):
        raise SystemExit(1)


if __name__ == "__main__":
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rayline")
    try:
        main(state, int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    finally:
        rayline.stop(state)
