"""What of a Run or a Study goes to the tracking store: parameters, metrics, data, provenance, plots."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.config import Config, ModelConfig, parse, plain, with_values
from rayline.errors import TrackingError

if TYPE_CHECKING:
    from rayline.evaluation.gates import Judgement
    from rayline.evaluation.metrics import Evaluation
    from rayline.features.pipeline import Prepared
    from rayline.registry.bundle import Bundle
    from rayline.registry.store import Store
    from rayline.training.trainer import TrainResult
    from rayline.tuning.study import StudyResult, Trial

FLUSH_SECONDS = 2.0
EXAMPLE_ROWS = 5


@dataclass
class RunLog:
    """One open MLflow run. Epoch metrics are written in batches, so that logging never paces training."""

    store: Store
    run_id: str
    _waiting: list[tuple[str, float, int]] = field(default_factory=list)
    _flushed: float = field(default_factory=time.monotonic)

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of an epoch."""
        self._waiting += [(name, value, number) for name, value in metrics.items()]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            try:
                self.flush()
            except TrackingError:  # training goes on; what waits is written with the next batch, or refused at the end
                self._flushed = time.monotonic()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self.store.log_metrics(self.run_id, self._waiting)
        self._waiting, self._flushed = [], time.monotonic()

    def trained(self, result: TrainResult) -> None:
        """Keep how a training ended, and its loss curve."""
        from rayline.evaluation.plots import loss_curve

        self._waiting += [(f"best_{name}", value, result.best_epoch) for name, value in result.metrics.items()]
        self.flush()
        self.store.set_tags(self.run_id, {"rayline.stopped": result.stopped})
        history = [dict(report.metrics) for report in result.history]
        self.store.log_figure(self.run_id, loss_curve(history), "plots/loss_curve.png")


@dataclass
class StudyLog:
    """One open MLflow parent run, with a nested run for each trial."""

    store: Store
    run_id: str
    config: Config
    prepared: Prepared
    _runs: dict[int, str] = field(default_factory=dict)

    def trial(self, trial: Trial) -> None:
        """Keep a trial that has ended as a nested run."""
        config = with_values(self.config, trial.params)
        name = f"{self.config.name}-trial-{trial.number + 1}"
        tags = {
            **_tags(config, self.prepared),
            "rayline.trial": str(trial.number + 1),
            "rayline.trial_status": trial.status,
        }
        run_id = self.store.start_run(_experiment(config), name, tags, self.run_id)
        self._runs[trial.number] = run_id
        self.store.log_params(run_id, _params(config))
        points = [(key, value, report.epoch) for report in trial.history for key, value in report.metrics.items()]
        points += [(f"best_{key}", value, 0) for key, value in trial.metrics.items()]
        self.store.log_metrics(run_id, points)
        _log_data(self.store, run_id, self.prepared)
        if trial.history:
            from rayline.evaluation.plots import loss_curve

            history = [dict(report.metrics) for report in trial.history]
            self.store.log_figure(run_id, loss_curve(history), "plots/loss_curve.png")
        self.store.finish_run(run_id, "FAILED" if trial.status == "failed" else "FINISHED")

    def finished(self, result: StudyResult) -> None:
        """Keep which trial won."""
        best = result.best
        self.store.log_metrics(self.run_id, [(f"best_{key}", value, 0) for key, value in best.metrics.items()])
        self.store.set_tags(
            self.run_id,
            {"rayline.best_trial": str(best.number + 1), "rayline.best_run": self._runs[best.number]},
        )

    def run_of(self, number: int) -> str:
        """Return the MLflow run of a trial."""
        return self._runs[number]


@contextmanager
def open_run(store: Store, config: Config, prepared: Prepared) -> Iterator[RunLog]:
    """Open the MLflow run of one training; it ends FINISHED, or FAILED where the training raised."""
    name = f"{config.name}-train"
    run_id = store.start_run(_experiment(config), name, _tags(config, prepared), None)
    run = RunLog(store, run_id)
    with _ended(store, run_id):
        store.log_params(run_id, _params(config))
        _log_data(store, run_id, prepared)
        store.log_text(run_id, _yaml(config), "config.yaml")
        try:
            yield run
        except BaseException:
            with suppress(TrackingError):  # the curve up to a failure tells why
                run.flush()
            raise


@contextmanager
def open_study(store: Store, config: Config, prepared: Prepared) -> Iterator[StudyLog]:
    """Open the MLflow parent run of a Study; it ends FINISHED, or FAILED where the Study raised."""
    assert config.tune is not None
    tags = {**_tags(config, prepared), "rayline.kind": "study"}
    run_id = store.start_run(_experiment(config), f"{config.name}-study", tags, None)
    with _ended(store, run_id):
        store.log_params(run_id, {f"tune.{key}": str(value) for key, value in plain(config.tune).items()})
        _log_data(store, run_id, prepared)
        store.log_text(run_id, _yaml(config), "config.yaml")
        yield StudyLog(store, run_id, config, prepared)


