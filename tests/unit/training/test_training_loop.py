"""The training loop in this process: its numbers, what it keeps, and what it says when it cannot go on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from rayline.config import ModelConfig, Task
from rayline.errors import ConfigError, DataError, TrainingFailed
from rayline.model import build_module
from rayline.training.checkpoint import STATE, WEIGHTS, latest
from rayline.training.context import Place, TrainContext
from rayline.training.feed import MemoryFeed, share_of, size_of
from rayline.training.loop import fit_loop
from rayline.training.metrics import DIRECTIONS, measure
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec
from training_examples import breast_cancer, broken_data, fit_here, made_data, spec_of


def fit(spec: TrainSpec, data: TrainData, out: Path) -> TrainResult:
    return fit_here(spec, data, out, lambda report: None)


def series(result: TrainResult) -> list[dict[str, float]]:
    return [dict(report.metrics) for report in result.history]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_each_task_learns_and_tells_its_metrics(tmp_path: Path, task: Task) -> None:
    told: list[EpochReport] = []
    result = fit_here(spec_of(task, epochs=12), made_data(task), tmp_path, told.append)
    assert tuple(told) == result.history
    assert [report.epoch for report in told] == list(range(1, 13))
    assert told[0].metrics.keys() == {"train_loss", *(f"valid_{name}" for name in DIRECTIONS[task])}
    assert result.metrics["valid_loss"] < 0.7 * told[0].metrics["valid_loss"]
    assert result.stopped == "finished"


def test_the_same_seed_gives_the_same_numbers_whatever_ran_before(tmp_path: Path) -> None:
    spec, data = spec_of(model=ModelConfig(hidden=(8,), dropout=0.3)), made_data()
    first = fit(spec, data, tmp_path / "first")
    torch.rand(1000)
    np.random.default_rng().random(10)
    second = fit(spec, data, tmp_path / "second")
    assert series(first) == series(second)
    weights = (load_file(result.checkpoint / WEIGHTS) for result in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*(each.values() for each in weights), strict=True))


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    first, second = (fit(spec_of(seed=seed), made_data(), tmp_path / str(seed)) for seed in (0, 1))
    assert series(first) != series(second)


def test_another_seed_begins_with_other_weights(tmp_path: Path) -> None:
    # So slow a learner stays where it began, whatever the order of its rows.
    specs = (spec_of(seed=seed, learning_rate=1e-12, epochs=1, weight_decay=0.0) for seed in (0, 1))
    first, second = (fit(spec, made_data(), tmp_path / str(spec.train.seed)).metrics["valid_loss"] for spec in specs)
    assert abs(first - second) > 1e-3


def test_the_checkpoint_holds_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    # So fast a learner overshoots: its best epoch is not its last.
    spec, data = spec_of(epochs=15, learning_rate=0.3, patience=0), made_data(rows=60)
    result = fit(spec, data, tmp_path)
    losses = [report.metrics["valid_loss"] for report in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses)) < 15
    assert result.metrics == result.history[result.best_epoch - 1].metrics
    module = build_module(spec.model, spec.layout, spec.outputs)
    module.load_state_dict(load_file(result.checkpoint / WEIGHTS))
    with torch.inference_mode():
        outputs = module(torch.from_numpy(data.valid[0])).double().numpy()
    assert measure("binary", outputs, data.valid[1], 1.0)["loss"] == pytest.approx(min(losses), abs=1e-9)
    state = json.loads((result.checkpoint / STATE).read_text())
    assert state["history"][-1]["metrics"] == result.metrics


def test_a_metric_of_which_more_is_better_keeps_its_highest(tmp_path: Path) -> None:
    result = fit(spec_of(metric="accuracy", epochs=8, patience=0), made_data(), tmp_path)
    scores = [report.metrics["valid_accuracy"] for report in result.history]
    assert result.best_epoch == 1 + scores.index(max(scores))
    assert max(scores) > scores[0]


def test_patience_ends_a_training_that_no_longer_improves(tmp_path: Path) -> None:
    result = fit(spec_of(epochs=60, learning_rate=0.3, patience=2), made_data(rows=60), tmp_path)
    assert result.stopped == "early"
    assert len(result.history) == result.best_epoch + 2 < 60


def test_no_patience_means_all_epochs(tmp_path: Path) -> None:
    result = fit(spec_of(epochs=20, learning_rate=0.3, patience=0), made_data(rows=60), tmp_path)
    assert (result.stopped, len(result.history)) == ("finished", 20)


def test_regression_metrics_are_in_the_unit_of_the_target(tmp_path: Path) -> None:
    data = made_data("regression")
    plain = fit(spec_of("regression"), data, tmp_path / "plain").metrics
    scaled = fit(spec_of("regression", target_std=50.0), data, tmp_path / "scaled").metrics
    assert scaled["valid_rmse"] == pytest.approx(50 * plain["valid_rmse"])
    assert scaled["valid_loss"] == plain["valid_loss"]


def test_a_loss_that_is_not_finite_names_epoch_step_and_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"loss is nan at epoch 1, step \d+, with learning rate 0\.01\.") as told:
        fit(spec_of(), broken_data(), tmp_path)
    assert "Lower train.learning_rate" in str(told.value)


def test_a_first_step_that_fails_is_named(tmp_path: Path) -> None:
    data = made_data()
    bad = TrainData((np.full_like(data.train[0], np.nan), data.train[1]), data.valid)
    with pytest.raises(TrainingFailed, match="at epoch 1, step 0"):
        fit(spec_of(), bad, tmp_path)
    assert latest(tmp_path) is None


def test_a_learning_rate_out_of_all_bounds_fails_instead_of_ending_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=re.escape("with learning rate 1e+30")):
        fit(spec_of(learning_rate=1e30), made_data(), tmp_path)


def test_a_validation_that_is_not_finite_fails_and_says_so(tmp_path: Path) -> None:
    data = made_data()
    bad = TrainData(data.train, (np.full_like(data.valid[0], np.nan), data.valid[1]))
    with pytest.raises(TrainingFailed, match="an output for the validation part is nan at epoch 1, with learning rate"):
        fit(spec_of(), bad, tmp_path)


def test_an_unknown_metric_is_refused_before_the_first_epoch(tmp_path: Path) -> None:
    told: list[EpochReport] = []
    with pytest.raises(ConfigError, match=r"'los' is unknown for a binary task\. Did you mean 'loss'"):
        fit_here(spec_of(metric="los"), made_data(), tmp_path, told.append)
    assert told == []


def test_fewer_rows_than_workers_are_refused(tmp_path: Path) -> None:
    data = made_data(rows=3)
    with pytest.raises(DataError, match="2 rows, too few for 3 workers"):
        fit_here(spec_of(), data, tmp_path, lambda report: None, Place(world=3))


def test_an_empty_validation_part_is_refused(tmp_path: Path) -> None:
    data = made_data()
    with pytest.raises(DataError, match=r"validation part has no rows.*data\.split\.valid"):
        fit(spec_of(), TrainData(data.train, (data.valid[0][:0], data.valid[1][:0])), tmp_path)


def test_what_a_listener_raises_ends_the_training(tmp_path: Path) -> None:
    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        fit_here(spec_of(epochs=9), made_data(), tmp_path, stop)
    assert [report.epoch for report in fit(spec_of(epochs=9), made_data(), tmp_path).history] == list(range(1, 10))


def test_arrays_of_the_object_store_which_nobody_may_write_are_used_as_they_are(tmp_path: Path) -> None:
    data = made_data()
    for array in (*data.train, *data.valid):
        array.setflags(write=False)
    assert fit(spec_of(), data, tmp_path).best_epoch


def test_only_the_first_of_a_group_writes_the_checkpoint(tmp_path: Path) -> None:
    fit_here(spec_of(), made_data(), tmp_path, lambda report: None, Place(rank=1, world=2))
    assert list(tmp_path.iterdir()) == []


def test_the_network_that_is_trained_is_the_one_wrapped_for_the_group(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.module = inner
            self.modes: list[bool] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.modes.append(self.module.training)
            return self.module(x)

    wrapped: list[Wrapped] = []

    def parallel(module: nn.Module) -> nn.Module:
        wrapped.append(Wrapped(module))
        return wrapped[0]

    result = fit_loop(TrainContext(spec_of(epochs=2), made_data(), tmp_path, lambda report: None), parallel)
    assert wrapped[0].modes == [True] * (2 * 5)  # 160 rows in batches of 32, each with dropout where there is any
    assert "layers.0.weight" in load_file(result.checkpoint / WEIGHTS)


def test_a_real_table_is_learnt(tmp_path: Path) -> None:
    result = fit(spec_of(inputs=30, epochs=10, metric="auc"), breast_cancer(), tmp_path)
    assert result.metrics["valid_auc"] > 0.97


@given(rows=st.integers(1, 200), world=st.integers(1, 6), size=st.integers(1, 64))
def test_workers_share_the_rows_and_take_equally_many_steps(rows: int, world: int, size: int) -> None:
    order = torch.randperm(rows)
    places = [Place(rank, world) for rank in range(world)]
    each = size_of(size, places[0])
    shares = [[step.tolist() for step in share_of(order, each, place).split(each)] for place in places]
    shares = [[step for step in share if step] for share in shares]
    chosen = [row for share in shares for step in share for row in step]
    lone = world == 1 < size < rows and rows % size == 1  # a single row left over is no batch
    assert len(chosen) == len(set(chosen)) == rows - rows % world - lone
    assert set(chosen) <= set(range(rows))
    assert len({tuple(len(step) for step in share) for share in shares}) == 1
    assert all(len(step) <= max(1, size // world) for share in shares for step in share)


def feed_of(rows: int, size: int, place: Place | None = None) -> MemoryFeed:
    """Feed rows that hold their own number."""
    numbers = np.arange(rows, dtype=np.float32)
    return MemoryFeed((numbers[:, None], numbers), "regression", spec_of(batch_size=size).train, place or Place())


def steps_of(feed: MemoryFeed, epoch: int = 1) -> list[list[float]]:
    return [y.tolist() for _, y in feed.batches(epoch)]


@given(rows=st.integers(2, 100).map(lambda n: 2 * n), size=st.integers(1, 16).map(lambda n: 2 * n))
def test_two_workers_together_take_the_batches_of_one(rows: int, size: int) -> None:
    alone = [set(step) for step in steps_of(feed_of(rows, size))]
    pair = zip(*(steps_of(feed_of(rows, size, Place(rank, 2))) for rank in (0, 1)), strict=True)
    assert [{*one, *other} for one, other in pair] == alone


@given(rows=st.integers(1, 300), size=st.integers(1, 40), world=st.integers(1, 3), gathered=st.integers(1, 4000))
def test_a_feed_gives_the_steps_that_it_promises_however_much_it_gathers_at_once(
    rows: int, size: int, world: int, gathered: int
) -> None:
    feed = feed_of(max(rows, world), size, Place(0, world))
    whole = steps_of(feed)
    assert len(whole) == feed.steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rayline.training.feed.GATHERED_BYTES", gathered)
        assert steps_of(feed) == whole
    assert all(x[:, 0].tolist() == y.tolist() for x, y in feed.batches(1))


def test_each_epoch_has_an_order_of_its_own() -> None:
    feed = feed_of(50, 32)
    first, second = ([row for step in steps_of(feed, epoch) for row in step] for epoch in (1, 2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(50))


def test_a_feed_counts_the_labels() -> None:
    data = made_data("multiclass")
    feed = MemoryFeed(data.train, "multiclass", spec_of("multiclass").train, Place())
    assert feed.label_counts(4).tolist() == [*np.bincount(data.train[1]).tolist(), 0]
