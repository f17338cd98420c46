"""XGBoost: a chunk of boosting rounds is an epoch. In a group each worker has a share of the rows.

The group's communicator is that of Ray Train's XGBoostTrainer; each worker ends a round with the same trees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rayline.errors import ConfigError
from rayline.libraries.boosting import ROUNDS, draws, outputs_of, parameters_for, xgboost
from rayline.training.context import TrainContext
from rayline.training.families.measuring import class_weights, epoch_metrics, refuse_unusable
from rayline.training.metrics import measure
from rayline.training.spec import Part, TrainResult, TrainSpec

BOOSTER = "model.json"


def fit_booster(context: TrainContext) -> TrainResult:
    """Train a booster, keeping the best epoch's. See ``families.fit`` for what is raised.

    ``model.options.num_boost_round`` rounds are shared out evenly over ``train.epochs``; without it there are 100, or
    one an epoch where there are more epochs.
    """
    spec = context.spec
    refuse_unusable(context)
    rounds, epochs = _rounds(spec)
    training = _Boosting(context)
    context.resume(training.load)
    while not context.done and context.epoch < epochs:
        epoch = context.epoch + 1
        training.boost(rounds * (epoch - 1) // epochs, rounds * epoch // epochs)
        loss, valid = training.train_loss(), outputs_of(training.booster, context.data.valid[0])
        context.report(epoch_metrics(context, loss, valid), training.save)
    return context.result()


class _Boosting:
    """A booster under way, and this worker's share of the rows."""

    def __init__(self, context: TrainContext) -> None:
        spec, place = context.spec, context.place
        self.library = xgboost()
        self.spec = spec
        self.world = place.world
        self.parameters = {
            **parameters_for(spec.model, spec.task, len(spec.classes)),
            "nthread": place.threads,
            "device": place.device,
            "seed": spec.train.seed,
        }
        self.share: Part = tuple(each[place.rank :: place.world] for each in context.data.train)  # type: ignore[assignment]
        x, y = self.share
        weights = class_weights(spec, context.data.train[1])
        rows = None if weights is None else np.array([weights[each] for each in range(len(spec.classes))])[y]
        self.matrix = self.library.DMatrix(x, label=y, weight=rows, nthread=place.threads)
        self.booster: Any = self.library.Booster(self.parameters, [self.matrix])

    def boost(self, first: int, last: int) -> None:
        """Take the rounds from ``first`` up to ``last``.

        Where rows or columns are drawn, the draw's state is in no file: a fresh booster with a seed of its own begins
        each epoch, so that a training that was resumed draws the same.
        """
        if draws(self.parameters) and first:
            self._reopened(bytearray(self.booster.save_raw("json")), self.spec.train.seed * 1_000_003 + first)
        try:
            for number in range(first, last):
                self.booster.update(self.matrix, number)
        except (self.library.core.XGBoostError, ValueError, TypeError) as error:
            raise ConfigError(f"xgboost cannot train with model.options: {_plain(error)}") from error

    def train_loss(self) -> float:
        """Return the loss over the training part: in a group, over all its shares."""
        margins = (
            self.booster.predict(self.matrix, output_margin=True).astype(np.float64).reshape(len(self.share[0]), -1)
        )
        loss = measure(self.spec.task, margins, self.share[1], self.spec.target_std)["loss"]
        if self.world == 1:
            return loss
        from xgboost import collective

        total = collective.allreduce(np.array([loss * len(margins), len(margins)]), collective.Op.SUM)
        return float(total[0] / total[1])

    def save(self, folder: Path) -> None:
        """Write the booster as its JSON model."""
        (folder / BOOSTER).write_bytes(bytes(self.booster.save_raw("json")))

    def load(self, folder: Path) -> None:
        """Go on from a booster's JSON model."""
        self._reopened(bytearray((folder / BOOSTER).read_bytes()), self.spec.train.seed)

    def _reopened(self, content: bytearray, seed: int) -> None:
        self.booster = self.library.Booster({**self.parameters, "seed": seed % 2**31}, [self.matrix])
        self.booster.load_model(content)
        self.booster.set_param({**self.parameters, "seed": seed % 2**31})


def _rounds(spec: TrainSpec) -> tuple[int, int]:
    """Return how many rounds there are, and over how many epochs."""
    epochs = spec.train.epochs
    rounds: int = spec.model.options.get("num_boost_round", max(ROUNDS, epochs))
    return rounds, min(epochs, rounds)


def _plain(error: Exception) -> str:
    """Return what XGBoost says without the place in its sources and the stack below it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first.partition(": ")[2] if first.startswith("[") else first