def bundle_of(
    config: Config, prepared: Prepared, data: Mapping[str, Any], trained: Mapping[str, Any], out: Path
) -> Bundle:
    """Write the Bundle of a finished training; ``data`` and ``trained`` are results of the steps before it."""
    from rayline.features.online.declared import HistoryNeed
    from rayline.registry.bundle import write_bundle

    facts = prepared.facts
    lineage = {
        "source": facts.source,
        "source_digest": data.get("source_digest"),
        "data_digest": facts.digest,
        "rows": facts.rows,
        "parts": {part: asdict(each) for part, each in facts.parts.items()},
        "schema_fingerprint": facts.schema_fingerprint,
        "run_id": trained["run_id"],
        "study_run_id": trained.get("study_run_id"),
        "params": trained.get("params", {}),
        **_provenance(config),
    }
    return write_bundle(
        out,
        name=config.name,
        features=prepared.features,
        model=_model(config, trained["model"]),
        checkpoint=Path(trained["checkpoint"]),
        lineage=lineage,
        reference=prepared.reference(),
        example=prepared.example(EXAMPLE_ROWS),
        history=HistoryNeed.of(config, prepared.features.input_columns),
    )


def log_skew(store: Store, run_id: str, rows: int, largest: float, message: str) -> None:
    """Keep with the Run what the skew test found: how many rows, the largest difference, and what it refused."""
    store.log_metrics(run_id, [("skew_rows", rows, 0), ("skew_largest_difference", largest, 0)])
    store.set_tags(run_id, {"rayline.skew": message or f"none in {rows:,} training rows"})


def log_judgement(store: Store, run_id: str, judgement: Judgement) -> None:
    """Keep with the Run how its gates and behavioural tests came out, with all their numbers."""
    from rayline.evaluation.gates import summary, to_json

    store.log_text(run_id, json.dumps(to_json(judgement), indent=1, ensure_ascii=False), "gates.json")
    store.set_tags(run_id, {"rayline.gates": summary(judgement)})


def log_evaluation(store: Store, run_id: str, evaluation: Evaluation, rows: int) -> None:
    """Keep the evaluation with the Run that trained the model: metrics, plots, and all of it for programs."""
    from rayline.evaluation import record
    from rayline.evaluation.plots import evaluation_plots

    metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
    if evaluation.calibration is not None:
        metrics["test_calibration_error"] = evaluation.calibration.error
    found = evaluation.infrastructure
    if found is not None:
        latency = found.one.p99_ms if found.one is not None else None
        taken = {"size_mb": found.size_mb, "memory_mb": found.memory_mb, "latency_ms": latency}
        metrics |= {f"bundle_{name}": value for name, value in taken.items() if value is not None}
    store.log_metrics(run_id, [(name, value, 0) for name, value in metrics.items()])
    store.log_text(run_id, json.dumps(record.to_json(evaluation), indent=2), "evaluation/evaluation.json")
    store.log_text(run_id, record.slices_csv(evaluation), "evaluation/slices.csv")
    for name, figure in evaluation_plots(evaluation, rows).items():
        store.log_figure(run_id, figure, f"plots/{name}.png")


def _log_data(store: Store, run_id: str, prepared: Prepared) -> None:
    """Keep which data a Run used, and how many rows broke which rule of the schema."""
    facts = prepared.facts
    store.log_datasets(run_id, facts, prepared.features.schema)
    if facts.anomalies:
        store.log_metrics(run_id, [(f"data_{_metric(rule)}", rows, 0) for rule, rows in facts.anomalies.items()])


def _metric(rule: str) -> str:
    """Return a rule as MLflow lets a metric be called."""
    return re.sub(r"[^\w./-]+", "_", rule).strip("_")


@contextmanager
def _ended(store: Store, run_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.finish_run(run_id, "FAILED")
        raise
    store.finish_run(run_id, "FINISHED")


def _model(config: Config, model: Mapping[str, Any]) -> ModelConfig:
    return parse({**plain(config), "model": dict(model)}).model


def _experiment(config: Config) -> str:
    return config.registry.experiment or config.name


def _tags(config: Config, prepared: Prepared) -> dict[str, str]:
    tags = {
        "rayline.project": config.name,
        "rayline.features": prepared.features.fingerprint,
        "rayline.data": prepared.facts.digest,
    }
    return {**tags, **{f"rayline.{key}": str(value) for key, value in _provenance(config).items() if value is not None}}


def _provenance(config: Config) -> dict[str, Any]:
    from rayline.registry.provenance import code_commit, environment

    return {"code_commit": code_commit(Path(config.storage).parent), **environment()}


def _params(config: Config) -> dict[str, str]:
    sections = {"model": plain(config.model), "train": plain(config.train), "split": plain(config.data.split)}
    return {f"{name}.{key}": str(value) for name, section in sections.items() for key, value in section.items()}


def _yaml(config: Config) -> str:
    import yaml

    return yaml.safe_dump(plain(config), sort_keys=False)
