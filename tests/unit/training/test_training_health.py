"""A loader that stalls, memory and disks that are full, a compiler that is missing: what each says, and what stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rayline.config import ModelConfig
from rayline.errors import EnvironmentFailed, TrainingFailed
from rayline.training import checkpoint
from rayline.training.context import Place, TrainContext
from rayline.training.feed import Batch, MemoryFeed
from rayline.training.health import disk_full, out_of_memory, watched
from rayline.training.loop import fit_loop
from training_examples import fit_here, made_data, spec_of


class Streamed(MemoryFeed):
    """Batches that come from elsewhere: at one step of one epoch something happens to them."""

    in_memory = False

    def __init__(self, happens: Any = lambda: None, at: tuple[int, int] = (2, 1), **train: Any) -> None:
        super().__init__(made_data().train, "binary", spec_of(**train).train, Place())
        self._happens, self._at = happens, at

    def batches(self, epoch: int) -> Iterator[Batch]:
        for step, batch in enumerate(super().batches(epoch)):
            if (epoch, step) == self._at:
                self._happens()
            yield batch


def fit_streamed(feed: Streamed, out: Path, **train: Any) -> Any:
    return fit_loop(TrainContext(spec_of(**train), made_data(), out, lambda report: None, feed=feed))


def test_a_streamed_feed_gives_the_numbers_of_one_in_memory(tmp_path: Path) -> None:
    streamed = fit_streamed(Streamed(), tmp_path / "streamed")
    held = fit_here(spec_of(), made_data(), tmp_path / "held")
    assert [dict(each.metrics) for each in streamed.history] == [dict(each.metrics) for each in held.history]
    assert not [each for each in threading.enumerate() if each.name.startswith("feed-")]


def test_a_loader_that_stalls_ends_the_training_with_epoch_and_step(tmp_path: Path) -> None:
    for_ever = threading.Event()
    try:
        with pytest.raises(EnvironmentFailed, match=r"no batch for 0\.5 s \(train\.stall_seconds\) at epoch 2, step 1"):
            fit_streamed(Streamed(for_ever.wait), tmp_path, stall_seconds=0.5)
    finally:
        for_ever.set()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.epoch == 1  # the same command goes on from here
    assert len(fit_streamed(Streamed(), tmp_path).history) == 3


def test_what_a_loader_raises_is_raised_in_the_training(tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError("no such block")

    with pytest.raises(LookupError, match="no such block"):
        fit_streamed(Streamed(fail), tmp_path)


def test_a_training_that_takes_no_more_lets_its_loader_go() -> None:
    given = []

    def endless() -> Iterator[int]:
        while True:
            given.append(1)
            yield len(given)

    batches = watched(endless(), 30.0, epoch=1)
    assert [next(batches), next(batches)] == [1, 2]
    batches.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "feed-1":
            thread.join(timeout=20)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_memory_that_runs_out_says_where_and_what_to_change(tmp_path: Path, error: Exception) -> None:
    def fail() -> None:
        raise error

    assert out_of_memory(error)
    with pytest.raises(TrainingFailed, match=r"out of memory at epoch 2, step 1, with batches of 32 rows") as told:
        fit_streamed(Streamed(fail), tmp_path)
    assert "Lower train.batch_size and raise train.accumulate" in str(told.value)


def test_torch_really_says_so(tmp_path: Path) -> None:
    class Greedy(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.empty(1 << 50)
            return self.inner(x)

    with pytest.raises(TrainingFailed, match="out of memory at epoch 1, step 0"):
        fit_loop(TrainContext(spec_of(), made_data(), tmp_path, lambda report: None), Greedy)


def test_an_error_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit_streamed(Streamed(fail), tmp_path)


def test_no_compiler_is_said_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match=r"train\.compile needs a C\+\+ compiler.*neither g\+\+ nor clang\+\+"):
        fit_here(spec_of(compile=True), made_data(), tmp_path / "out")


def test_a_compiler_that_fails_is_said_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(network: nn.Module) -> nn.Module:
        class Broken(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                raise TorchDynamoException("cannot trace this")

        return Broken()

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(EnvironmentFailed, match=r"torch\.compile failed \(TorchDynamoException: cannot trace this\)"):
        fit_here(spec_of(compile=True), made_data(), tmp_path)


def test_which_errors_mean_a_full_disk(tmp_path: Path) -> None:
    assert disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not disk_full(RuntimeError("os error 28"))


def test_a_disk_that_fills_up_leaves_the_checkpoint_before_and_says_what_to_do(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, 1, lambda folder: (folder / "model.bin").write_bytes(b"x" * 1000) and None, {})

    def full(folder: Path) -> None:
        (folder / "model.bin").write_bytes(b"x" * 10)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(EnvironmentFailed) as told:
        checkpoint.write(tmp_path, 2, full, {})
    text = str(told.value)
    assert f"no room to write a checkpoint in '{tmp_path}'" in text
    assert "it needs 1.18 kB and" in text  # as much as the one before
    assert "lower train.checkpoint.num_to_keep" in text
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.epoch == 1
    assert [place.name for place in (tmp_path / checkpoint.FOLDER).iterdir()] == ["epoch-00001"]


LIMITED = """
    import resource, sys
    from pathlib import Path
    from rayline.config import ModelConfig
    from rayline.errors import EnvironmentFailed
    from rayline.training import checkpoint
    from rayline.training.context import TrainContext
    from rayline.training.loop import fit_loop
    from training_examples import made_data, spec_of

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def listen(report):
        if report.epoch == 2:  # from here on no file may be larger than 20 kB
            limit(20_000)

    spec = spec_of(model=ModelConfig(hidden=(2048,)), epochs=5, patience=0)
    for share in (1.0, 1e-9):
        limit(resource.RLIM_INFINITY)
        folder = Path(sys.argv[1]) / str(share)
        try:
            fit_loop(TrainContext(spec, made_data(), folder, listen, write_share=share))
        except EnvironmentFailed as error:
            print(error)
        found = checkpoint.latest(folder)
        print("left", found and found.epoch, sorted(place.name for place in (folder / "checkpoints").glob("*")))
"""


def test_a_limit_on_files_is_a_full_disk_to_a_real_training(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, left, second, nothing = done.stdout.splitlines()
    assert f"no room to write a checkpoint in '{tmp_path / '1.0'}': it needs" in first
    assert "epoch-00002" in left
    assert left.startswith("left 2")
    assert "no room to write a checkpoint" in second
    assert nothing == "left None []"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 400 kB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True, timeout=30).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=30)


def test_a_real_disk_that_is_full(tiny_disk: Path) -> None:
    spec = spec_of(model=ModelConfig(hidden=(2048,)), epochs=5, patience=0)  # 148 kB each: two and a draft do not fit
    context = TrainContext(spec, made_data(), tiny_disk / "run", lambda report: None, write_share=1.0)
    with pytest.raises(EnvironmentFailed, match=r"no room to write .*: it needs 14\d kB and [\d.]+ k?B are free there"):
        fit_loop(context)
    found = checkpoint.latest(tiny_disk / "run")
    assert found is not None
    assert found.epoch == context.epoch - 1
    assert not list((tiny_disk / "run" / checkpoint.FOLDER).glob(".*"))
