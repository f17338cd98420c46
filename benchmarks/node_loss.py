"""What does it cost when a machine vanishes: a worker node in each part of the flow, or the head?

Question   A worker node is killed during features, a training, a Study, a rollout or under a service's load; the head
           is killed with its state in memory, and on disk. What work is done again, is any run or trial lost or
           doubled, how many requests fail, and how soon does all stand again?
Ceiling    0 lost, 0 doubled, 0 failed after one retry. To recover: what Ray needs to notice (5 failed looks at a node
           that does not answer) and a process to start.
Method     Real nodes on this machine: a head without CPUs and two worker nodes of `ray start --block`, joined by a
           token. A node is killed with all of its processes at once, at a moment that chance chooses, and another joins
           after each round. `features`: many files on Ray Data; the table is compared with that of an unbroken run.
           `training`: two workers, of which one goes, elastic. `study`: one of two warm workers goes with its trial.
           Of these three MLflow is asked afterwards. `service`: one of two replicas goes. `controller`: a rollout waits
           at 10 %, and the node of its controller goes (by itself that is on the head's node). `head_rocksdb` and
           `head_memory`: a rollout waits at 10 %, the head is killed, and the next command comes; a node that has lost
           a head for good is joined anew. Clients in a process of their own ask at a bounded rate; one that fails asks
           once more, and both are counted. To recover: from the kill to two replicas that follow the plan and answer.
Command    python benchmarks/node_loss.py [--quick] [--only FAULT] [--rounds 5] [--rate 100]

Work done again is in epochs; of the features, to recover is what a killed run took beyond an unbroken one. The last
line is one JSON object. Seconds are only as good as the machine is quiet; the counts do not depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import kills  # noqa: E402
from load_client import Load  # noqa: E402
from node_cluster import NodeCluster, node_cluster, until  # noqa: E402
from rayline import cluster, config, flow, release  # noqa: E402
from rayline.config import Config  # noqa: E402
from rayline.project import Project  # noqa: E402
from rayline.registry.bundle import Bundle  # noqa: E402
from rayline.rollout import commands  # noqa: E402
from rayline.rollout.controller import Controller, actor_name  # noqa: E402
from rayline.rollout.ports import LIVE  # noqa: E402
from rayline.serving.http.ingress import ingress_environment  # noqa: E402
from rayline.serving.service import Service  # noqa: E402

NAME = "wine"
PORT, HEAD_PORT = 22460, 22420
FILES, FILE_ROWS = 24, 4_000
DEADLINE_S = 240.0
AWAY = {"away": 100.0}
ON_RAY_DATA = (
    "import sys; from rayline.features import sources; sources.ONE_READ_BYTES = 0; "
    "from rayline.cli.app import main; main(sys.argv[1:])"
)


@dataclass
class Loss:
    """What a fault cost in all its rounds. Goal: 0 everywhere, but for rounds, requests and seconds."""

    rounds: int = 0
    killed_in_time: int = 0
    done_again: int = 0
    runs_lost: int = 0
    runs_doubled: int = 0
    trials_lost: int = 0
    trials_doubled: int = 0
    steps_lost: int = 0
    steps_doubled: int = 0
    resumed_by_hand: int = 0
    requests: int = 0
    failed_first: int = 0
    failed_after_retry: int = 0
    recover_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def main() -> int:
    """Run the benchmark. Returns the process's exit status: 1 where something was lost or doubled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of each fault")
    parser.add_argument("--only", choices=[*BATCH, *LIVE_FAULTS], action="append", help="only this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second of all clients")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    found: dict[str, Loss] = {}
    for name in options.only or [*BATCH, *LIVE_FAULTS]:
        loss = found[name] = Loss()
        chance = random.Random(f"{name}-{options.seed}")
        try:
            if name in BATCH:
                BATCH[name](loss, rounds, chance)
            else:
                suffer(name, loss, rounds, options.rate)
        except Exception as error:  # noqa: BLE001 - the other faults go on
            loss.troubles.append(f"{type(error).__name__}: {error}"[:500])
        print(f"{name}: {asdict(loss)}", flush=True)
    report(found)
    return int(any(_anything(each) for each in found.values()))


