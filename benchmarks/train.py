"""What does Rayline's training cost beside the bare tools that it stands on?

Questions  1. Rows/s of the ready loop in steady state, beside the same model in a bare PyTorch loop over arrays in
              memory (one worker).
           2. The same with two workers, beside DDP under torchrun (gloo).
           3. Rows/s of batches streamed from disk through Ray Data, beside torch's DataLoader over the same rows in
              memory.
           4. Seconds from the call to the first training step: Rayline with one worker, and with two, beside a bare
              TorchTrainer with as many.
Ceiling    1 and 2: the bare loop and torchrun: nothing but the model's own work. 4: importing torch.
Method     Made rows of 32 numbers, two classes; an MLP of 256 and 128; batches of 256 in all. In each epoch every arm
           shuffles, trains, measures the validation part and writes weights and optimizer state to disk. Every arm
           runs in a fresh process, and the arms take turns. Steady state is the median time from one epoch's end to the
           next, without the first. The bare loops compute with one thread, which is faster for such a model, and what
           Rayline chooses by itself. Starts: Ray is connected before the clock starts (one worker of Rayline needs
           none), libraries are not loaded; the first forward pass stops the clock. Question 3 reads whole epochs and
           does nothing with them; the DataLoader has its defaults but for shuffle, and beside it is one that takes
           whole batches by their indices.
Command    python benchmarks/train.py [--quick]

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

INPUTS = 32
HIDDEN = (256, 128)
BATCH = 256
STEP_FILE = "RAYLINE_BENCHMARK_STEP"


def main() -> int:
    """Run the benchmark, or one arm of it. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows, epochs and rounds")
    parser.add_argument("--arm", choices=sorted(ARMS), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        with tempfile.TemporaryDirectory(prefix="rayline-train-") as folder:
            print(json.dumps(ARMS[options.arm](Path(folder), options.rows, options.epochs)))
        return 0
    rows, epochs, rounds, starts = (40_000, 4, 1, 1) if options.quick else (200_000, 6, 3, 2)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for arm in ("ours_one", "bare_one", "ours_two", "torchrun_two", "feed_ray_data", "feed_dataloader"):
            found.setdefault(arm, []).append(measured(arm, rows, epochs))
    found["feed_dataloader_batched"] = [measured("feed_dataloader_batched", rows, epochs)]
    for _ in range(starts):
        for arm in ("start_ours_one", "start_torchtrainer_one", "start_ours_two", "start_torchtrainer_two"):
            found.setdefault(arm, []).append(measured(arm, 4_096, 1))
    report(found, rounds)
    return 0


def measured(arm: str, rows: int, epochs: int) -> float:
    """Run one arm in a process of its own. Returns rows/s, or seconds of a start."""
    command = [sys.executable, __file__, "--arm", arm, "--rows", str(rows), "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{arm}: {done.stderr[-2000:]}")
    value = float(json.loads(done.stdout.splitlines()[-1]))
    print(f"{arm}: {value:,.2f}", file=sys.stderr, flush=True)
    return value


def made(rows: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the training part, and a fifth as much for validation: float32 (n, 32) and int64 (n,)."""
    chance = np.random.default_rng(3)
    x = chance.normal(size=(rows + rows // 5, INPUTS)).astype(np.float32)
    y = (x[:, 0] + chance.normal(size=len(x)) > 0).astype(np.int64)
    return (x[:rows], y[:rows]), (x[rows:], y[rows:])


def build(inputs: int, outputs: int) -> Any:
    """Build the network of the starts: it writes down when it first takes a training step."""
    from torch import nn

    class Clocked(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, outputs))

        def forward(self, x: Any) -> Any:
            step = os.environ.get(STEP_FILE)
            if self.training and step and not Path(step).exists():
                Path(step).write_text(str(time.time()))
            return self.layers(x)

    return Clocked()


def spec_of(epochs: int, workers: int, builder: str = "mlp", **train: Any) -> Any:
    """Return what Rayline trains."""
    from rayline.config import ModelConfig, TrainConfig
    from rayline.model import InputLayout
    from rayline.training.spec import TrainSpec

    model = ModelConfig(builder=builder, hidden=HIDDEN) if builder == "mlp" else ModelConfig(builder=builder)
    settings = TrainConfig(epochs=epochs, batch_size=BATCH, patience=0, use_gpu=False, num_workers=workers, **train)
    return TrainSpec(model, settings, "binary", ("no", "yes"), InputLayout.plain(INPUTS), 0.0, 1.0)


@contextmanager
def cluster() -> Iterator[None]:
    """Give a Ray of two CPUs."""
    import ray

    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = path
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def steady(rows: int, ends: list[float]) -> float:
    """Return rows/s of the median epoch, of the times at which epochs ended."""
    return rows / median(later - earlier for earlier, later in pairwise(ends))


def ours(workers: int) -> Callable[[Path, int, int], float]:
    """Return an arm: Rayline in steady state."""

    def run(folder: Path, rows: int, epochs: int) -> float:
        from rayline.training.spec import TrainData
        from rayline.training.trainer import train

        data, ends = TrainData(*made(rows)), []
        if workers == 1:
            train(spec_of(epochs, 1), data, folder / "run", lambda each: ends.append(each.at))
            return steady(rows, ends)
        with cluster():
            train(spec_of(epochs, workers), data, folder / "run", lambda each: ends.append(each.at))
        return steady(rows, ends)

    return run


def bare_one(folder: Path, rows: int, epochs: int) -> float:
    """Train in a bare loop."""
    ends: list[float] = []
    bare_loop(folder, rows, epochs, ends)
    return steady(rows, ends)


def torchrun_two(folder: Path, rows: int, epochs: int) -> float:
    """Train under torchrun: the same bare loop, with DDP in two processes."""
    script = [__file__, "--arm", "torchrun_worker", "--rows", str(rows), "--epochs", str(epochs)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return next(float(line) for line in done.stdout.splitlines() if float(line) > 0)


def torchrun_worker(folder: Path, rows: int, epochs: int) -> float:
    """Be one of torchrun's processes; the first tells the result, the other 0."""
    import torch

    torch.distributed.init_process_group("gloo")
    ends: list[float] = []
    bare_loop(folder, rows, epochs, ends)
    rank = torch.distributed.get_rank()
    torch.distributed.destroy_process_group()
    return 0.0 if rank else steady(rows, ends)


def bare_loop(folder: Path, rows: int, epochs: int, ends: list[float]) -> None:
    """Train as a person would who writes nothing but PyTorch, in a group where one is up."""
    import torch
    from torch import distributed, nn
    from torch.nn import functional
    from torch.nn.parallel import DistributedDataParallel

    group = distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if group else (0, 1)
    (x, y), (valid_x, valid_y) = (tuple(torch.from_numpy(each) for each in part) for part in made(rows))
    y, valid_y = y.float(), valid_y.float()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    widths = [INPUTS, *HIDDEN]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
    model = DistributedDataParallel(module) if group else module
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(epoch))[rank::world]
        total = 0.0
        for picked in order.split(BATCH // world):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.binary_cross_entropy_with_logits(model(x[picked])[:, 0], y[picked])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(picked)
        module.eval()
        with torch.inference_mode():
            functional.binary_cross_entropy_with_logits(module(valid_x)[:, 0], valid_y).item()
        if rank == 0:
            torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{epoch}.pt")
        ends.append(time.time())


def feed_ray_data(folder: Path, rows: int, epochs: int) -> float:
    """Read whole epochs through Ray Data."""
    import pyarrow as pa

    from rayline.training.context import Place
    from rayline.training.spec import StreamedPart
    from rayline.training.streamed import RayDataFeed, dataset_of

    (folder / "train").mkdir()
    (x, y), _ = made(rows)
    for place, chosen in enumerate(np.array_split(np.arange(rows), 8)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(x[chosen].reshape(-1)), INPUTS)
        table = pa.table({"x": column, "y": y[chosen]})
        with pa.OSFile(str(folder / "train" / f"{place}.arrow"), "wb") as to, pa.ipc.new_file(to, table.schema) as file:
            file.write_table(table)
    part = StreamedPart(folder, rows, INPUTS)
    with cluster():
        feed = RayDataFeed(part, dataset_of(part), "binary", spec_of(epochs, 1).train, Place())
        return steady(rows, [read(feed.batches(epoch)) for epoch in range(epochs)])


def feed_dataloader(folder: Path, rows: int, epochs: int) -> float:
    """Read whole epochs from torch's DataLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(*map(torch.from_numpy, made(rows)[0])), batch_size=BATCH, shuffle=True)
    return steady(rows, [read(loader) for _ in range(epochs)])


def feed_dataloader_batched(folder: Path, rows: int, epochs: int) -> float:
    """Read whole epochs from a DataLoader that takes a batch by its indices at once."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    dataset = TensorDataset(*map(torch.from_numpy, made(rows)[0]))
    sampler = BatchSampler(RandomSampler(dataset), BATCH, drop_last=False)
    loader = DataLoader(dataset, sampler=sampler, batch_size=None)
    return steady(rows, [read(loader) for _ in range(epochs)])


def read(batches: Any) -> float:
    """Take all batches. Returns the time at the end."""
    assert sum(len(x) for x, _ in batches) > 0
    return time.time()


def start_ours(workers: int) -> Callable[[Path, int, int], float]:
    """Return an arm: Rayline's start."""

    def run(folder: Path, rows: int, epochs: int) -> float:
        parts = made(rows)

        def start() -> None:
            from rayline.training.spec import TrainData
            from rayline.training.trainer import train

            train(spec_of(1, workers, "train:build"), TrainData(*parts), folder / "run")

        if workers == 1:
            return started(folder, start)
        os.environ[STEP_FILE] = str(folder / "step")
        with cluster():
            return started(folder, start)

    return run


def start_torchtrainer(workers: int) -> Callable[[Path, int, int], float]:
    """Return an arm: a bare TorchTrainer's start."""

    def run(folder: Path, rows: int, epochs: int) -> float:
        parts = made(rows)

        def loop(settings: dict[str, Any]) -> None:
            import ray
            import torch
            from ray.train.torch import prepare_model

            x, y = (torch.tensor(each) for each in ray.get(settings["data"])[0])
            model = prepare_model(build(INPUTS, 1))
            optimizer = torch.optim.AdamW(model.parameters())
            for picked in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.binary_cross_entropy_with_logits(
                    model(x[picked])[:, 0], y[picked].float()
                ).backward()
                optimizer.step()

        def start() -> None:
            import ray
            from ray.train import RunConfig, ScalingConfig
            from ray.train.torch import TorchTrainer

            TorchTrainer(
                loop,
                train_loop_config={"data": ray.put(parts)},
                scaling_config=ScalingConfig(num_workers=workers),
                run_config=RunConfig(storage_path=str(folder)),
            ).fit()

        os.environ[STEP_FILE] = str(folder / "step")
        with cluster():
            return started(folder, start)

    return run


def started(folder: Path, start: Callable[[], None]) -> float:
    """Return the seconds from the call to the first training step."""
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ[STEP_FILE] = str(folder / "step")
    began = time.time()
    start()
    return float((folder / "step").read_text()) - began


ARMS: dict[str, Callable[[Path, int, int], float]] = {
    "ours_one": ours(1),
    "bare_one": bare_one,
    "ours_two": ours(2),
    "torchrun_two": torchrun_two,
    "torchrun_worker": torchrun_worker,
    "feed_ray_data": feed_ray_data,
    "feed_dataloader": feed_dataloader,
    "feed_dataloader_batched": feed_dataloader_batched,
    "start_ours_one": start_ours(1),
    "start_ours_two": start_ours(2),
    "start_torchtrainer_one": start_torchtrainer(1),
    "start_torchtrainer_two": start_torchtrainer(2),
}


def report(found: dict[str, list[float]], rounds: int) -> None:
    """Print the table, then the JSON line."""
    table = Table("arm", "median", "least", "most")
    for arm, values in found.items():
        unit = "s" if arm.startswith("start") else "rows/s"
        table.add_row(arm, f"{median(values):,.2f} {unit}", f"{min(values):,.2f}", f"{max(values):,.2f}")
    Console().print(table)
    middle = {arm: median(values) for arm, values in found.items()}
    pairs = {
        "one_worker_vs_bare": ("ours_one", "bare_one"),
        "two_workers_vs_torchrun": ("ours_two", "torchrun_two"),
        "ray_data_vs_dataloader": ("feed_ray_data", "feed_dataloader"),
        "ray_data_vs_dataloader_batched": ("feed_ray_data", "feed_dataloader_batched"),
        "start_vs_torchtrainer": ("start_ours_one", "start_torchtrainer_one"),
        "start_two_vs_torchtrainer": ("start_ours_two", "start_torchtrainer_two"),
    }
    line = {
        "benchmark": "train",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("ray", "torch", "numpy")},
        "rounds": rounds,
        "results": found,
        "ratios": {name: round(middle[ours] / middle[theirs], 3) for name, (ours, theirs) in pairs.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
