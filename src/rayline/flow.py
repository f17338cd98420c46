"""From a table to live traffic: the whole loop as one readable function.

Each step is skipped where the ledger already holds its result, so the same command again means resume.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from dataclasses import replace as replace_record
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from rayline import blessing, experiment, progress, readiness, release, storage
from rayline.config import Config, plain
from rayline.errors import TrackingError
from rayline.events import Epoch, Event, Listener, Notice, Resumed, silent
from rayline.gauges import TrainProgress
from rayline.ledger import Record
from rayline.libraries import refuse_options
from rayline.project import SKEW_ROWS, Project, Result
from rayline.tracked import settled, unsettled

if TYPE_CHECKING:
    from rayline.features.pipeline import Prepared
    from rayline.training.trainer import TrainData, TrainSpec

TRYOUT = "rayline.serving.versions.tryout"
Stop = Literal["features", "train", "tune", "evaluate", "register", "release"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a flow came: the finished steps in order, and what the release ended in (None before it).

    ``notices`` is what the user should know, in the words that the listener heard.
    """

    steps: tuple[Record, ...]
    released: release.Released | None
    notices: tuple[str, ...] = ()

    def result(self, step: str) -> Result:
        """Return the result of a finished step. Raises ``KeyError`` where the flow stopped before it."""
        return {record.step: record.result for record in self.steps}[step]


def run(
    config: Config,
    *,
    data: Any = None,
    until: Stop = "release",
    fresh: bool = False,
    listener: Listener = silent,
) -> Outcome:
    """Take a table to live traffic.

    Args:
        config: what to do, from ``rayline.config.load``.
        data: the table itself instead of ``config.data``'s source: a ``pyarrow.Table``, a pandas or Polars frame, or a
            ``ray.data.Dataset``. The same rows again resume.
        until: the last step to take.
        fresh: run every step again.
        listener: hears each step, epoch and trial.

    Raises:
        GateRefused: the version is registered, and its gates said no.
        RaylineError: any of them; finished steps are kept, and the same call resumes after them.
    """
    if data is not None:
        from rayline.features.sources import handed_over

        config = replace(config, data=handed_over(data, config.data))
    notices: list[str] = []

    def heard(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)
        listener(event)

    project = Project(config, fresh, heard)
    refuse_options(config.model, None if config.features.task == "auto" else config.features.task)
    if config.tune is not None and until not in ("features", "train"):
        from rayline.tuning.space.space import check

        check(config)
    reporter = progress.reporter(heard, config.name, steps_of(config, until), project.ledger.folder)
    project.listener = reporter
    with project.ledger.held(config.name), project.left_delivered():
        outcome = _run(project, until)
    reporter.ended()
    return replace_record(outcome, notices=tuple(notices))


def steps_of(config: Config, until: Stop = "release") -> tuple[str, ...]:
    """Return the names of the steps up to ``until``, in order."""
    fit = "tune" if config.tune is not None and until != "train" else "train"
    steps = ("features", fit, "evaluate", "skew", "bless", "register", "release")
    return steps[: steps.index(until) + 1] if until in steps else steps[:2]


def _run(project: Project, until: Stop) -> Outcome:
    """Take the steps up to ``until``."""
    config = project.config
    release.look_ahead(project, readiness.steps_to_come(project, until), release=until == "release")
    prepared = features(project)
    if until == "features":
        return Outcome((prepared,), None)
    if until not in ("train", "tune"):
        blessing.check(project, Path(prepared.result["path"]))
        _check_slices(project, prepared)
    trained = tune(project, prepared) if config.tune is not None and until != "train" else train(project, prepared)
    if until in ("train", "tune"):
        return Outcome((prepared, trained), None)
    trained = known_to_mlflow(project, trained)
    scored = evaluate(project, prepared, trained)
    if until == "evaluate":
        return Outcome((prepared, trained, scored), None)
    alike = skew(project, prepared, trained, scored)
    judged = bless(project, prepared, trained, scored)
    version = register(project, prepared, trained, scored, judged)
    blessing.refuse(config.name, version.result["version"], blessing.of_result(judged.result))
    steps = (prepared, trained, scored, alike, judged, version)
    if until == "register":
        return Outcome(steps, None)
    return Outcome(steps, release.release(project, version.result["version"]))


