"""A training that is interrupted: it goes on with the same numbers, and tells each epoch once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rayline.config import ModelConfig
from rayline.config.training import CheckpointConfig
from rayline.errors import ConfigError, TrainingFailed
from rayline.training import checkpoint, record
from rayline.training.checkpoint import WEIGHTS, folder_of
from rayline.training.context import TrainContext
from rayline.training.loop import fit_loop
from rayline.training.snapshot import OUTLINE, PARTS, Snapshot, load_part, load_weights
from rayline.training.spec import EpochReport, TrainResult, TrainSpec
from training_examples import fit_here, made_data, spec_of

Dropping = ModelConfig(hidden=(8,), dropout=0.4)


class Enough(Exception):
    """The interruption."""


def until(epoch: int, told: list[EpochReport] | None = None) -> Callable[[EpochReport], None]:
    def listen(report: EpochReport) -> None:
        if told is not None:
            told.append(report)
        if report.epoch == epoch:
            raise Enough

    return listen


def interrupted(spec: TrainSpec, out: Path, epoch: int, write_share: float = 0.01) -> None:
    context = TrainContext(spec, made_data(), out, until(epoch), write_share=write_share)
    with pytest.raises(Enough):
        fit_loop(context)


def metrics_of(result: TrainResult) -> list[dict[str, float]]:
    return [dict(report.metrics) for report in result.history]


def last_weights(result: TrainResult, out: Path) -> dict[str, torch.Tensor]:
    return load_file(folder_of(out, len(result.history)) / WEIGHTS)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_three_epochs_and_three_are_six_bit_for_bit(tmp_path: Path, optimizer: str, schedule: str) -> None:
    spec = spec_of(model=Dropping, epochs=6, patience=0, optimizer=optimizer, schedule=schedule, clip_norm=1.0)
    straight = fit_here(spec, made_data(), tmp_path / "straight")
    interrupted(spec, tmp_path / "halves", 3)
    torch.rand(100)  # what happens between them has no part in it
    told: list[EpochReport] = []
    resumed = fit_here(spec, made_data(), tmp_path / "halves", told.append)
    assert metrics_of(resumed) == metrics_of(straight)
    assert tuple(told) == resumed.history
    assert (resumed.best_epoch, resumed.stopped) == (straight.best_epoch, straight.stopped)
    ours, theirs = last_weights(resumed, tmp_path / "halves"), last_weights(straight, tmp_path / "straight")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (resumed.checkpoint / WEIGHTS).read_bytes() == (straight.checkpoint / WEIGHTS).read_bytes()


def test_sharded_weights_are_gathered_for_a_checkpoint_and_divided_again(tmp_path: Path) -> None:
    # A group of one: whatever is divided among workers goes the same way, with nothing to send.
    from torch.distributed.fsdp import fully_shard

    spec = spec_of(model=Dropping, epochs=6, patience=0, optimizer="adam", clip_norm=1.0, accumulate=2)
    plain = fit_here(spec, made_data(), tmp_path / "plain")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(Enough):
            fit_loop(TrainContext(spec, made_data(), tmp_path / "sharded", until(3)), fully_shard)
        sharded = fit_loop(TrainContext(spec, made_data(), tmp_path / "sharded", until(0)), fully_shard)
    finally:
        torch.distributed.destroy_process_group()
    first, second = ([each for report in metrics_of(result) for each in report.values()] for result in (plain, sharded))
    assert second == pytest.approx(first, rel=1e-5)
    ours, theirs = last_weights(sharded, tmp_path / "sharded"), last_weights(plain, tmp_path / "plain")
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6) for name in theirs)


def test_dropout_does_have_a_part_in_these_numbers(tmp_path: Path) -> None:
    with_dropout, without = (
        fit_here(spec_of(model=ModelConfig(hidden=(8,), dropout=p)), made_data(), tmp_path / str(p)) for p in (0.4, 0.0)
    )
    assert metrics_of(with_dropout) != metrics_of(without)


@pytest.mark.parametrize("share", [1.0, 1e-9])
def test_patience_goes_on_from_where_it_was(tmp_path: Path, share: float) -> None:
    spec = spec_of(epochs=60, learning_rate=0.3, patience=3)
    straight = fit_here(spec, made_data(), tmp_path / "straight")
    assert straight.best_epoch + 3 == len(straight.history) < 60
    interrupted(spec, tmp_path / "halves", straight.best_epoch + 2, share)
    resumed = fit_here(spec, made_data(), tmp_path / "halves")
    assert metrics_of(resumed) == metrics_of(straight)
    assert (resumed.stopped, resumed.best_epoch) == ("early", straight.best_epoch)


def test_a_training_that_is_over_is_told_again_and_not_trained(tmp_path: Path) -> None:
    first = fit_here(spec_of(), made_data(), tmp_path)
    before = {file: file.stat().st_mtime_ns for file in first.checkpoint.iterdir()}
    told: list[EpochReport] = []
    again = fit_here(spec_of(), made_data(), tmp_path, told.append)
    assert again.history == first.history == tuple(told)
    assert {file: file.stat().st_mtime_ns for file in again.checkpoint.iterdir()} == before


def test_short_epochs_are_kept_in_memory_and_the_best_and_the_last_are_written(tmp_path: Path) -> None:
    writes: list[str] = []
    real = checkpoint.write

    def count(out: Path, epoch: int, *rest: Any) -> Path:
        writes.append(str(epoch))
        return real(out, epoch, *rest)

    spec = spec_of(epochs=25, learning_rate=0.3, patience=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "write", count)
        result = fit_loop(TrainContext(spec, made_data(), tmp_path / "thrifty", lambda report: None, write_share=1e-9))
        assert writes == [str(result.best_epoch), "25"]
        writes.clear()
        each = fit_loop(TrainContext(spec, made_data(), tmp_path / "each", lambda report: None, write_share=1.0))
        assert writes == [str(epoch) for epoch in range(1, 26)]
    assert (result.checkpoint / WEIGHTS).read_bytes() == (each.checkpoint / WEIGHTS).read_bytes()
    for out in (tmp_path / "thrifty", tmp_path / "each"):
        kept = sorted(place.name for place in (out / checkpoint.FOLDER).iterdir())
        assert kept == [f"epoch-{result.best_epoch:05d}", "epoch-00025"]
        state = checkpoint.read(out, result.best_epoch)
        assert state is not None
        assert len(state.state["history"]) == result.best_epoch


def test_the_best_so_many_are_kept(tmp_path: Path) -> None:
    spec = spec_of(epochs=10, learning_rate=0.3, patience=0, checkpoint=CheckpointConfig(num_to_keep=3))
    result = fit_here(spec, made_data(), tmp_path)
    ranked = sorted(result.history, key=lambda report: (report.metrics["valid_loss"], report.epoch))
    wanted = {report.epoch for report in ranked[:3]} | {10}
    assert {int(place.name[-5:]) for place in (tmp_path / checkpoint.FOLDER).iterdir()} == wanted


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from rayline.config import ModelConfig
    from rayline.training.context import TrainContext
    from rayline.training.loop import fit_loop
    from training_examples import made_data, spec_of

    def listen(report):
        print(report.epoch, report.at, dict(report.metrics), flush=True)
        if report.epoch == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    spec = spec_of(model=ModelConfig(hidden=(8,), dropout=0.4), epochs=6, patience=0)
    fit_loop(TrainContext(spec, made_data(), Path(sys.argv[1]), listen, write_share=1e-9))
"""


