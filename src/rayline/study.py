"""The step of a flow that searches: a Study, from the prepared features to the best trial, its page and its runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import experiment, storage, warm_start
from rayline.config import Config, Space, plain, with_values
from rayline.errors import RaylineError
from rayline.events import Notice, Resumed, TrialEnded, TrialEpoch
from rayline.gauges import StudyProgress
from rayline.ledger import Record
from rayline.project import Project, Result

if TYPE_CHECKING:
    from rayline.features.prepared import Prepared
    from rayline.training.spec import EpochReport
    from rayline.tuning.page.sheet import Sheet
    from rayline.tuning.study import StudyResult, Trial
    from rayline.tuning.variants import Variants

PAGE_FOLDER = "page"
ARTIFACTS = "study"
NOTE = "mlflow.note.content"
"""The tag that MLflow's pages show as a run's description, in Markdown."""


def searched(project: Project, data: Record) -> Result:
    """Run or resume the Study of a project; returns what the steps after it need, as JSON-ready values.

    Raises:
        ConfigError: the space is wrong; told before any worker starts.
        NotFoundError: ``tune.warm_start`` names a Study that there is not.
        ClusterError: not even one trial fits the cluster.
        TrainingFailed: every trial failed.
    """
    from rayline.features.prepared import Prepared
    from rayline.tuning.space.space import check, declared
    from rayline.tuning.study import tune
    from rayline.tuning.variants import Variants, store_budget

    project.open_store_early()
    prepared = Prepared.load(Path(data.result["path"]))
    config = declared(project.config, {each.name: each.kind for each in prepared.features.schema.columns})
    space = check(config)
    assert config.tune is not None
    project.connect()
    import ray

    folder = project.storage / "studies" / project.key("tune")
    variants = Variants(prepared, config, lambda each: Project(each).key("features"), ray.put, store_budget())
    try:
        with experiment.open_study(project.tracking, config, prepared, folder, fresh=project.fresh) as log:
            earlier: tuple[Trial, ...] = ()
            told: tuple[str, ...] = ()
            if config.tune.warm_start:
                earlier, told = warm_start.remembered(project.store, config, space, prepared.facts.digest, folder)
            hears = _Hears(project, config, log, variants, _progress(config, prepared), list(told))
            if log.resumed:
                hears.resumed(folder)
            for each in told:
                project.listener(Notice(each))
            variants.prepare_ahead(space, config.tune.trials, hears.notice)
            found = tune(
                config,
                variants.data_for,
                folder,
                hears.trial,
                earlier,
                on_epoch=hears.epoch,
                on_running=hears.progress.running,
                notice=hears.notice,
                on_wait=lambda text: project.listener(Notice(text)),
            )
            page = hears.page(_sheet(config, space, prepared, found, hears.notices), folder / PAGE_FOLDER)
            log.finished(found)
        return _result(config, variants, found, log.run_of(found.best.number), log.run_id, page)
    finally:
        variants.close()


@dataclass
class _Hears:
    """What becomes of what a Study tells: it goes to the user, to MLflow and to the page."""

    project: Project
    config: Config
    log: experiment.StudyLog
    variants: Variants
    progress: StudyProgress
    notices: list[str] = field(default_factory=list)

    def trial(self, trial: Trial) -> None:
        """Keep a trial that has ended, and tell the user of one that is new."""
        self.progress.trial(trial)
        if self.log.trial(trial, self._prepared(trial)):
            self.project.listener(_event(self.config, trial))

    def epoch(self, number: int, report: EpochReport) -> None:
        """Tell the user how far a running trial is."""
        assert self.config.tune is not None
        self.project.listener(TrialEpoch(number, self.config.tune.trials, report.epoch, report.metrics))

    def notice(self, text: str) -> None:
        """Keep and pass on what the user should know."""
        self.notices.append(text)
        self.project.listener(Notice(text))

    def resumed(self, folder: Path) -> None:
        """Tell how far an earlier attempt came."""
        from rayline.tuning import ledger
        from rayline.tuning.study import LEDGER

        assert self.config.tune is not None
        ended = len(ledger.read(folder / LEDGER))
        self.project.listener(Resumed("tune", ended, self.config.tune.trials, "trial"))

    def page(self, sheet: Sheet, folder: Path) -> Path | None:
        """Write the page here and to the parent run; None where it cannot be drawn, which takes no Study away."""
        from rayline.tuning.page.page import write_page
        from rayline.tuning.page.page_note import note

        try:
            page = write_page(sheet, folder)
            storage.keep(folder)
        except Exception as error:  # noqa: BLE001 - the trials are done, and worth more than their picture
            self.notice(f"the Study's page could not be written: {type(error).__name__}: {error}")
            return None
        files = {f"{ARTIFACTS}/{file.relative_to(folder).as_posix()}": file for file in sorted(folder.rglob("*.*"))}
        self.log.artifacts({path: file for path, file in files.items() if file.is_file()})
        self.log.tag({NOTE: note(sheet, f"{ARTIFACTS}/{page.name}")})
        return page

    def _prepared(self, trial: Trial) -> Prepared | None:
        try:
            return self.variants.prepared_for(with_values(self.config, trial.params))
        except RaylineError:  # why the trial failed
            return None


def _progress(config: Config, prepared: Prepared) -> StudyProgress:
    from rayline.training.metrics import direction

    assert config.tune is not None
    names = config.tune.objectives or (config.train.metric,)
    objectives = {f"valid_{name}": direction(name, prepared.features.task) for name in names}
    return StudyProgress(config.name, config.tune.trials, objectives)


def _sheet(
    config: Config, space: dict[str, Space], prepared: Prepared, found: StudyResult, notices: list[str]
) -> Sheet:
    from rayline.training.metrics import direction
    from rayline.tuning.page.sheet import Objective, Sheet

    assert config.tune is not None
    names = config.tune.objectives or (config.train.metric,)
    objectives = tuple(Objective(f"valid_{name}", direction(name, prepared.features.task)) for name in names)
    return Sheet(
        config, space, objectives, found.trials, found.best, found.pareto, found.ended_by, tuple(dict.fromkeys(notices))
    )


def _result(
    config: Config, variants: Variants, found: StudyResult, run_id: str, study_run_id: str, page: Path | None
) -> Result:
    best = found.best
    chosen = with_values(config, best.params)
    prepared = variants.prepared_for(chosen)
    assert best.checkpoint is not None
    return {
        "run_id": run_id,
        "study_run_id": study_run_id,
        "checkpoint": str(best.checkpoint),
        "path": str(prepared.path),
        "digest": prepared.facts.digest,
        "features": prepared.features.fingerprint,
        "transforms": variants.transforms,
        "model": plain(chosen.model),
        "metrics": best.metrics,
        "params": best.params,
        "trials": len(found.trials),
        "best": best.number,
        "ended_by": found.ended_by,
        "page": str(page) if page is not None else None,
    }


def _event(config: Config, trial: Trial) -> TrialEnded:
    assert config.tune is not None
    names = config.tune.objectives or (config.train.metric,)
    values: dict[str, Any] = {f"valid_{name}": trial.metrics.get(f"valid_{name}") for name in names}
    score = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
    said = score or f"no result: {trial.error.splitlines()[0] if trial.error else trial.status}"
    return TrialEnded(trial.number, config.tune.trials, trial.status, trial.params, said)
