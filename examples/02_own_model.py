"""A model of your own: any torch module, built by a function that the configuration names.

The module is trained by the ready loop and served as a torch.export program: the service never imports this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rayline
from rayline.config import Config, DataConfig, FeaturesConfig, ModelConfig, TrainConfig


def build(inputs: int, outputs: int, width: int = 32) -> object:
    """Return a residual network: float32 (n, inputs) to float32 (n, outputs)."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Linear(inputs, width)
            self.inner = nn.Linear(width, width)
            self.leave = nn.Linear(width, outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = torch.relu(self.enter(x))
            state = state + torch.relu(self.inner(state))
            return self.leave(state)

    return Residual()


def main(folder: Path) -> None:
    """Train the residual network on scikit-learn's diabetes table and score it as it would be served."""
    sys.path.insert(0, str(Path(__file__).parent))
    config = Config(
        name="diabetes",
        data=DataConfig(source="sklearn:diabetes"),
        features=FeaturesConfig(target="target"),
        model=ModelConfig(builder="02_own_model:build", options={"width": 16}),
        train=TrainConfig(epochs=40, batch_size=32, learning_rate=0.005),
        storage=str(folder.resolve()),
    )
    outcome = rayline.run(config, until="register")
    print(f"version {outcome.result('register')['version']}: {outcome.result('evaluate')['metrics']}")


if __name__ == "__main__":
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rayline")
    try:
        main(state)
    finally:
        rayline.stop(state)
