"""``train.loop``: what a loop of one's own is given, what stays around it, and what its mistakes are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from rayline.config import Config, DataConfig, FeaturesConfig, ModelConfig, TrainConfig
from rayline.errors import ConfigError, TrainingFailed
from rayline.model import file_digest
from rayline.project import Project
from rayline.training.checkpoint import WEIGHTS
from rayline.training.checks import check
from rayline.training.context import TrainContext
from rayline.training.loop import fit_loop
from rayline.training.own_loop import LoopContext
from rayline.training.spec import EpochReport, TrainResult
from training_examples import fit_here, made_data, spec_of

Loop = Callable[[LoopContext], Any]
Fit = Callable[..., TrainResult]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Train with a loop that a module of the user holds."""

    def run(
        loop: Loop, out: str = "out", on_epoch: Any = lambda report: None, task: Any = "binary", **train: Any
    ) -> Any:
        module = ModuleType("my_loop")
        module.train_loop = loop  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "my_loop", module)
        model = ModelConfig(hidden=(8,), dropout=0.3)
        spec = spec_of(task, model=model, loop="my_loop:train_loop", **train)
        return fit_here(spec, made_data(task), tmp_path / out, on_epoch)

    return run


def plain_loop(context: LoopContext) -> None:
    """The ready loop's own steps, written out."""
    optimizer = torch.optim.AdamW(
        context.model.parameters(), lr=context.settings.learning_rate, weight_decay=1e-4, fused=True
    )
    context.checkpoint(optimizer=optimizer)
    for _ in context.epochs():
        total, rows = 0.0, 0
        for x, y in context.batches():
            loss = context.loss(context.model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, rows = total + loss.item() * len(x), rows + len(x)
        context.report({"train_loss": total / rows, **context.validate()})


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_ready_loop_written_out_gives_the_ready_loops_numbers(fit: Fit, tmp_path: Path, task: Any) -> None:
    own = fit(plain_loop, task=task, epochs=4)
    ready = fit_here(
        spec_of(task, model=ModelConfig(hidden=(8,), dropout=0.3), epochs=4), made_data(task), tmp_path / "ready"
    )
    assert [dict(each.metrics) for each in own.history] == [dict(each.metrics) for each in ready.history]
    ours, theirs = load_file(own.checkpoint / WEIGHTS), load_file(ready.checkpoint / WEIGHTS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_it_goes_on_after_an_interruption_bit_for_bit(fit: Fit) -> None:
    def stop(report: EpochReport) -> None:
        if report.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(plain_loop, "halves", stop, epochs=6, patience=0)
    told: list[EpochReport] = []
    resumed = fit(plain_loop, "halves", told.append, epochs=6, patience=0)
    straight = fit(plain_loop, "straight", epochs=6, patience=0)
    assert [dict(each.metrics) for each in told] == [dict(each.metrics) for each in straight.history]
    assert tuple(told) == resumed.history
    ours, theirs = load_file(resumed.checkpoint / WEIGHTS), load_file(straight.checkpoint / WEIGHTS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_early_stopping_stays(fit: Fit) -> None:
    result = fit(plain_loop, epochs=60, learning_rate=0.3, patience=2)
    assert result.stopped == "early"
    assert len(result.history) == result.best_epoch + 2 < 60


def test_what_it_is_given(fit: Fit) -> None:
    seen: dict[str, Any] = {}

    def loop(context: LoopContext) -> None:
        seen.update(
            device=context.device,
            place=(context.rank, context.world),
            task=context.task,
            classes=context.classes,
            epoch=context.epoch,
            rate=context.settings.learning_rate,
        )
        x, y = next(iter(context.batches()))
        seen["batch"] = (tuple(x.shape), x.dtype, tuple(y.shape), y.dtype)
        seen["mode"] = context.model.training
        parts = list(context.valid_batches())
        seen["valid"] = (sum(len(each) for each, _ in parts), {truth.dtype for _, truth in parts})
        context.model.eval()
        with torch.no_grad():
            outputs = torch.cat([context.model(each) for each, _ in parts])
        truth = torch.cat([each for _, each in parts])
        measured = context.validate()
        seen["agrees"] = float(context.loss(outputs, truth)) == pytest.approx(measured["valid_loss"], rel=1e-5)
        for _ in context.epochs():
            context.report({**measured, "focal/2": 1, "count": torch.tensor([3])})

    result = fit(loop, task="multiclass", epochs=2)
    assert seen == {
        "device": torch.device("cpu"),
        "place": (0, 1),
        "task": "multiclass",
        "classes": ("a", "b", "c"),
        "epoch": 0,
        "rate": 0.01,
        "batch": ((32, 4), torch.float32, (32,), torch.int64),
        "mode": True,
        "valid": (80, {torch.int64}),
        "agrees": True,
    }
    assert (result.metrics["focal/2"], result.metrics["count"]) == (1.0, 3.0)


def test_it_may_end_by_its_own_judgement(fit: Fit) -> None:
    def loop(context: LoopContext) -> None:
        for epoch in context.epochs():
            context.report(context.validate(), last=epoch == 2)

    result = fit(loop, epochs=9)
    assert (len(result.history), result.stopped) == (2, "early")
    assert fit(loop, epochs=9).history == result.history  # over is over


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scores=st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_whatever_it_reports_the_best_epoch_is_kept(tmp_path_factory: Any, scores: list[float]) -> None:
    def loop(context: LoopContext) -> None:
        for epoch in context.epochs():
            with torch.no_grad():
                for weight in context.model.parameters():
                    weight.fill_(float(epoch))
            context.report({"valid_loss": scores[epoch - 1]})

    module = ModuleType("my_scores")
    module.train_loop = loop  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "my_scores", module)
        spec = spec_of(loop="my_scores:train_loop", epochs=len(scores), patience=0)
        result = fit_here(spec, made_data(), tmp_path_factory.mktemp("scores"))
    assert result.best_epoch == 1 + scores.index(min(scores))
    assert all(bool((each == result.best_epoch).all()) for each in load_file(result.checkpoint / WEIGHTS).values())


def once(metrics: dict[str, Any]) -> Loop:
    def loop(context: LoopContext) -> None:
        for _ in context.epochs():
            context.report(metrics)

    return loop


def twice_too_often(context: LoopContext) -> None:
    for _ in range(4):
        context.report(context.validate())


def first_epoch_only(context: LoopContext) -> None:
    context.report(context.validate())


def silent(context: LoopContext) -> None:
    for _ in context.epochs():
        list(context.batches())


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (lambda context: None, r"'my_loop:train_loop' returned without a report\. Iterate over context\.epochs\(\)"),
        (first_epoch_only, r"returned after epoch 1 of 3\. .*or end earlier by context\.report\(\.\.\., last=True\)"),
        (silent, r"epoch 1 ended without context\.report"),
        (twice_too_often, r"reports epoch 4, and the training was over after 3"),
        (once({"train_loss": 1.0}), r"epoch 1 has 'train_loss' and no 'valid_loss'.*\*\*context\.validate\(\)"),
        (once({}), r"epoch 1 has nothing and no 'valid_loss'"),
        (once({"valid_loss": float("nan")}), r"valid_loss is nan at epoch 1, with learning rate 0\.01"),
        (once({"valid_loss": 1.0, "train_loss": float("inf")}), r"train_loss is inf at epoch 1"),
        (once({"valid_loss": torch.ones(2)}), r"'valid_loss' must be one number, not Tensor"),
        (once({"valid_loss": 1.0, "note": "fine"}), r"'note' must be one number, not str"),
        (once({"valid_loss": 1.0, "a=b": 1.0}), r"cannot be called 'a=b'"),
    ],
)
def test_a_loop_that_does_not_keep_its_rules_is_told_which(fit: Fit, loop: Loop, words: str) -> None:
    with pytest.raises(TrainingFailed, match=words):
        fit(loop)


