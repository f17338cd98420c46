"""A rollout by hand: a canary gets a fifth of the users and waits for a person, who looks at both versions and says go.

A user stays on one version for as long as the shares stay; a header asks one version on purpose. The same script can be
sent with `ray job submit`: the service then goes on when the script has ended.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import httpx
from msgspec.structs import replace

import rayline
from rayline import release
from rayline.config import (
    Config,
    DataConfig,
    FeaturesConfig,
    ModelConfig,
    RolloutConfig,
    ServiceConfig,
    Step,
    TrainConfig,
)
from rayline.events import Event, RolloutMoved
from rayline.project import Project

USERS = 200


def show(event: Event) -> None:
    """Print how the traffic moves."""
    if isinstance(event, RolloutMoved):
        print(f"version {event.canary} at {event.weight:3} %: {event.message}")


def versions_of_users(url: str, row: dict[str, object]) -> dict[str, str]:
    """Ask once for each user; return the version that answered each."""
    with httpx.Client(timeout=10) as client:
        answers = {
            user: client.post(f"{url}/predict", json={"rows": [row]}, headers={"x-session-id": user})
            for user in (f"user-{number}" for number in range(USERS))
        }
    return {user: answer.raise_for_status().headers["x-rayline-version"] for user, answer in answers.items()}


def main(folder: Path, port: int) -> None:
    """Put a linear model live, try a network beside it on real requests, and let it take over."""
    first = Config(
        name="wine",
        data=DataConfig(source="sklearn:wine"),
        features=FeaturesConfig(target="target"),
        model=ModelConfig(hidden=()),
        train=TrainConfig(epochs=5, batch_size=16, learning_rate=0.01),
        service=ServiceConfig(port=port),
        rollout=RolloutConfig(steps=(Step(set_weight=20), Step(pause=True), Step(set_weight=100))),
        storage=str(folder.resolve()),
    )
    live = rayline.run(first, listener=show)
    assert live.released is not None
    url = live.released.url
    row = rayline.Bundle.load(live.result("evaluate")["bundle"]).example[0]

    second = replace(first, model=ModelConfig(hidden=(32,)), train=replace(first.train, epochs=20))
    waiting = rayline.run(second, listener=show)
    assert waiting.released is not None
    print(f"{waiting.released.phase}: {waiting.released.message}")
    before = versions_of_users(url, row)
    print(f"users by version: {dict(sorted(Counter(before.values()).items()))}")
    assert versions_of_users(url, row) == before, "a user stays where they are"
    for version in ("1", "2"):
        asked = httpx.post(f"{url}/predict", json={"rows": [row]}, headers={"x-rayline-version": version}, timeout=10)
        print(f"version {version} says {asked.json()['predictions']}")

    project = Project(second, listener=show)
    project.connect()
    ended = release.follow(project, release.promote(project))
    print(f"{ended.phase}: {ended.message}")
    assert set(versions_of_users(url, row).values()) == {"2"}


if __name__ == "__main__":
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rayline")
    try:
        main(state, int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    finally:
        rayline.stop(state)
