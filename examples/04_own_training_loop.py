"""A training loop of your own: mixup and an optimizer that the ready loop does not have.

The function gets batches, the model, `report` and `checkpoint`. Everything around it stays: MLflow, checkpoints that an
interrupted training goes on from, early stopping, worker groups, the trials of a Study, and the Bundle.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rayline
from rayline.config import Config, DataConfig, FeaturesConfig, TrainConfig
from rayline.events import Epoch, Event

if TYPE_CHECKING:
    from rayline.training.own_loop import LoopContext


def train_loop(context: LoopContext) -> None:
    """Train on mixtures of two rows each (mixup, Zhang et al. 2018) with NAdam and a cosine schedule."""
    import torch

    optimizer = torch.optim.NAdam(context.model.parameters(), lr=context.settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, context.settings.epochs)
    context.checkpoint(optimizer=optimizer, schedule=schedule)
    mixing = torch.distributions.Beta(0.2, 0.2)
    for _ in context.epochs():
        losses = []
        for x, y in context.batches():
            share, other = mixing.sample().to(context.device), torch.randperm(len(x), device=context.device)
            outputs = context.model(share * x + (1 - share) * x[other])
            loss = share * context.loss(outputs, y) + (1 - share) * context.loss(outputs, y[other])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        schedule.step()
        context.report({"train_loss": torch.stack(losses).mean(), **context.validate()})


def show(event: Event) -> None:
    """Print every tenth epoch."""
    if isinstance(event, Epoch) and event.number % 10 == 0:
        print(f"epoch {event.number} of {event.of}: accuracy {event.metrics['valid_accuracy']:.3f}")


def main(folder: Path) -> None:
    """Train on scikit-learn's digits and score the model as it would be served."""
    sys.path.insert(0, str(Path(__file__).parent))
    config = Config(
        name="digits",
        data=DataConfig(source="sklearn:digits"),
        features=FeaturesConfig(target="target"),
        train=TrainConfig(
            loop="04_own_training_loop:train_loop", epochs=40, learning_rate=0.003, metric="accuracy", patience=10
        ),
        storage=str(folder.resolve()),
    )
    outcome = rayline.run(config, until="register", listener=show)
    print(f"version {outcome.result('register')['version']}: {outcome.result('evaluate')['metrics']}")


if __name__ == "__main__":
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".rayline")
    try:
        main(state)
    finally:
        rayline.stop(state)
