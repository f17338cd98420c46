"""What of a Run or a Study goes to the tracking store: parameters, metrics, data, provenance, plots."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.config import Config, ModelConfig, TuneConfig, parse, plain, with_values
from rayline.project import home_of
from rayline.registry.store import Point, RunWrites, Store, now_ms
from rayline.tracked import RUN, STUDY, Identity, Tracked, tracked

if TYPE_CHECKING:
    from rayline.evaluation.gates import Judgement
    from rayline.evaluation.metrics import Evaluation
    from rayline.features.pipeline import Prepared
    from rayline.registry.bundle import Bundle
    from rayline.registry.spool import Spool, Tracking
    from rayline.training.spec import EpochReport, TrainResult
    from rayline.tuning.study import StudyResult, Trial

EXAMPLE_ROWS = 5
PARAMS = "rayline.params"
TAG_LENGTH = 5_000  # MLflow takes 8,000 characters, its older servers 5,000
ERROR_LENGTH = 500  # characters of a failed trial's error that its tag shows


@dataclass
class RunLog:
    """The open MLflow run of one training. Whatever it is told is on disk at once, and in MLflow as soon as may be."""

    _run: Tracked

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; until MLflow has it, a key that ``Tracking.run_id`` resolves later."""
        return self._run.run_id

    def epoch(self, report: EpochReport) -> bool:
        """Keep the metrics of an epoch; tells whether it is new: one that is trained or told again is kept once."""
        spool, key, at = self._run.spool, self._run.key, _milliseconds(report.at)
        fresh = [
            Point(name, value, report.epoch, at)
            for name, value in report.metrics.items()
            if spool.last_steps.get((key, name), 0) < report.epoch
        ]
        if fresh:
            spool.log_batch(key, fresh, {}, {})
            spool.last_steps.update({(key, point.name): report.epoch for point in fresh})
        return bool(fresh)

    def trained(self, result: TrainResult) -> None:
        """Keep how a training ended, and its loss curve."""
        from rayline.evaluation.plots import loss_curve

        spool, key = self._run.spool, self._run.key
        at = _milliseconds(result.history[result.best_epoch - 1].at)
        best = [Point(f"best_{name}", value, result.best_epoch, at) for name, value in result.metrics.items()]
        spool.log_batch(key, best, {}, {"rayline.stopped": result.stopped})
        history = [dict(report.metrics) for report in result.history]
        spool.log_figure(key, loss_curve(history), "plots/loss_curve.png")


@dataclass
class StudyLog:
    """The open MLflow parent run of a Study, with a nested run for each trial."""

    config: Config
    prepared: Prepared
    _run: Tracked

    @property
    def run_id(self) -> str:
        """MLflow's id of the parent run; until MLflow has it, a key that ``Tracking.run_id`` resolves later."""
        return self._run.run_id

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt began this Study."""
        return self._run.resumed

    def trial(self, trial: Trial, prepared: Prepared | None = None) -> bool:
        """Keep a trial that has ended as a nested run; tells whether it is new: one that is told again is kept once.

        ``prepared`` is the trial's data, where it has features of its own.
        """
        spool, key = self._run.spool, self._key(trial.number)
        if spool.ended(key):
            return False
        config = with_values(self.config, trial.params)
        times = [_milliseconds(report.at) if report.at else self._run.identity.began for report in trial.history]
        began, ended = (times[0], times[-1]) if times else (now_ms(), now_ms())
        points = [
            Point(name, value, report.epoch, at)
            for report, at in zip(trial.history, times, strict=True)
            for name, value in report.metrics.items()
        ]
        points += [Point(f"best_{name}", value, 0, ended) for name, value in trial.metrics.items()]
        tags = {
            **self._common,
            **({"rayline.features": prepared.features.fingerprint} if prepared is not None else {}),
            **_searched_tag(trial),
            "rayline.trial": str(trial.number + 1),
            "rayline.trial_status": trial.status,
            **({"rayline.trial_error": trial.error[:ERROR_LENGTH]} if trial.error else {}),
        }
        name = f"{config.name}-trial-{trial.number + 1}"
        spool.start_run(key, _experiment(config), name, tags, self._run.key, began)
        spool.log_batch(key, points, {**_params(config), **_feature_params(trial)}, {})
        _log_data(spool, key, self.prepared, ended)
        spool.finish_run(key, "FAILED" if trial.status == "failed" else "FINISHED", ended)
        return True

    def finished(self, result: StudyResult) -> None:
        """Keep which trial won."""
        best, at = result.best, self._run.identity.began
        points = [Point(f"best_{name}", value, 0, at) for name, value in best.metrics.items()]
        tags = {"rayline.best_trial": str(best.number + 1), "rayline.best_run": self.run_of(best.number)}
        self._run.spool.log_batch(self._run.key, points, {}, tags)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags of the parent run."""
        self._run.spool.set_tags(self._run.key, tags)

    def artifacts(self, files: Mapping[str, bytes | str | Path]) -> None:
        """Keep files with the parent run: by their path there, the content as bytes, a text, or where a file lies."""
        spool, key = self._run.spool, self._run.key
        for path, content in files.items():
            if isinstance(content, bytes):
                spool.log_bytes(key, content, path)
            elif isinstance(content, str):
                spool.log_text(key, content, path)
            else:
                spool.log_file(key, content, path)

    def run_of(self, number: int) -> str:
        """Return the MLflow run of a trial; a key that ``Tracking.run_id`` resolves later where MLflow is away."""
        return self._run.spool.run_id(self._key(number), self._run.spool.tracking.drain_seconds)

    @cached_property
    def _common(self) -> dict[str, str]:
        return _tags(self.config, self.prepared)

    def _key(self, number: int) -> str:
        return f"{self._run.key}/trial-{number + 1}"