@contextmanager
def digits() -> Iterator[tuple[kills.Bench, NodeCluster]]:
    """Give a project on scikit-learn's digits and its cluster: commands compute on its worker nodes alone."""
    with (
        kills.project() as bench,
        node_cluster(bench.storage, HEAD_PORT, ingress_environment("127.0.0.1", PORT, str(bench.storage))) as nodes,
    ):
        cluster.connect(bench.storage)
        try:
            nodes.add("one")
            nodes.add("two")
            bench.run("register", 0)
            yield bench, nodes
        finally:
            cluster.disconnect()


def strike(nodes: NodeCluster, driver: subprocess.Popen[str], title: str, after: float, chance: random.Random) -> float:
    """Kill a node that holds a process of that title, some seconds after one did. Returns when, 0 where none was."""
    holding: list[str] = []
    while not holding and driver.poll() is None:
        holding = [name for name in nodes.nodes if nodes.holds(name, title)]
        time.sleep(0.02)
    time.sleep(after)
    holding = [name for name in nodes.nodes if nodes.holds(name, title)]
    if not holding or driver.poll() is not None:
        return 0.0
    victim = chance.choice(holding)
    nodes.kill(victim)
    return time.time()


def finished(bench: kills.Bench, driver: subprocess.Popen[str], loss: Loss, again: Callable[[], None]) -> None:
    """Wait for a command; one that failed must come to its end when it is given again."""
    if driver.wait(timeout=DEADLINE_S) != 0:
        loss.resumed_by_hand += 1
        again()


def joined_anew(nodes: NodeCluster) -> None:
    """Have two worker nodes again."""
    for name in {"one", "two"} - set(nodes.nodes):
        until(lambda gone=name: not nodes.known(gone), "the cluster to notice", DEADLINE_S)
        nodes.add(name, resources=AWAY)


