"""A Study: many Runs over a search space, on workers that stay warm."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as with_fields

from rayline.config import Config, Space
from rayline.errors import ConfigError, TrainingFailed
from rayline.training.metrics import direction
from rayline.training.spec import EpochReport, TrainData, TrainSpec
from rayline.tuning import ledger
from rayline.tuning.course import Course
from rayline.tuning.job_maker import DataFor, JobMaker
from rayline.tuning.ledger import Ledger, Trial
from rayline.tuning.limits import Limits
from rayline.tuning.pareto import front
from rayline.tuning.places import Places
from rayline.tuning.pool import Hiring, Pool
from rayline.tuning.population import Population, check_movable
from rayline.tuning.schedulers import decisions, most_epochs
from rayline.tuning.search import Search
from rayline.tuning.space.space import check

__all__ = ["DataFor", "StudyResult", "Trial", "base_data", "tune"]

LEDGER = "trials.jsonl"
EPOCHS_EVERY_S = 0.5

TrialListener = Callable[[Trial], None]
EpochListener = Callable[[int, EpochReport], None]


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A finished Study.

    Attributes:
        trials: all of them, by number.
        best: of those that did not fail, by ``train.metric``, or by the first of ``tune.objectives``.
        pareto: with several objectives those that no other trial beats in all of them; else the best alone.
        ended_by: why no further trial started.
        optuna: the raw ``optuna.Study`` that suggested them.
    """

    trials: tuple[Trial, ...]
    best: Trial
    pareto: tuple[Trial, ...]
    ended_by: str
    optuna: Any


def base_data(spec: TrainSpec, data: TrainData) -> DataFor:
    """Return a ``data_for`` that gives every trial the same data, put once into the object store."""
    import ray

    reference = ray.put(data)
    return lambda config: (replace(spec, model=config.model, train=config.train), reference)


def tune(
    config: Config,
    data_for: DataFor,
    out: Path,
    on_trial: TrialListener = lambda trial: None,
    earlier: Sequence[Trial] = (),
    *,
    on_epoch: EpochListener = lambda number, report: None,
    on_running: Callable[[Sequence[int]], None] = lambda numbers: None,
    notice: Callable[[str], None] = lambda text: None,
    on_wait: Callable[[str], None] = lambda text: None,
) -> StudyResult:
    """Search the space of ``config.tune``; Ray must be connected.

    Each trial runs its family's training loop in a worker process that is kept for the next trial; with
    ``train.num_workers`` above 1 each trial starts its own worker group.

    The same folder again resumes: trials that have ended are told to the sampler as they happened, those that had begun
    are run again under their number, from their checkpoint, and the rest follows. With ``max_concurrent: 1`` the same
    seed gives the same trials, killed or not; with more at once that depends on which of them ends first.

    Args:
        config: the base configuration; a trial replaces some of its values.
        data_for: gives a trial's configuration what to train, and the object-store reference to its ``TrainData``.
            It is asked once for ``config`` itself, then once for each start of a trial, in a thread of its own.
        out: the Study's folder, reachable by every node: a folder for each trial, and the ledger.
        on_trial: hears each trial that has ended, in this thread; those of an earlier attempt too. What it raises ends
            the Study, and nothing is lost.
        earlier: trials of earlier Studies for the sampler to learn from; they do not count.
        on_epoch: hears now and then the last epoch of a running trial, with its number, in this thread.
        on_running: hears often the numbers of the trials that have a worker, in another thread; it must not wait.
        notice: hears what the user should know, and that stops nothing.
        on_wait: hears for how many nodes the Study waits, in this thread.

    Raises:
        ConfigError: the space, a metric or the sampler is wrong; told before any trial starts.
        ClusterError: not even one trial fits the cluster.
        TrainingFailed: every trial failed; the message has the first reason.
    """
    space = check(config)
    assert config.tune is not None
    spec, _ = data_for(config)
    names = config.tune.objectives or (config.train.metric,)
    directions = [direction(name, spec.task) for name in names]
    direction(config.train.metric, spec.task)
    config = _without_pruning(config, notice)
    if config.tune is not None and config.tune.scheduler == "pbt":
        check_movable(config)
    assert config.tune is not None
    places = Places(config)
    out = out.resolve()  # a trial's process has another working folder
    longest = most_epochs(config, space)
    with ExitStack() as ends:
        pool = Pool(_hiring(config), places)
        ends.callback(pool.close)
        pool.aim(config.tune.trials)  # a trial that never fits is refused before anything is written
        kept = ends.enter_context(closing(Ledger(out / LEDGER)))
        metrics = [f"valid_{name}" for name in names]
        suggester = _suggester(config, space, metrics, directions, longest, earlier)
        sign = 1 if directions[0] == "min" else -1
        told: list[Trial] = []
        plan = _plan(config, space, suggester, JobMaker(config, data_for, out), kept, metrics[0], sign, told.append)
        course = Course(pool, plan, config.train.max_failures, on_running=on_running)
        _work(course, kept, told, on_trial, on_epoch, notice, on_wait)
    trials = tuple(sorted(ledger.read(out / LEDGER), key=lambda trial: trial.number))
    return _result(trials, metrics, directions, plan.ended_by or "", suggester.study)


