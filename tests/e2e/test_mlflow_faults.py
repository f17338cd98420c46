"""Drivers and MLflow servers that are killed or stand still, as real processes: one run, each step once, no waiting."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rayline import cluster, config, flow
from rayline.config import Config
from rayline.project import Project
from rayline.registry.mlflow_store import MlflowStore

EPOCHS = 14
SLOW = '''
import os
import time
from pathlib import Path

import torch

class Slow(torch.nn.Module):
    """A network that trains no further than it is told, so that there is a middle to be killed in."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)
        self.epochs = 0

    def forward(self, x):
        if self.training:  # all rows are one batch
            until = Path(os.environ["UNTIL_EPOCH"])
            while self.epochs >= int(until.read_text()):
                until.with_suffix(".reached").write_text(str(self.epochs))
                time.sleep(0.02)
            self.epochs += 1
        return self.layer(x)

def build(inputs, outputs, **options):
    return Slow(inputs, outputs)
'''
PROJECT = f"""
name: wine
data: {{source: "sklearn:wine"}}
features: {{target: target}}
model: {{builder: "slow:build"}}
train: {{epochs: {EPOCHS}, patience: 0, batch_size: 1024, learning_rate: 0.01, use_gpu: false}}
"""


def until(read: Callable[[], Any], what: str, seconds: float = 180.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return value


class Driver:
    """One ``rayline train`` as a process of its own."""

    def __init__(self, file: Path, seed: int, tracking_uri: str | None = None, until_epoch: int = EPOCHS) -> None:
        self.settings = [f"train.seed={seed}"] + ([f"registry.tracking_uri={tracking_uri}"] if tracking_uri else [])
        self.config = config.load(file, tuple(self.settings))
        self._file = file
        self._process: subprocess.Popen[str] | None = None
        self._checkpoints = self.storage / "runs" / Project(self.config).key("train") / "checkpoints"
        self._until = file.with_name(f"until-{seed}")
        self.may_train(until_epoch)

    def may_train(self, until_epoch: int) -> None:
        """Have it stand still after so many epochs since its start, and no earlier."""
        written = self._until.with_suffix(".new")
        written.write_text(str(until_epoch))
        written.replace(self._until)

    def start(self) -> Driver:
        """Start it."""
        overrides = [part for each in self.settings for part in ("--set", each)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rayline.cli.app", "train", str(self._file), "--json", *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "UNTIL_EPOCH": str(self._until),
                "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            },
        )
        return self

    def epoch(self) -> int:
        """Return the last epoch whose checkpoint is there."""
        found = self._checkpoints.glob("epoch-*")
        return max((int(each.name.removeprefix("epoch-")) for each in found), default=0)

    def reaches(self, epoch: int) -> None:
        """Wait until it stands still after an epoch."""
        process, reached = self._process, self._until.with_suffix(".reached")
        assert process is not None

        def stands() -> bool:
            assert process.poll() is None, process.communicate()[1]
            return reached.exists() and reached.read_text() == str(epoch)

        until(stands, f"epoch {epoch}")

    def trains_until_written(self) -> int:
        """Have it train, no epoch shorter than a fifth of a second, until a checkpoint is there; return the epoch.

        Checkpoints take a hundredth of the time at most: of epochs that are over at once none is written for a second.
        """
        for epoch in range(1, EPOCHS):
            self.may_train(epoch)
            self.reaches(epoch)
            if self.epoch():
                return epoch
            time.sleep(0.2)
        raise AssertionError("no checkpoint was written")

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def result(self) -> dict[str, Any]:
        """Wait for its end and return what it printed."""
        assert self._process is not None
        printed, errors = self._process.communicate(timeout=240)
        assert self._process.returncode == 0, errors
        found: dict[str, Any] = json.loads(printed[printed.index("{") :])
        return found

    @property
    def storage(self) -> Path:
        """The project's state."""
        return Path(self.config.storage)


class Server:
    """A real MLflow server on the loopback, on SQLite, in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as candidate:
            candidate.bind(("127.0.0.1", 0))
            self._port = candidate.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = ("--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}", "--workers", "1")
        where += ("--artifacts-destination", str(self._folder / "artifacts"))
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), *where],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # its processes would outlive it
            )
        until(self._answers, "the server")

    def send(self, number: int) -> None:
        """Send a signal to all its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill it, where it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            with suppress(OSError):
                probe.connect(("127.0.0.1", self._port))
                probe.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(100)
        return False


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose features are there already: training in one process needs no Ray."""
    folder = tmp_path_factory.mktemp("wine")
    (folder / "slow.py").write_text(SLOW)
    file = folder / "rayline.yaml"
    file.write_text(PROJECT)
    loaded: Config = config.load(file)
    try:
        flow.run(loaded, until="features")
    finally:
        cluster.stop(Path(loaded.storage))
    return file


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "server")
    try:
        yield found
    finally:
        found.kill()


def the_run(driver: Driver) -> tuple[str, list[tuple[int, float]]]:
    """Return the id and the losses of the one run with the driver's seed: it is finished, and has each step once."""
    store = MlflowStore.open(driver.config.registry.tracking_uri, driver.config.storage)
    runs = [store.run(run) for run in store.find_runs("wine", {"rayline.project": "wine"})]
    (run,) = [each for each in runs if each.params.get("train.seed") == str(driver.config.train.seed)]
    assert run.status == "FINISHED"
    for metric in ("train_loss", "valid_loss", "valid_accuracy"):
        assert [step for step, _ in store.history(run.run_id, metric)] == list(range(1, EPOCHS + 1))
    assert len(store.history(run.run_id, "best_valid_loss")) == 1
    assert {"config.yaml", "plots/loss_curve.png"} <= set(run.files)
    assert set(run.datasets) == {"training", "validation", "evaluation"}
    return run.run_id, list(store.history(run.run_id, "valid_loss"))


def test_a_driver_that_was_killed_goes_on_in_its_run(project: Path) -> None:
    driver = Driver(project, seed=1, until_epoch=1).start()
    reached = driver.trains_until_written()
    driver.kill()
    before = driver.epoch()
    driver.may_train(EPOCHS)

    result = driver.start().result()["steps"]["train"]

    run_id, losses = the_run(driver)
    assert 0 < before == result["resumed_after"] <= reached < EPOCHS
    assert (result["run_id"], result["epochs"]) == (run_id, EPOCHS)
    state = json.loads((Path(result["checkpoint"]) / "state.json").read_text())
    assert [each["metrics"]["valid_loss"] for each in state["history"]] == [loss for _, loss in losses]
    assert driver.start().result()["steps"]["train"] == result  # and once finished, it stays so


def test_training_does_not_wait_for_a_server_that_stands_still(project: Path, server: Server) -> None:
    server.start()
    driver = Driver(project, seed=2, tracking_uri=server.uri, until_epoch=2).start()
    driver.reaches(2)

    server.send(signal.SIGSTOP)
    driver.may_train(EPOCHS - 1)
    driver.reaches(EPOCHS - 1)  # epochs go by while nothing answers
    server.send(signal.SIGCONT)
    driver.may_train(EPOCHS)

    assert not [text for text in driver.result()["notices"] if " wait in " in text]
    the_run(driver)
    assert not list(driver.storage.glob("tracking/*/*.jsonl"))


def test_a_server_that_is_killed_gets_all_when_it_is_back(project: Path, server: Server) -> None:
    server.start()
    driver = Driver(project, seed=3, tracking_uri=server.uri, until_epoch=3).start()
    driver.reaches(3)
    server.kill()
    driver.may_train(EPOCHS)

    ended = driver.result()

    (waits,) = [text for text in ended["notices"] if " points for MLflow wait in " in text]
    assert waits.endswith("they are delivered by the next rayline command")
    assert any("Training goes on" in text for text in ended["notices"])
    server.start()
    again = driver.start().result()
    assert again["notices"] == []
    run_id, _ = the_run(driver)
    assert again["steps"]["train"]["run_id"] in (run_id, ended["steps"]["train"]["run_id"])
    assert not list(driver.storage.glob("tracking/*/*.jsonl"))