@contextmanager
def open_run(
    tracking: Tracking, config: Config, prepared: Prepared, folder: Path, *, fresh: bool = False
) -> Iterator[RunLog]:
    """Open the MLflow run of the training in ``folder``, or go on with it.

    It ends FINISHED, FAILED where the training raised, KILLED where it was stopped. A run that was killed or stopped
    goes on with the same call; one that ended because the training diverged begins anew, as does any with ``fresh``:
    the folder is cleared before.
    """

    def begin(spool: Spool, identity: Identity) -> None:
        key, at = identity.key, identity.began
        spool.start_run(key, _experiment(config), f"{config.name}-train", _tags(config, prepared), None, at)
        spool.log_params(key, _params(config))
        _log_data(spool, key, prepared, at)
        spool.log_text(key, _yaml(config), "config.yaml")

    with tracked(tracking, folder / RUN, begin, fresh=fresh) as run:
        yield RunLog(run)


@contextmanager
def open_study(
    tracking: Tracking, config: Config, prepared: Prepared, folder: Path, *, fresh: bool = False
) -> Iterator[StudyLog]:
    """Open the MLflow parent run of the Study in ``folder``, or go on with it; it ends as a Run does.

    Only ``fresh`` begins anew, and clears the folder: trials that have ended are kept whatever stopped the Study.
    """
    assert config.tune is not None
    tune = config.tune

    def begin(spool: Spool, identity: Identity) -> None:
        key, at = identity.key, identity.began
        tags = {**_tags(config, prepared), "rayline.kind": "study"}
        spool.start_run(key, _experiment(config), f"{config.name}-study", tags, None, at)
        spool.log_params(key, _tune_params(tune))
        _log_data(spool, key, prepared, at)
        spool.log_text(key, _yaml(config), "config.yaml")

    with tracked(tracking, folder / STUDY, begin, fresh=fresh) as run:
        yield StudyLog(config, prepared, run)


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
        checkpoint=storage.fetch(Path(trained["checkpoint"])),
        lineage=lineage,
        reference=prepared.reference(),
        example=prepared.example(EXAMPLE_ROWS),
        history=HistoryNeed.of(config, prepared.features.input_columns),
    )


def log_skew(store: Store, run_id: str, rows: int, largest: float, message: str) -> None:
    """Keep with the Run what the skew test found: how many rows, the largest difference, and what it refused."""
    _log_once(store, run_id, {"skew_rows": rows, "skew_largest_difference": largest})
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
    _log_once(store, run_id, metrics)
    store.log_text(run_id, json.dumps(record.to_json(evaluation), indent=2), "evaluation/evaluation.json")
    store.log_text(run_id, record.slices_csv(evaluation), "evaluation/slices.csv")
    for name, figure in evaluation_plots(evaluation, rows).items():
        store.log_figure(run_id, figure, f"plots/{name}.png")


def _log_once(store: Store, run_id: str, metrics: Mapping[str, float]) -> None:
    """Log metrics that a run does not hold already: a step that is taken again tells the same once more."""
    held, at = store.run(run_id).metrics, now_ms()
    store.log_metrics(run_id, [Point(name, value, 0, at) for name, value in metrics.items() if held.get(name) != value])


def _log_data(runs: RunWrites, run_id: str, prepared: Prepared, at: int) -> None:
    """Keep which data a run used, and how many rows broke which rule of the schema."""
    facts = prepared.facts
    runs.log_datasets(run_id, facts, prepared.features.schema)
    if facts.anomalies:
        points = [Point(f"data_{_metric(rule)}", rows, 0, at) for rule, rows in facts.anomalies.items()]
        runs.log_metrics(run_id, points)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _metric(rule: str) -> str:
    """Return a rule as MLflow lets a metric be called."""
    return re.sub(r"[^\w./-]+", "_", rule).strip("_")


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

    return {"code_commit": code_commit(home_of(config)), **environment()}


def _params(config: Config) -> dict[str, str]:
    sections = {"model": plain(config.model), "train": plain(config.train), "split": plain(config.data.split)}
    return {f"{name}.{key}": str(value) for name, section in sections.items() for key, value in section.items()}


def _tune_params(tune: TuneConfig) -> dict[str, str]:
    """Return a Study's settings, and what it searches key by key."""
    from rayline.tuning.page.sheet import condition_of, span_of

    told = {name: value for name, value in plain(tune).items() if name != "space" and value not in (None, [])}
    stop = {f"stop.{name}": value for name, value in told.pop("stop").items() if value is not None}
    settings = {f"tune.{name}": _text(value) for name, value in {**told, **stop}.items()}
    for key, space in tune.space.items():
        when = condition_of(space)
        settings[f"tune.space.{_metric(key)}"] = span_of(space) + (f" when {when}" if when else "")
    return settings


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _feature_params(trial: Trial) -> dict[str, str]:
    """Return what was searched of the features; the rest stands among the parameters anyway."""
    return {_metric(key): str(value) for key, value in trial.params.items() if key.startswith("features.")}


def _searched_tag(trial: Trial) -> dict[str, str]:
    """Return a trial's parameters in one tag, for a later Study that starts from it."""
    text = json.dumps(trial.params)
    return {PARAMS: text} if len(text) <= TAG_LENGTH else {}


def _yaml(config: Config) -> str:
    import yaml

    return yaml.safe_dump(plain(config), sort_keys=False)
