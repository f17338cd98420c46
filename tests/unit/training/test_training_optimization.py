"""Optimizers, the schedule of the learning rate, clipping and accumulation."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.optim import lr_scheduler

from rayline.config import TrainConfig
from rayline.errors import ConfigError
from rayline.training.checkpoint import WEIGHTS
from rayline.training.context import TrainContext
from rayline.training.loop import fit_loop
from rayline.training.optimization import Stepper, build_optimizer, grouped, rate_at
from rayline.training.spec import TrainResult
from training_examples import fit_here, made_data, spec_of

SCHEDULES = ("constant", "linear", "cosine", "one_cycle")
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")


def rates(total: int, **train: Any) -> list[float]:
    return [rate_at(step, total, TrainConfig(**train)) for step in range(total)]


def of_torch(make: Any, total: int, rate: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_and_linear_are_those_of_torch() -> None:
    cosine = of_torch(lambda each: lr_scheduler.CosineAnnealingLR(each, T_max=40), 40, 0.2)
    assert rates(40, schedule="cosine", learning_rate=0.2) == pytest.approx(cosine)
    linear = of_torch(lambda each: lr_scheduler.LinearLR(each, 1.0, 0.0, total_iters=40), 40, 0.2)
    assert rates(40, schedule="linear", learning_rate=0.2) == pytest.approx(linear)


@pytest.mark.parametrize(("total", "rise"), [(50, 0.3), (7, 0.5), (200, 0.05)])
def test_one_cycle_is_that_of_torch(total: int, rise: float) -> None:
    theirs = of_torch(
        lambda each: lr_scheduler.OneCycleLR(each, 0.2, total_steps=total, pct_start=rise, cycle_momentum=False),
        total - 1,
        0.2,
    )
    assert rates(total, schedule="one_cycle", warmup=rise, learning_rate=0.2)[:-1] == pytest.approx(theirs)
    if rise == 0.3:
        assert rates(total, schedule="one_cycle", learning_rate=0.2)[:-1] == pytest.approx(theirs)


@given(
    schedule=st.sampled_from(SCHEDULES), warmup=st.floats(0, 0.9), total=st.integers(1, 200), rate=st.floats(1e-5, 1.0)
)
def test_a_rate_rises_to_the_configured_one_never_above_and_is_never_nothing(
    schedule: str, warmup: float, total: int, rate: float
) -> None:
    found = rates(total, schedule=schedule, warmup=warmup, learning_rate=rate)
    assert all(0 < each <= rate * (1 + 1e-9) for each in found)
    warm = round(warmup * total)
    if schedule != "one_cycle" and warm < total:
        assert found[warm] == pytest.approx(rate)
        assert found[: warm + 1] == sorted(found[: warm + 1])
        assert found[warm:] == sorted(found[warm:], reverse=True)


@given(items=st.lists(st.integers()), size=st.integers(1, 7))
def test_grouping_keeps_every_item_in_order(items: list[int], size: int) -> None:
    groups = list(grouped(items, size))
    assert [each for group in groups for each in group] == items
    assert all(len(group) == size for group in groups[:-1])
    assert all(0 < len(group) <= size for group in groups)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_learns_with_every_schedule(tmp_path: Path, optimizer: str, schedule: str) -> None:
    rate = {"sgd": 0.3}.get(optimizer, 0.03)
    spec = spec_of(optimizer=optimizer, schedule=schedule, warmup=0.1, learning_rate=rate, epochs=8, clip_norm=1.0)
    result = fit_here(spec, made_data(), tmp_path)
    assert (
        result.metrics["valid_loss"] < 0.7 * result.history[0].metrics["valid_loss"]
        or result.metrics["valid_loss"] < 0.3
    )


def test_momentum_is_that_of_the_configuration() -> None:
    module = nn.Linear(2, 1)
    assert build_optimizer(module, TrainConfig(optimizer="sgd", momentum=0.7)).param_groups[0]["momentum"] == 0.7


def test_weights_that_do_not_learn_are_left_alone() -> None:
    module = nn.Linear(2, 1)
    module.weight.requires_grad_(False)
    assert build_optimizer(module, TrainConfig()).param_groups[0]["params"] == [module.bias]
    module.bias.requires_grad_(False)
    with pytest.raises(ConfigError, match="no weights that learn"):
        build_optimizer(module, TrainConfig())


def test_a_gradient_is_clipped_to_its_norm() -> None:
    module = nn.Linear(3, 1, bias=False)
    before = module.weight.detach().clone()
    config = TrainConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1.0, clip_norm=0.5)
    stepper = Stepper(build_optimizer(module, config), config, steps=1)
    module(torch.full((1, 3), 100.0)).sum().backward()
    stepper.take(1, 0)
    assert float((module.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-4)


def test_an_optimizer_out_of_a_checkpoint_takes_rate_and_decay_of_the_configuration() -> None:
    module = nn.Linear(2, 1)
    config = TrainConfig(learning_rate=0.5, weight_decay=0.25)
    optimizer = build_optimizer(module, config)
    optimizer.param_groups[0].update(lr=7.0, weight_decay=7.0)
    Stepper(optimizer, config, steps=3).begin()
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.5, 0.25)


def losses(result: TrainResult) -> list[float]:
    return [value for report in result.history for value in report.metrics.values()]


@settings(max_examples=12)
@given(
    rows=st.integers(30, 200),
    size=st.sampled_from([4, 8, 16]),
    times=st.integers(1, 5),
    task=st.sampled_from(["binary", "multiclass", "regression"]),
    weighted=st.booleans(),
)
def test_accumulated_batches_are_one_large_batch(
    tmp_path_factory: pytest.TempPathFactory, rows: int, size: int, times: int, task: Any, weighted: bool
) -> None:
    out = tmp_path_factory.mktemp("accumulate")
    weights = "balanced" if weighted and task != "regression" else None
    settings_of = {"epochs": 2, "class_weights": weights, "optimizer": "sgd", "learning_rate": 0.05}
    data = made_data(task, rows=rows)
    # A single row left over is no batch: the two divisions must leave over the same.
    train = tuple(each[: len(each) // (size * times) * size * times] for each in data.train)
    if not len(train[0]):
        return
    data = type(data)(train, data.valid)  # type: ignore[arg-type]
    large = fit_here(spec_of(task, batch_size=size * times, **settings_of), data, out / "large")
    small = fit_here(spec_of(task, batch_size=size, accumulate=times, **settings_of), data, out / "small")
    assert losses(small) == pytest.approx(losses(large), rel=1e-3, abs=1e-5)


def test_the_last_step_of_an_epoch_takes_what_is_left_as_a_batch_of_its_own(tmp_path: Path) -> None:
    data = made_data(rows=60)  # 40 for training: three batches of 16, 16 and 8; steps of 32 and 8
    large = fit_here(spec_of(batch_size=32), data, tmp_path / "large")
    small = fit_here(spec_of(batch_size=16, accumulate=2), data, tmp_path / "small")
    assert losses(small) == pytest.approx(losses(large), rel=1e-4)


def test_workers_gradients_meet_once_a_step(tmp_path: Path) -> None:
    class Group(nn.Module):
        """Counts as DistributedDataParallel would be asked."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.module = inner
            self.apart = False
            self.met: list[bool] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.met.append(not self.apart)
            return self.module(x)

        def no_sync(self) -> Any:
            @contextmanager
            def apart() -> Any:
                self.apart = True
                yield
                self.apart = False

            return apart()

    groups: list[Group] = []

    def parallel(module: nn.Module) -> nn.Module:
        groups.append(Group(module))
        return groups[0]

    spec = spec_of(epochs=1, batch_size=32, accumulate=2)  # 160 rows: five batches, three steps
    fit_loop(TrainContext(spec, made_data(), tmp_path, lambda report: None), parallel)
    assert groups[0].met == [False, True, False, True, True]


def test_bf16_learns_and_is_validated_in_float32(tmp_path: Path) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Looking(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            outputs = self.inner(x)
            seen.append((self.training, outputs.dtype))
            return outputs

    full = fit_here(spec_of(epochs=6), made_data(), tmp_path / "full")
    spec = spec_of(epochs=6, precision="bf16")
    result = fit_loop(TrainContext(spec, made_data(), tmp_path / "half", lambda report: None), Looking)
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16}
    assert result.metrics["valid_loss"] == pytest.approx(full.metrics["valid_loss"], rel=0.1)
    assert result.metrics != full.metrics
    assert all(math.isfinite(each) for each in losses(result))
    weights = load_file(result.checkpoint / WEIGHTS)
    assert {each.dtype for each in weights.values()} == {torch.float32}