def features(project: Project) -> Record:
    """Check the table against its schema, divide it, fit the features on the training part and apply them."""

    def do() -> Result:
        from rayline.features.pipeline import prepare

        project.open_store_early()
        project.connect()
        prepared = prepare(project.config, project.storage / "features" / project.key("features"))
        facts = prepared.facts
        for warning in facts.warnings:
            project.listener(Notice(warning))
        if facts.quarantined:
            project.listener(Notice(f"{facts.quarantined:,} rows are set aside in '{prepared.path / 'quarantine'}'"))
        return {
            "path": str(prepared.path),
            "rows": facts.rows,
            "left_out": facts.left_out,
            "columns": len(prepared.features.input_columns),
            "width": prepared.features.width,
            "digest": facts.digest,
            "source_digest": project.source_digest,
        }

    return project.step("features", do=do, summary=_features_line)


def train(project: Project, data: Record) -> Record:
    """Train one configuration: one MLflow run."""
    config = project.config

    def do() -> Result:
        from rayline.training import checkpoint
        from rayline.training.trainer import train as train_once

        project.open_store_early()
        prepared, spec, arrays = _training_input(project, config, data)
        if not config.train.alone:
            project.connect()
        folder = project.storage / "runs" / project.key("train")
        with experiment.open_run(project.tracking, config, prepared, folder, fresh=project.fresh) as run:
            found = checkpoint.latest(folder)
            after = found.epoch if found is not None else 0
            if after:
                project.listener(Resumed("train", after, config.train.epochs))

            shown = TrainProgress(config.name, prepared.facts.rows["train"], config.train.epochs)

            def on_epoch(report: Any) -> None:
                shown.epoch(report)
                if run.epoch(report) and report.epoch > after:
                    project.listener(Epoch(report.epoch, config.train.epochs, report.metrics))

            try:
                result = train_once(spec, arrays, folder, on_epoch)
            finally:
                shown.ended()
            run.trained(result)
        return {
            "run_id": run.run_id,
            "checkpoint": str(result.checkpoint),
            "model": plain(config.model),
            "metrics": result.metrics,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "resumed_after": after,
        }

    return project.step("train", do=do, summary=_train_line)


def tune(project: Project, data: Record) -> Record:
    """Search for a better configuration: one MLflow parent run, each trial nested below it."""
    from rayline.study import searched

    return project.step("tune", do=lambda: searched(project, data), summary=_tune_line)


def known_to_mlflow(project: Project, trained: Record) -> Record:
    """Return a finished training under MLflow's own ids, which it lacks where it ended while MLflow was away.

    Raises:
        TrackingError: MLflow is still away; the training is kept.
    """
    result = settled(project.tracking, trained.result)
    if unsettled(result):
        project.tracking.deliver_left(project.store)
        result = settled(project.tracking, trained.result)
    if unsettled(result):
        raise TrackingError(
            f"MLflow has not taken the finished run '{result['run_id']}' yet, which the next step needs. "
            "The training is kept: run the same command again when MLflow answers."
        )
    if result != trained.result:
        trained = replace_record(trained, result=result)
        project.ledger.write(trained)
    return trained


def evaluate(project: Project, data: Record, trained: Record) -> Record:
    """Make the Bundle, measure it on the test part as it will be served, and try it in a process of its own."""
    config = project.config

    def do() -> Result:
        from rayline.evaluation import record
        from rayline.evaluation.infrastructure import infrastructure_of
        from rayline.evaluation.metrics import Matrix
        from rayline.evaluation.metrics import evaluate as measure
        from rayline.features.pipeline import Prepared

        project.open_store_early()
        prepared = Prepared.load(_features_of(data, trained))
        out = project.storage / "bundles" / trained.key
        bundle = experiment.bundle_of(config, prepared, data.result, trained.result, out)
        tried = infrastructure_of(out, TRYOUT, config.evaluate.limits, project.storage)  # alone: its latency is told
        valid = Matrix(*prepared.valid()) if bundle.task == "binary" else None  # a threshold is chosen on it
        evaluation = measure(bundle.predictor(), prepared.test_table(), config.evaluate, valid, config.features.drop)
        evaluation = dataclasses.replace(evaluation, infrastructure=tried)
        experiment.log_evaluation(project.store, trained.result["run_id"], evaluation, config.evaluate.rows)
        for notice in record.notices(evaluation):
            project.listener(Notice(notice))
        return {
            "bundle": str(bundle.path),
            "metrics": evaluation.metrics,
            "rows": evaluation.rows,
            "evaluation": record.to_json(evaluation),
        }

    return project.step("evaluate", do=do, summary=_evaluate_line)


def skew(project: Project, data: Record, trained: Record, scored: Record) -> Record:
    """Send training rows through the Bundle as a service would: they must give the offline features and predictions.

    Raises:
        SkewFound: they do not; the message names the first row and column. It stands with the MLflow run too.
    """

    def do() -> Result:
        from rayline.features.prepared import Prepared
        from rayline.skew import skew_of

        project.open_store_early()
        table, features = Prepared.load(_features_of(data, trained)).sample()
        found = skew_of(Path(scored.result["bundle"]), table[:SKEW_ROWS], features[:SKEW_ROWS])
        experiment.log_skew(project.store, trained.result["run_id"], found.rows, found.largest, found.message)
        found.refuse()
        return {"rows": found.rows, "largest": found.largest}

    return project.step("skew", do=do, summary=_skew_line)


