"""Builders: the ready-made network, a user's own, and what is said about one that cannot be used."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rayline.config import ModelConfig, Task
from rayline.errors import ConfigError
from rayline.model import InputLayout, build_module, outputs_for
from rayline.modules.mlp import Mlp

SOURCE = """
from torch import nn

answer = 42

def build(inputs, outputs, width=3):
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))

def narrow(inputs, outputs):
    return nn.Linear(inputs - 1, outputs)

def headless(inputs, outputs):
    return nn.Linear(inputs, outputs + 1)

def talkative(inputs, outputs):
    return nn.LSTM(inputs, outputs)

def nothing(inputs, outputs):
    return "a network"
"""
fresh = itertools.count()


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of a user's module in a package of their own, importable while the test runs."""
    package = f"user_package_{next(fresh)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "network.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{package}.network"


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("regression", 1), ("multiclass", 3)])
def test_how_many_numbers_a_task_needs(task: Task, outputs: int) -> None:
    assert outputs_for(task, ("a", "b", "c")) == outputs


@pytest.mark.parametrize("hidden", [(), (5,), (64, 32)])
def test_the_ready_made_network_can_be_run_from_its_weights_alone(hidden: tuple[int, ...]) -> None:
    module = build_module(ModelConfig(hidden=hidden, dropout=0.5), InputLayout.plain(4), 2).eval()
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    assert list(state) == [f"layers.{i}.{part}" for i in range(len(hidden) + 1) for part in ("weight", "bias")]
    x = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    values = x
    for i in range(len(hidden) + 1):
        values = (values if i == 0 else np.maximum(values, 0)) @ state[f"layers.{i}.weight"].T + state[
            f"layers.{i}.bias"
        ]
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), values, atol=1e-5)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    module, x = Mlp(4, 1, (64,), dropout=0.5), torch.ones(1, 4)
    module.eval()
    assert torch.equal(module(x), module(x))
    module.train()
    assert not torch.equal(module(x), module(x))


def test_a_users_builder_gets_its_options(user_module: str) -> None:
    module = build_module(ModelConfig(builder=f"{user_module}:build", options={"width": 9}), InputLayout.plain(4), 2)
    assert [tuple(each.shape) for each in module.parameters()] == [(9, 4), (9,), (2, 9), (2,)]


@pytest.mark.parametrize("path", ["mpl", "package.module", ":build", "package.module:", ".module:build", ""])
def test_a_path_of_the_wrong_form_is_told_the_right_one(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.builder '{path}' must be.*mlp.*my_package\.my_module:build"):
        build_module(ModelConfig(builder=path), InputLayout.plain(4), 1)


def test_a_mistyped_ready_made_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mlp'"):
        build_module(ModelConfig(builder="mpl"), InputLayout.plain(4), 1)


Break = Callable[[str], tuple[str, str]]


@pytest.mark.parametrize(
    "broken",
    [
        lambda module: ("no_such_package.network:build", "module 'no_such_package.network' cannot be imported"),
        lambda module: (f"{module}:biuld", "has no 'biuld'. Did you mean 'build'"),
        lambda module: (f"{module}:nothing", r"must return a torch.nn.Module, not str"),
        lambda module: (f"{module}:answer", "cannot be called as build.*not callable"),
        lambda module: (f"{module}:narrow", r"map float32 \(n, 4\) to float32 \(n, 1\), and raises RuntimeError"),
        lambda module: (f"{module}:headless", r"to float32 \(n, 1\), and makes \(2, 2\) of two rows"),
        lambda module: (f"{module}:talkative", "and makes tuple of two rows"),
    ],
    ids=["module", "attribute", "result", "number", "inputs", "outputs", "tuple"],
)
def test_what_cannot_be_used_is_named(user_module: str, broken: Break) -> None:
    path, words = broken(user_module)
    with pytest.raises(ConfigError, match=words) as told:
        build_module(ModelConfig(builder=path), InputLayout.plain(4), 1)
    assert f"model.builder '{path}'" in str(told.value)


def test_an_option_that_the_builder_does_not_take_is_named(user_module: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be called as build.*model\.options.*'depth'"):
        build_module(ModelConfig(builder=f"{user_module}:build", options={"depth": 9}), InputLayout.plain(4), 1)


def test_options_of_the_ready_made_network_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.options \(depth\) are for a builder of your own"):
        build_module(ModelConfig(options={"depth": 9}), InputLayout.plain(4), 1)


def test_the_check_of_its_shape_changes_nothing_in_a_network(user_module: str) -> None:
    torch.manual_seed(3)
    module = build_module(ModelConfig(builder=f"{user_module}:build"), InputLayout.plain(4), 1)
    after = torch.rand(1)
    torch.manual_seed(3)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    assert torch.rand(1) == after
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), plain.parameters(), strict=True))
    assert module.training