def test_epochs_that_a_killed_process_told_are_told_again_as_they_were(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(killed.stdout.splitlines()) == 4
    assert checkpoint.latest(tmp_path / "killed") is None  # all of its epochs are trained again
    with (tmp_path / "killed" / record.FILE).open("a") as file:
        file.write('{"of": "half a li')
    told: list[EpochReport] = []
    spec = spec_of(model=Dropping, epochs=6, patience=0)
    resumed = fit_here(spec, made_data(), tmp_path / "killed", told.append)
    assert [f"{each.epoch} {each.at} {dict(each.metrics)}" for each in told[:4]] == killed.stdout.splitlines()
    assert [each.epoch for each in told] == [1, 2, 3, 4, 5, 6]
    assert tuple(told) == resumed.history
    assert metrics_of(resumed) == metrics_of(fit_here(spec, made_data(), tmp_path / "straight"))
    lines = (tmp_path / "killed" / record.FILE).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_what_was_told_of_another_training_is_no_word_on_this_one(tmp_path: Path) -> None:
    first, second = spec_of(epochs=4), spec_of(epochs=4, learning_rate=0.02)
    told = fit_here(first, made_data(), tmp_path)
    checkpoint.prune(tmp_path, [])
    assert metrics_of(fit_here(second, made_data(), tmp_path)) != metrics_of(told)


def test_an_epoch_that_comes_out_otherwise_is_told_as_at_first_with_a_notice(tmp_path: Path) -> None:
    spec = spec_of(epochs=4)
    first = fit_here(spec, made_data(), tmp_path)
    checkpoint.prune(tmp_path, [])
    heard: list[str] = []
    other = made_data(rows=150)
    again = fit_loop(TrainContext(spec, other, tmp_path, lambda report: None, notice=heard.append))
    assert again.history == first.history
    assert any("epoch 1 was trained again" in line and "what was told first stands" in line for line in heard)


def test_a_damaged_last_checkpoint_is_passed_over_and_its_epochs_are_trained_again(tmp_path: Path) -> None:
    spec = spec_of(epochs=15, patience=0, learning_rate=0.3)
    straight = fit_here(spec, made_data(rows=60), tmp_path)
    last, best = folder_of(tmp_path, 15), straight.best_epoch
    assert best < 15
    (last / WEIGHTS).write_bytes(b"damaged")
    heard: list[str] = []
    again = fit_loop(TrainContext(spec, made_data(rows=60), tmp_path, lambda report: None, notice=heard.append))
    assert again.history == straight.history
    assert (again.checkpoint, len(heard)) == (folder_of(tmp_path, best), 1)
    assert "damaged" in heard[0]


def test_a_damaged_best_checkpoint_is_not_the_result(tmp_path: Path) -> None:
    spec = spec_of(epochs=15, patience=0, learning_rate=0.3)
    best = fit_here(spec, made_data(rows=60), tmp_path).best_epoch
    assert best < 15
    (folder_of(tmp_path, best) / WEIGHTS).write_bytes(b"damaged")
    heard: list[str] = []
    again = fit_loop(TrainContext(spec, made_data(rows=60), tmp_path, lambda report: None, notice=heard.append))
    assert again.checkpoint == folder_of(tmp_path, 15)
    assert any(f"epoch {best}, the best so far, is damaged or gone" in line for line in heard)


def test_a_checkpoint_of_another_model_says_so(tmp_path: Path) -> None:
    fit_here(spec_of(), made_data(), tmp_path)
    with pytest.raises(TrainingFailed, match=r"is of another model .*size mismatch"):
        fit_here(spec_of(model=ModelConfig(hidden=(9,))), made_data(), tmp_path)


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    result = fit_here(spec_of(optimizer="adam"), made_data(), tmp_path)
    names = {file.name for file in result.checkpoint.iterdir()}
    assert names == {WEIGHTS, PARTS, OUTLINE, checkpoint.STATE, checkpoint.MANIFEST}
    for file in result.checkpoint.glob("*.json"):
        json.loads(file.read_text())


class Part:
    """Keeps whatever it is given."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


def test_parts_come_back_as_they_were(tmp_path: Path) -> None:
    state = {
        "milestones": Counter({3: 1, 5: 2}),
        "pair": (1, (2.5, None)),
        7: {"on": True, "name": "x", "list": [torch.arange(3), {"deep": torch.ones(2, dtype=torch.bfloat16)}]},
        "nothing": {},
    }
    Snapshot.of(nn.Linear(1, 1), {"part": Part(state)})(tmp_path)
    back = Part(None)
    load_part(tmp_path, "part", back)
    tensors = (back.state[7]["list"].pop(0), back.state[7]["list"][0].pop("deep"))
    assert torch.equal(tensors[0], state[7]["list"].pop(0))
    assert torch.equal(tensors[1], state[7]["list"][0].pop("deep"))
    assert back.state == state
    assert isinstance(back.state["milestones"], Counter)
    assert isinstance(back.state["pair"], tuple)


def test_a_snapshot_stays_as_it_was_when_training_goes_on(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    snapshot = Snapshot.of(module, {})
    with torch.no_grad():
        module.weight.add_(1)
    snapshot(tmp_path)
    load_weights(tmp_path, module)
    assert torch.equal(module.weight, before)
    assert snapshot.size == 4 * (4 + 2)


def test_a_part_with_something_that_is_no_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"holds a function at 'schedule\.lambdas\[0\]'.*no pickled code"):
        Snapshot.of(nn.Linear(1, 1), {"schedule": Part({"lambdas": [lambda step: step]})})


def test_tied_weights_are_kept(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    Snapshot.of(module, {})(tmp_path)
    load_weights(tmp_path, module)
    assert load_file(tmp_path / WEIGHTS).keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