def bless(project: Project, data: Record, trained: Record, scored: Record) -> Record:
    """Judge the Bundle by its gates, beside the champion on the same rows, and by its behavioural tests."""
    bundle = storage.fetch(Path(scored.result["bundle"]))
    rival = blessing.rival_of(project, bundle)

    def do() -> Result:
        from rayline.features.prepared import Prepared
        from rayline.registry.bundle import Bundle

        table = Prepared.load(_features_of(data, trained)).test_table()
        measured = scored.result.get("evaluation", {})
        judgement = blessing.judge(project, Bundle.load(bundle), table, rival, measured)
        experiment.log_judgement(project.store, trained.result["run_id"], judgement)
        for notice in blessing.notices(judgement):
            project.listener(notice)
        return blessing.as_result(judgement)

    return project.step("bless", do=do, summary=_bless_line, besides=(blessing.digest_of(rival),))


def register(project: Project, data: Record, trained: Record, scored: Record, judged: Record) -> Record:
    """Give the Bundle a version number, its judgement and its model card; a blessed one becomes the challenger."""

    def do() -> Result:
        from rayline.card.source import CardSource
        from rayline.card.writing import keep_card
        from rayline.features.prepared import Prepared
        from rayline.registry.bundle import Bundle

        store, judgement = project.store, blessing.of_result(judged.result)
        bundle = Bundle.load(Path(scored.result["bundle"]))
        version = store.register(bundle, trained.result["run_id"])
        blessing.record(store, version, judgement)
        if judgement.blessed:
            store.set_alias(project.config.name, "challenger", version.number)
        training = {**trained.result, "seconds": trained.seconds}
        table = Prepared.load(_features_of(data, trained)).test_table()
        measured = scored.result["evaluation"]
        keep_card(store, CardSource(project.config, bundle, version, training, measured, judgement, table))
        return {"version": version.number, "uri": version.uri}

    name = project.config.name
    return project.step(
        "register", do=do, summary=lambda result: f"{name} version {result['version']}", besides=(judged.key,)
    )


def _features_of(data: Record, trained: Record) -> Path:
    """Return the prepared features that a model was trained on: those of the best trial, where a Study chose them."""
    return Path(trained.result.get("path", data.result["path"]))


def _check_slices(project: Project, data: Record) -> None:
    """Raise ``ConfigError`` for a slice that the test part cannot be divided into, before anything is trained."""
    if project.config.evaluate.slices and project.find("evaluate") is None:
        from rayline.evaluation.slices import named_slices
        from rayline.features.pipeline import Prepared

        named_slices(Prepared.load(Path(data.result["path"])).test_table(), project.config.evaluate)


def _training_input(project: Project, config: Config, data: Record) -> tuple[Prepared, TrainSpec, TrainData]:
    from rayline.features.pipeline import Prepared
    from rayline.training.streamed import training_data
    from rayline.training.trainer import TrainSpec

    prepared = Prepared.load(Path(data.result["path"]))
    spec = TrainSpec.of(config, prepared.features)
    return prepared, spec, training_data(prepared, config.model.builder, config.train)


def _features_line(result: Result) -> str:
    rows = result["rows"]
    parts = ", ".join(f"{rows[part]:,} {part}" for part in ("train", "valid", "test"))
    if result.get("left_out"):
        parts += f"; {result['left_out']:,} left out by the gap"
    become = f"{result['columns']} columns become {result['width']} features"
    return f"{sum(rows.values()):,} rows fit their schema ({parts}); {become}"


def _train_line(result: Result) -> str:
    return f"{_scores(result['metrics'])} at epoch {result['best_epoch']} of {result['epochs']}"


def _tune_line(result: Result) -> str:
    page = f"; see {result['page']}" if result.get("page") else ""
    return f"trial {result['best'] + 1} of {result['trials']} is the best: {_scores(result['metrics'])}{page}"


def _evaluate_line(result: Result) -> str:
    from rayline.evaluation.record import line

    return line(result["evaluation"])


def _bless_line(result: Result) -> str:
    from rayline.evaluation.gates import summary

    return summary(blessing.of_result(result))


def _skew_line(result: Result) -> str:
    return f"{result['rows']:,} training rows: serving equals offline (largest difference {result['largest']:.2g})"


def _scores(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if not name.startswith("train_"))
