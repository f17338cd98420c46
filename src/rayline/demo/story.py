"""The demo's story: a baseline goes live, a better version takes over, a bad one is refused, forced, and taken back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import cluster, config, flow, release
from rayline.config import Config, DataConfig
from rayline.demo.clients import Answered, Clients
from rayline.errors import CheckFailed, GateRefused, ServiceError
from rayline.events import Chapter, Event, Listener, Notice, RolloutMoved
from rayline.project import Project
from rayline.scaffold import scaffold

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "breast-cancer"
SOURCE = "sklearn:breast_cancer"
TARGET = "target"
STORAGE = ".rayline"
SCRAMBLED = "scrambled.csv"
HELD_OUT = "held_out.csv"
FORCE = "the demo shows what a rollout does with it"
WARM_UP_REQUESTS = 150

ANALYSIS = {
    "interval": 1.0,
    "count": 3,
    "inconclusive_limit": 60,
    "metrics": [
        {"measure": "error_rate", "max": 0.01, "minimum_samples": 20},
        {"measure": "latency", "quantile": 0.95, "max_increase": 0.25, "minimum_samples": 20},
        {"measure": "prediction_shift", "max": 0.5, "minimum_samples": 20},
        {"measure": "accuracy", "max_decrease": 0.05, "minimum_samples": 20},
    ],
}
STEPS = [{"set_weight": 10}, {"analysis": True}, {"set_weight": 50}, {"analysis": True}, {"set_weight": 100}]
SEARCH = {
    "trials": 6,
    "cpus_per_trial": 0.75,
    "space": {
        "train.learning_rate": {"low": 0.001, "high": 0.03, "log": True},
        "model.hidden": {"choose": [[16], [32], [64, 32]]},
        "model.dropout": {"low": 0.0, "high": 0.3},
    },
}


@dataclass(frozen=True, slots=True)
class DemoReport:
    """How the demo ended.

    Attributes:
        answered: what the clients saw, by phase and version.
        failures: requests that failed; the demo promises none.
        promoted: the version that took over.
        refused: what the gates said of the version that was then forced past them.
        returned: the version that was taken back.
        reason: why, as the analysis said it.
        seconds: how long it all took.
    """

    answered: tuple[Answered, ...]
    failures: int
    promoted: int
    refused: str
    returned: int
    reason: str
    seconds: float
    url: str
    tracking: str
    storage: str
    example: dict[str, Any]
    kept: bool


def run_demo(out: Path, *, port: int = 8000, keep: bool = False, listener: Listener) -> DemoReport:
    """Run the main job once from the start, in the folder ``out``.

    Raises:
        CheckFailed: a version that should have been promoted was not, or one that should have been caught was not.
        RaylineError: whatever a step raises.
    """
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    cluster.stop(out / STORAGE)  # the demo begins at the beginning, whatever an earlier one left
    shutil.rmtree(out / STORAGE, ignore_errors=True)
    listener(Chapter("A table becomes a project"))
    written = scaffold(SOURCE, target=TARGET, name=NAME, out=out, force=True, port=port)
    kinds = len(written.inferred.schema.columns)
    classes = " or ".join(written.inferred.schema.classes)
    listener(Notice(f"{written.rows} rows, {kinds} numeric columns; '{TARGET}' is {classes}: {written.file}"))
    with _cluster_of(out, keep):
        listener(Chapter("A baseline goes live: version 1"))
        baseline = flow.run(config.load(written.file, _BASELINE), listener=listener)
        better = config.load(written.file, _settings(tune=SEARCH, rollout=_rollout()))
        rows, truth = _held_out(baseline)
        url = release.service_url(better)
        with Clients(url, rows, truth) as clients:
            _until(lambda: clients.requests > WARM_UP_REQUESTS, "the first requests to be answered")
            listener(Chapter("A sweep finds a better model: version 2 takes over under measured gates"))
            clients.phase = "while v2 is made"
            promoted = _rolled_out(better, clients, listener)
            if promoted.phase != "Healthy":
                raise CheckFailed(f"version {promoted.version} should have taken over, but: {promoted.message}")
            listener(Chapter("A bad model, trained on scrambled labels: version 3 does not pass its gate"))
            clients.phase = "while v3 is made"
            bad = _scrambled(written.file, baseline, out)
            refused = _refused(bad, listener)
            listener(Chapter("Forced past the gate all the same: the rollout catches version 3 and takes it back"))
            returned = _forced(bad, clients, listener)
            if returned.phase != "Degraded":
                raise CheckFailed(f"version {returned.version} should have been taken back, but: {returned.message}")
            clients.phase = f"back on v{promoted.version}"
            before = clients.requests
            _until(lambda: clients.requests > before + WARM_UP_REQUESTS, "requests after the return")
        return DemoReport(
            answered=clients.table(),
            failures=clients.failures,
            promoted=promoted.version,
            refused=refused,
            returned=returned.version,
            reason=returned.message,
            seconds=time.perf_counter() - began,
            url=url,
            tracking=f"rayline ui --config {written.file}",
            storage=str(out / STORAGE),
            example=rows[0],
            kept=keep,
        )


_BASELINE = ["model.hidden=[]", "train.epochs=3", "train.learning_rate=0.003"]


def _rolled_out(settings: Config, clients: Clients, listener: Listener) -> release.Released:
    """Run the flow to its end while the clients go on."""
    ended = flow.run(settings, listener=_followed(clients, listener)).released
    assert ended is not None
    return ended


def _followed(clients: Clients, listener: Listener) -> Listener:
    """Return a listener that lets the clients' phase follow the canary's share."""

    def hear(event: Event) -> None:
        if isinstance(event, RolloutMoved) and event.weight:
            clients.phase = f"v{event.canary} at {event.weight} %"
        listener(event)

    return hear


def _refused(settings: Config, listener: Listener) -> str:
    """Run the flow and return what its gates said. Raises ``CheckFailed`` where they let the version pass."""
    try:
        flow.run(settings, until="register", listener=listener)
    except GateRefused as refusal:
        listener(Notice(str(refusal)))
        return str(refusal)
    raise CheckFailed("the version trained on scrambled labels should have been refused, and passed its gates.")


def _forced(settings: Config, clients: Clients, listener: Listener) -> release.Released:
    """Roll the refused version out in a person's name."""
    project = Project(settings, listener=_followed(clients, listener))
    latest = project.store.versions(NAME)[-1]
    return release.release(project, latest.number, force=FORCE)