def test_a_part_without_a_state_is_refused(fit: Fit) -> None:
    with pytest.raises(ConfigError, match=r"context\.checkpoint\(ema=\.\.\.\) needs state_dict and load_state_dict"):
        fit(lambda context: context.checkpoint(ema=np.zeros(3)))


def test_a_part_that_the_last_checkpoint_does_not_hold_is_named(fit: Fit) -> None:
    def stop(report: EpochReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(plain_loop, on_epoch=stop)
    with pytest.raises(ConfigError, match=r"holds no 'optim', only 'optimizer'\. Keep the same parts"):
        fit(lambda context: context.checkpoint(optim=torch.optim.SGD(context.model.parameters())))


def test_what_it_raises_itself_is_raised_as_it_is(fit: Fit) -> None:
    def loop(context: LoopContext) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fit(loop)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        ("train_loop", r"'train_loop' must read my_package\.my_module:train_loop"),
        ("no_such_module_here:f", "cannot be imported"),
        ("rayline.training.own_loop:run_ow", r"has no 'run_ow'\. Did you mean 'run_own'"),
        ("rayline.training.own_loop:NAME", "has no function 'NAME'"),
    ],
)
def test_a_loop_that_cannot_be_found(tmp_path: Path, loop: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit_here(spec_of(loop=loop), made_data(), tmp_path)


def test_a_loop_for_what_is_no_module_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trains PyTorch modules, and model\.builder 'xgboost' gives none"):
        check(spec_of(model=ModelConfig(builder="xgboost"), loop="my_loop:train_loop"))


def test_the_file_of_a_loop_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_digested_loop.py"
    file.write_text("def train_loop(context): ...\n")
    first = file_digest("my_digested_loop:train_loop")
    file.write_text("def train_loop(context): pass\n")
    second = file_digest("my_digested_loop:train_loop")
    assert None not in (first, second)
    assert first != second
    assert file_digest("no_such_module_here:f") is None


def test_the_model_that_it_trains_is_the_one_wrapped_for_the_group(fit: Fit, tmp_path: Path) -> None:
    fit(plain_loop, epochs=1)  # puts the module in place
    wrapped: list[torch.nn.Module] = []

    def parallel(module: torch.nn.Module) -> torch.nn.Module:
        wrapped.append(torch.nn.Sequential(module))
        return wrapped[0]

    spec = spec_of(loop="my_loop:train_loop", epochs=1)
    result = fit_loop(TrainContext(spec, made_data(), tmp_path / "group", lambda report: None), parallel)
    assert set(load_file(result.checkpoint / WEIGHTS)) == set(wrapped[0][0].state_dict())


def test_the_default_is_the_ready_loop() -> None:
    assert TrainConfig().loop is None


def test_a_loop_that_was_edited_is_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.csv").write_text("a,y\n1,0\n2,1\n")
    file = tmp_path / "my_edited_loop.py"
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        file.write_text(text)
        config = Config(
            name="edited",
            data=DataConfig(source=str(tmp_path / "table.csv")),
            features=FeaturesConfig(target="y"),
            train=TrainConfig(loop="my_edited_loop:train_loop"),
            storage=str(tmp_path / "state"),
        )
        keys.append(Project(config).key("train"))
    assert keys[0] == keys[2] != keys[1]