def lost_training(loss: Loss, rounds: int, chance: random.Random) -> None:
    """Kill a node with one of two training workers; the training goes on with one, from the last checkpoint."""
    more = ("train.num_workers=[1, 2]",)
    with digits() as (bench, nodes):
        for seed in range(100, 100 + rounds):
            known = set(bench.storage.glob("runs/*"))
            driver = bench.start("train", seed, *more)
            new = until(lambda known=known: set(bench.storage.glob("runs/*")) - known, "the training", DEADLINE_S)
            journal = next(iter(new)) / "group.jsonl"
            some = chance.randrange(1, kills.EPOCHS // 2)
            until(
                lambda some=some, at=journal, who=driver: _epochs(at) >= some or who.poll() is not None, "epochs", 200
            )
            at, before = strike(nodes, driver, "ray::GroupActor", 0.0, chance), _epochs(journal)
            if at:
                loss.killed_in_time += 1
                until(lambda n=before, at=journal: _epochs(at) > n, "the next epoch", DEADLINE_S)
                loss.recover_s.append(time.time() - at)
            finished(bench, driver, loss, lambda seed=seed: bench.run("train", seed, *more))
            loss.done_again += _epochs(journal) - kills.EPOCHS
            _asked_of_mlflow(loss, lambda losses, seed=seed: kills.check_run(bench, seed, losses))
            joined_anew(nodes)


def lost_study(loss: Loss, rounds: int, chance: random.Random) -> None:
    """Kill a node with a worker and its trial; the trial goes on elsewhere."""
    from rayline.tuning import ledger

    with digits() as (bench, nodes):
        for seed in range(100, 100 + rounds):
            known = set(bench.storage.glob("studies/*"))
            driver = bench.start("tune", seed)
            new = until(lambda known=known: set(bench.storage.glob("studies/*")) - known, "the Study", DEADLINE_S)
            file = next(iter(new)) / "trials.jsonl"
            some = chance.randrange(1, kills.TRIALS // 2)
            until(lambda some=some, at=file, who=driver: len(ledger.read(at)) >= some or who.poll() is not None, "some")
            at, before = strike(nodes, driver, "ray::Worker", chance.uniform(0, 0.5), chance), len(ledger.read(file))
            if at:
                loss.killed_in_time += 1
                until(lambda n=before, at=file: len(ledger.read(at)) > n + 1, "the next trials", DEADLINE_S)
                loss.recover_s.append(time.time() - at)
            finished(bench, driver, loss, lambda seed=seed: bench.run("tune", seed))
            _asked_of_mlflow(loss, lambda losses, seed=seed: kills.check_study(bench, seed, losses))
            joined_anew(nodes)


def lost_features(loss: Loss, rounds: int, chance: random.Random) -> None:
    """Kill a node with tasks of Ray Data; what it had is computed again, or the same command resumes."""
    with tempfile.TemporaryDirectory(prefix="rayline-nodes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _write_files(folder / "data")
        settings = {"name": "many", "data": {"source": str(folder / "data" / "*.parquet")}}
        file, log = folder / "rayline.yaml", folder / "log.txt"
        file.write_text(json.dumps(settings | {"features": {"target": "y"}, "train": {"epochs": 1}}))
        storage = folder / ".rayline"
        command = [sys.executable, "-c", ON_RAY_DATA, "train", str(file)]
        with node_cluster(storage, HEAD_PORT, ingress_environment("127.0.0.1", PORT, str(storage))) as nodes:
            cluster.connect(storage)
            nodes.add("one", resources=AWAY)
            nodes.add("two", resources=AWAY)

            def run(number: int, verb: Callable[..., Any]) -> Any:
                share = f"--set=data.split.test={0.1 + number / 1000:.3f}"  # each round divides the table anew
                with log.open("a") as output:
                    return verb([*command, share], stdout=output, stderr=output, cwd=folder)

            run(0, subprocess.check_call)  # loads what a first command loads
            for number in range(1, 1 + rounds):
                began = time.time()
                run(number, subprocess.check_call)
                usual, expected = time.time() - began, _features(storage)
                _forget(storage, expected["key"])
                began = time.time()
                driver = run(number, subprocess.Popen)
                if strike(nodes, driver, "ray::", chance.uniform(0.1, 0.5) * usual, chance):
                    loss.killed_in_time += 1
                if driver.wait(timeout=DEADLINE_S) != 0:
                    loss.resumed_by_hand += 1
                    run(number, subprocess.check_call)
                loss.recover_s.append(max(0.0, time.time() - began - usual))
                found = _features(storage)
                loss.rounds += 1
                if any(found["result"][fact] != expected["result"][fact] for fact in ("digest", "rows")):
                    loss.troubles.append(f"round {number}: {found['result']} is not {expected['result']}")
                joined_anew(nodes)
            cluster.disconnect()


BATCH: dict[str, Callable[[Loss, int, random.Random], None]] = {
    "features": lost_features,
    "training": lost_training,
    "study": lost_study,
}


@dataclass
class Bench:
    """A live service with two versions on two worker nodes, and its clients."""

    project: Project
    nodes: NodeCluster
    load: Load

    @property
    def service(self) -> Service:
        return Service.connect(NAME, self.project.storage)

    def whole(self) -> bool:
        """Tell whether two replicas on living nodes follow the plan, and are answered by."""
        try:
            told = self.service.status()
        except Exception:  # noqa: BLE001 - whatever the cluster says while it comes back, it is not back yet
            return False
        followed = [each["pid"] for each in told["replicas"].values() if each["generation"] == told["generation"]]
        held = {pid for name in self.nodes.nodes for pid in self.nodes.holds(name, "ray::ServeReplica")}
        running = told["application"] == "RUNNING" and len(followed) == 2 and set(followed) <= held
        return running and self.load.answered()

    def at_ten_percent(self) -> Any:
        """Return the rollout that waits at 10 %, started where there is none."""
        storage = self.project.storage
        state = commands.last(NAME, storage=storage)
        if state is None or state.settled:
            release.start(self.project, 2)
        until(lambda: commands.status(NAME, storage=storage).waiting, "10 %", DEADLINE_S)
        return commands.status(NAME, storage=storage)


@contextmanager
def live(gcs_storage: cluster.GcsStorage, rate: float, *, away: bool) -> Iterator[Bench]:
    """Start the nodes, the service and its clients; with ``away`` the rollout's controller lives on a worker node."""
    import ray

    with tempfile.TemporaryDirectory(prefix="rayline-nodes-", ignore_cleanup_errors=True) as name:
        storage = Path(name) / ".rayline"
        better = _settings(storage, gcs_storage, [16])
        ingress = ingress_environment("127.0.0.1", PORT, str(storage))
        with node_cluster(storage, HEAD_PORT, ingress, gcs_storage) as nodes:
            project = Project(better)
            project.connect()
            nodes.add("one", 2, AWAY)
            for each in (_settings(storage, gcs_storage, [8]), better):
                flow.run(each, until="register")
            if away:
                elsewhere: dict[str, Any] = {"lifetime": "detached", "num_cpus": 0, "resources": {"away": 0.001}}
                elsewhere |= {"name": actor_name(NAME), "namespace": cluster.NAMESPACE, "max_restarts": -1}
                actor = ray.remote(Controller).options(**elsewhere, max_concurrency=8)
                actor.remote(NAME, str(storage), LIVE)
            nodes.add("two", 2, AWAY)
            release.release(project, 1)
            row = dict(Bundle.load(release.live_version(project, 1).path).example[0])
            with Load(Path(name), PORT, f"/{NAME}/predict", row, rate) as load:
                bench = Bench(project, nodes, load)
                until(bench.whole, "the service", DEADLINE_S)
                try:
                    yield bench
                finally:
                    cluster.disconnect()


def suffer(fault: str, loss: Loss, rounds: int, rate: float) -> None:
    """Do a fault to a live service again and again, and count what it costs."""
    gcs_storage: cluster.GcsStorage = "rocksdb" if fault == "head_rocksdb" else "memory"
    with live(gcs_storage, rate, away=fault == "controller") as bench:
        for _ in range(rounds):
            before = None if fault == "service" else bench.at_ten_percent()
            generation, since = bench.service.plan().generation, time.time()
            LIVE_FAULTS[fault](bench)
            until(bench.whole, "all to stand again", DEADLINE_S)
            loss.recover_s.append(time.time() - since)
            loss.rounds += 1
            loss.killed_in_time += 1
            _count(loss, bench, since)
            plan = bench.service.plan()
            if plan.generation != generation:
                loss.troubles.append(f"the plan was {generation} and is {plan.generation}")
            if before is not None:
                after = commands.status(NAME, storage=bench.project.storage)
                loss.runs_lost += after.id != before.id or after.decisions != before.decisions
                commands.abort(NAME, storage=bench.project.storage)  # its controller is at work again
                commands.wait(NAME, storage=bench.project.storage, timeout=DEADLINE_S)
            joined_again(bench)


def kill_replica_node(bench: Bench) -> None:
    """Kill a node that holds a replica."""
    bench.nodes.kill(_holding(bench, "ray::ServeReplica"))


def kill_controller_node(bench: Bench) -> None:
    """Kill the node that holds the rollout's controller, and wait until another holds it."""
    bench.nodes.kill(_holding(bench, "ray::Controller"))
    until(lambda: any(bench.nodes.holds(name, "ray::Controller") for name in bench.nodes.nodes), "the controller", 120)


def kill_head(bench: Bench) -> None:
    """Kill the head; the next command that needs the cluster comes at once."""
    bench.nodes.kill_head()
    cluster.disconnect()
    if bench.project.config.cluster.gcs_storage == "rocksdb":
        bench.project.connect()
        return
    for name in list(bench.nodes.nodes):  # they belong to a cluster that is no more
        bench.nodes.kill(name)
    bench.nodes.start_head_anew()
    bench.project.connect()
    for name in ("one", "two"):
        bench.nodes.add(name, 2, AWAY)
    release.release(bench.project, 2, insist=True)  # the rollout that was under way is followed


LIVE_FAULTS: dict[str, Callable[[Bench], None]] = {
    "service": kill_replica_node,
    "controller": kill_controller_node,
    "head_rocksdb": kill_head,
    "head_memory": kill_head,
}


def joined_again(bench: Bench) -> None:
    """Have two worker nodes again, with a replica on each node where there was none."""
    for name in {"one", "two"} - set(bench.nodes.nodes):
        until(lambda gone=name: not bench.nodes.known(gone), "the cluster to notice", DEADLINE_S)
        bench.nodes.add(name, 2, AWAY)
    until(bench.whole, "the service", DEADLINE_S)


def report(found: dict[str, Loss]) -> None:
    """Print the table, then one JSON line."""
    table = Table(title="A machine vanishes")
    headings = ("fault", "rounds", "hit", "epochs done again", "runs lost / doubled", "trials lost / doubled")
    for heading in (*headings, "same command needed", "requests", "failed first", "after one retry"):
        table.add_column(heading)
    table.add_column("s to recover, median (worst)")
    for name, each in found.items():
        counts = (each.rounds, each.killed_in_time, each.done_again, f"{each.runs_lost} / {each.runs_doubled}")
        trials = f"{each.trials_lost} / {each.trials_doubled}"
        asked = (each.resumed_by_hand, each.requests, each.failed_first, each.failed_after_retry)
        table.add_row(name, *map(str, (*counts, trials, *asked)), _spread(each.recover_s))
    Console().print(table)
    packages = {name: version(name) for name in ("ray", "torch", "mlflow", "rayline")}
    machine = {"host": socket.gethostname(), "cpus": os.cpu_count(), "python": platform.python_version()}
    rounds = max((each.rounds for each in found.values()), default=0)
    results = {name: asdict(each) for name, each in found.items()}
    summary = {"benchmark": "node_loss", "machine": machine, "versions": packages, "rounds": rounds}
    print(json.dumps(summary | {"results": results, "ratios": {}}))


def _settings(storage: Path, gcs_storage: str, hidden: list[int]) -> Config:
    return config.parse(
        {
            "name": NAME,
            "data": {"source": "sklearn:wine"},
            "features": {"target": "target"},
            "model": {"hidden": hidden},
            "train": {"epochs": 10, "batch_size": 16, "learning_rate": 0.01},
            "service": {"port": PORT, "replicas": 2, "num_cpus": 0.4, "drain": 0},
            "rollout": {"strategy": "canary", "steps": [{"set_weight": 10}, {"pause": True}]},
            "cluster": {"gcs_storage": gcs_storage},
            "storage": str(storage),
        }
    )


def _holding(bench: Bench, title: str) -> str:
    names = [name for name in bench.nodes.nodes if bench.nodes.holds(name, title)]
    if not names:
        raise RuntimeError(f"no node holds {title}")
    return str(names[0])


def _count(loss: Loss, bench: Bench, since: float) -> None:
    asked = bench.load.asked(since)
    loss.requests += len(asked)
    loss.failed_first += sum(bool(each.first) for each in asked)
    loss.failed_after_retry += sum(bool(each.retry) for each in asked)


def _asked_of_mlflow(loss: Loss, check: Callable[[kills.Losses], None]) -> None:
    losses = kills.Losses()
    check(losses)
    loss.rounds += 1
    for name in ("runs_lost", "runs_doubled", "trials_lost", "trials_doubled", "steps_lost", "steps_doubled"):
        setattr(loss, name, getattr(loss, name) + getattr(losses, name))
    loss.troubles += losses.troubles


def _epochs(journal: Path) -> int:
    return journal.read_text().count('"epoch"') if journal.exists() else 0


def _write_files(folder: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet

    folder.mkdir()
    chance = np.random.default_rng(7)
    for number in range(FILES):
        columns = {f"x{index}": chance.normal(size=FILE_ROWS) for index in range(12)}
        columns["y"] = sum(columns.values()) + chance.normal(size=FILE_ROWS)
        pyarrow.parquet.write_table(pa.table(columns), folder / f"{number:03}.parquet")


def _features(storage: Path) -> Any:
    files = sorted(storage.glob("ledger/*/features-*.json"), key=lambda each: each.stat().st_mtime)
    return json.loads(files[-1].read_text())


def _forget(storage: Path, key: str) -> None:
    """Have a finished features step run again."""
    import shutil

    for file in storage.glob(f"ledger/*/features-{key}.json"):
        file.unlink()
    shutil.rmtree(storage / "features" / key, ignore_errors=True)


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({max(seconds):.1f})" if seconds else "-"


def _anything(loss: Loss) -> bool:
    counts = asdict(loss)
    return bool(loss.troubles) or any(counts[name] for name in counts if name.endswith(("_lost", "_doubled")))


if __name__ == "__main__":
    sys.exit(main())
