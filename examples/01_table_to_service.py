"""From a table to a live service in one call: features, training, evaluation, registry, Ray Serve.

Run it with `python examples/01_table_to_service.py`; the same script can be sent with `ray job submit`.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import rayline
from rayline.config import Config, DataConfig, FeaturesConfig, ServiceConfig, TrainConfig
from rayline.events import Event, Finished


def show(event: Event) -> None:
    """Print each step as it ends."""
    if isinstance(event, Finished):
        print(f"{event.step:9} {event.summary}" + (" (cached)" if event.cached else f" ({event.seconds:.1f} s)"))


def main(folder: Path, port: int) -> None:
    """Train on scikit-learn's wine table, put the model live and ask it once."""
    config = Config(
        name="wine",
        data=DataConfig(source="sklearn:wine"),
        features=FeaturesConfig(target="target"),
        train=TrainConfig(epochs=30, batch_size=16, learning_rate=0.01),
        service=ServiceConfig(port=port),
        storage=str(folder.resolve()),
    )
    outcome = rayline.run(config, listener=show)
    assert outcome.released is not None
    bundle = rayline.Bundle.load(outcome.result("evaluate")["bundle"])
    request = urllib.request.Request(
        f"{outcome.released.url}/predict", json.dumps({"rows": bundle.example[:1]}).encode()
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(json.load(answer)["predictions"])


if __name__ == "__main__":
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rayline")
    try:
        main(state, int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    finally:
        rayline.stop(state)