def _hiring(config: Config) -> Hiring:
    tune, cluster, alone = config.tune, config.cluster, config.train.alone
    assert tune is not None
    return Hiring(
        tune.cpus_per_trial if alone else 0,
        tune.gpus_per_trial if alone else 0,
        config.model.builder,
        min(tune.max_concurrent, tune.trials) if tune.max_concurrent is not None else None,
        cluster.priority == "low",
        cluster.train_on,
    )


def _suggester(
    config: Config,
    space: dict[str, Space],
    metrics: Sequence[str],
    directions: Sequence[str],
    longest: int,
    earlier: Sequence[Trial],
) -> Any:
    from rayline.tuning.samplers import Suggester  # Optuna loads while the workers start

    assert config.tune is not None
    return Suggester(config.tune, space, metrics, directions, longest, earlier)


def _plan(
    config: Config,
    space: dict[str, Space],
    suggester: Any,
    jobs: JobMaker,
    kept: Ledger,
    metric: str,
    sign: int,
    on_trial: TrialListener,
) -> Any:
    tune = config.tune
    assert tune is not None
    limits = Limits(tune.trials, tune.stop, sign)
    longest = most_epochs(config, space)
    if tune.scheduler == "pbt":
        return Population(tune, suggester, replace(jobs, whole=True), kept, limits, longest, metric, on_trial)
    return Search(suggester, replace(jobs, asks=decisions(tune, longest)), kept, limits, metric, on_trial)


def _without_pruning(config: Config, notice: Callable[[str], None]) -> Config:
    """Return the configuration without a scheduler where none can work, and say why."""
    tune = config.tune
    assert tune is not None
    if tune.scheduler == "none":
        return config
    why = None
    if len(tune.objectives) > 1:
        why = "a trial cannot be ended early for one of several objectives"
    elif not config.train.alone:
        why = "a trial that is a group of workers cannot be ended early without leaving them behind"
    if why is None:
        return config
    if tune.scheduler == "pbt":
        raise ConfigError(f"tune.scheduler 'pbt' cannot be used here: {why}. Choose another scheduler.")
    notice(f"tune.scheduler '{tune.scheduler}' is off: {why}")
    return with_fields(config, tune=with_fields(tune, scheduler="none"))


def _work(
    course: Course,
    kept: Ledger,
    told: list[Trial],
    on_trial: TrialListener,
    on_epoch: EpochListener,
    notice: Callable[[str], None],
    on_wait: Callable[[str], None],
) -> None:
    """Run the course in a thread of its own, and tell the listeners in this one: a slow one holds no trial up."""
    inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    stopped = threading.Event()
    failures: list[BaseException] = []
    last = [0.0]

    def settled() -> None:
        if told:
            kept.sync()
            for trial in told:
                inbox.put(lambda trial=trial: on_trial(trial))  # type: ignore[misc]
            told.clear()

    def epoch(number: int, report: EpochReport) -> None:
        if time.monotonic() - last[0] >= EPOCHS_EVERY_S:
            last[0] = time.monotonic()
            inbox.put(lambda: on_epoch(number, report))

    def run() -> None:
        try:
            course.run()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            failures.append(error)
        finally:
            with suppress(OSError):
                settled()
            inbox.put(None)

    course.settled, course.on_epoch, course.stop = settled, epoch, stopped.is_set
    course.notice = lambda text: inbox.put(lambda: notice(text))
    course.on_wait = lambda text: inbox.put(lambda: on_wait(text))
    thread = threading.Thread(target=run, name="rayline-study", daemon=True)
    thread.start()
    try:
        while (tell := inbox.get()) is not None:
            tell()
    finally:
        stopped.set()
        thread.join()
    if failures:
        raise failures[0]


def _result(
    trials: tuple[Trial, ...], metrics: Sequence[str], directions: Sequence[str], ended_by: str, study: Any
) -> StudyResult:
    usable = [trial for trial in trials if trial.checkpoint is not None]
    if not usable:
        reason = trials[0].error if trials else ended_by
        raise TrainingFailed(f"all {len(trials)} trials failed; the first with: {reason}")
    signs = [1 if each == "min" else -1 for each in directions]
    best = min(usable, key=lambda trial: (signs[0] * trial.metrics[metrics[0]], trial.number))
    pareto = front(usable, metrics, signs) if len(metrics) > 1 else (best,)
    return StudyResult(trials, best, pareto, ended_by, study)