def _scrambled(file: Path, baseline: flow.Outcome, out: Path) -> Config:
    """Return a configuration like that of version 2, trained once on shuffled labels and measured on true ones.

    Measured on labels that are shuffled too, it would look no worse than any other model does on them.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as csv

    from rayline.features.prepared import Prepared
    from rayline.features.sources import read_table

    held_out = Prepared.load(Path(baseline.result("features")["path"])).test_table()
    csv.write_csv(held_out, out / HELD_OUT)
    table = read_table(DataConfig(source=SOURCE))
    kept_out = {tuple(row.values()) for row in held_out.select(table.column_names).to_pylist()}
    table = table.filter(pa.array([tuple(row.values()) not in kept_out for row in table.to_pylist()]))
    order = np.random.default_rng(0).permutation(table.num_rows)
    shuffled = table.set_column(table.column_names.index(TARGET), TARGET, table.column(TARGET).take(pa.array(order)))
    csv.write_csv(shuffled, out / SCRAMBLED)
    split = {"by": "files", "test": HELD_OUT}
    overrides = [f"data.source={SCRAMBLED}", "train.epochs=10"]
    return config.load(file, [*overrides, *_settings(rollout=_rollout(), **{"data.split": split})])


def _held_out(baseline: flow.Outcome) -> tuple[list[dict[str, Any]], list[Any]]:
    from rayline.features.pipeline import Prepared

    prepared = Prepared.load(Path(baseline.result("features")["path"]))
    table = prepared.test_table()
    return table.select(list(prepared.features.input_columns)).to_pylist(), table.column(TARGET).to_pylist()


def _rollout() -> dict[str, Any]:
    return {"strategy": "canary", "steps": STEPS, "analysis": ANALYSIS}


def _settings(**sections: Any) -> list[str]:
    import json

    return [f"{name}={json.dumps(section)}" for name, section in sections.items()]


@contextmanager
def _cluster_of(out: Path, keep: bool) -> Iterator[None]:
    """Stop the local cluster at the end, whatever happened, unless it is to be kept."""
    storage = out / STORAGE
    try:
        yield
    except BaseException:
        cluster.stop(storage)
        raise
    if not keep:
        cluster.stop(storage)


def _until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(f"waited {seconds:.0f} s for {what}.")
        time.sleep(0.05)
