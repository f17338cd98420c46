"""The door to Ray Tune: many Runs over a search space, by Optuna's sampler and ASHA."""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler

from rayline.config import Config, Space, with_values
from rayline.errors import ClusterError, TrainingFailed
from rayline.training import checkpoint
from rayline.training.context import Place, TrainContext
from rayline.training.interrupts import own_interrupts
from rayline.training.metrics import direction
from rayline.training.room import room_for
from rayline.training.spec import EpochReport, TrainData, TrainSpec
from rayline.tuning import ledger
from rayline.tuning.ledger import Status, Trial
from rayline.tuning.space import check, settings_of

__all__ = ["StudyResult", "Trial", "tune"]

NUMBER = "__number__"
ENDED = "ended"
STARTUP_TRIALS = 4  # random trials before the sampler begins to learn
WAITING = {"CPU": 0, "memory": 1}  # for a trial that only waits for its worker group: Ray Tune takes none for nothing
REDUCTION = 3  # ASHA keeps one trial in three at each rung


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A finished Study: all trials by number, and the best of those that did not fail."""

    trials: tuple[Trial, ...]
    best: Trial


def tune(
    config: Config, data: TrainData, spec: TrainSpec, out: Path, on_trial: Callable[[Trial], None] = lambda trial: None
) -> StudyResult:
    """Search the space of ``config.tune``; Ray must be connected.

    Each trial runs the training loop in its own worker process, which is kept for the next trial; with
    ``train.num_workers`` above 1 each trial starts its own worker group.

    Args:
        config: the base configuration; a trial replaces some of its values.
        data: both parts; shared with all trials through the object store.
        spec: what to train, for the base configuration.
        out: the Study's folder: checkpoints and the ledger of trials.
        on_trial: hears each trial, in this process, as it ends.

    Raises:
        ConfigError: the space or the metric is wrong; told before any worker starts.
        ClusterError: not even one trial fits the cluster.
        TrainingFailed: every trial failed, or Ray Tune lost one.
    """
    space = check(config)
    assert config.tune is not None
    mode = direction(config.train.metric, spec.task)
    concurrent = concurrent_trials(config)
    out = out.resolve()  # a trial's process has another working folder
    out.mkdir(parents=True, exist_ok=True)
    file = out / "trials.jsonl"
    _run(
        config,
        space,
        mode,
        concurrent,
        data,
        spec,
        out,
        _Ends(file, on_trial, f"valid_{config.train.metric}", 1 if mode == "min" else -1),
    )
    trials = tuple(sorted(ledger.read(file), key=lambda trial: trial.number))
    if len(trials) != config.tune.trials:
        raise TrainingFailed(
            f"the study in '{out}' was to have {config.tune.trials} trials and its ledger has {len(trials)}. "
            "Run the same command again."
        )
    usable = [trial for trial in trials if trial.checkpoint is not None]
    if not usable:
        raise TrainingFailed(f"all {len(trials)} trials failed; the first with: {trials[0].error}")
    sign = 1 if mode == "min" else -1
    best = min(usable, key=lambda trial: (sign * trial.metrics[f"valid_{config.train.metric}"], trial.number))
    return StudyResult(trials, best)


def concurrent_trials(config: Config) -> int:
    """Return how many trials may run at once: what fits the free CPUs, at most what the configuration allows.

    Raises:
        ClusterError: not even one fits.
    """
    assert config.tune is not None
    alone = config.train.alone
    each = config.tune.cpus_per_trial if alone else config.train.workers[1]
    room = room_for(each)
    fitting = int(room.free / each + 1e-9)
    if fitting < 1:
        raise ClusterError(
            f"a trial needs {each:g} CPUs and the cluster has {room.free:g} free of {room.total:g}. "
            f"Lower {'tune.cpus_per_trial' if alone else 'train.num_workers'}, add nodes, or stop what holds the rest."
        )
    return min(fitting, config.tune.max_concurrent or fitting, config.tune.trials)


def _run(
    config: Config,
    space: Mapping[str, Space],
    mode: str,
    concurrent: int,
    data: TrainData,
    spec: TrainSpec,
    out: Path,
    ends: _Ends,
) -> None:
    settings = config.tune
    assert settings is not None
    alone = config.train.alone
    metric = f"valid_{config.train.metric}"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    longest = _most_epochs(config, space)
    # A trial stopped from outside would leave its worker group behind, so the scheduler stops single processes only.
    scheduler = ASHAScheduler(
        time_attr="training_iteration",
        max_t=longest,
        grace_period=min(settings.grace_epochs, longest),
        reduction_factor=REDUCTION,
    )
    trainable = ray_tune.with_parameters(run_trial, config=config, data=data, spec=spec, out=str(out))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(trainable, {"CPU": settings.cpus_per_trial} if alone else WAITING),
            param_space={},
            tune_config=ray_tune.TuneConfig(
                metric=metric,
                mode=mode,
                num_samples=settings.trials,
                max_concurrent_trials=concurrent,
                search_alg=_sampler(space, metric, mode, settings.seed),
                scheduler=scheduler if alone else None,
                reuse_actors=True,
            ),
            run_config=ray_tune.RunConfig(name="tune", storage_path=str(out), verbose=0, callbacks=[_Relay(ends, out)]),
        )
        with own_interrupts():
            tuner.fit()
    if ends.failure is not None:
        raise ends.failure


def run_trial(
    params: dict[str, Any], *, config: Config, data: TrainData, spec: TrainSpec, out: str
) -> None:  # runs in a trial's process
    """Train one configuration and report each epoch to Ray Tune."""
    number = int(params[NUMBER])
    chosen = with_values(config, settings_of({key: value for key, value in params.items() if key != NUMBER}))
    trial_spec = dataclasses.replace(spec, model=chosen.model, train=chosen.train)
    folder = Path(out) / f"trial-{number:03d}"

    def on_epoch(report: EpochReport) -> None:
        ray_tune.report({**report.metrics, "epoch": report.epoch, "last": report.epoch == chosen.train.epochs})

    if not chosen.train.alone:
        from rayline.training.trainer import train

        train(trial_spec, data, folder, on_epoch)
    else:
        from rayline.training.families import fit

        assert config.tune is not None
        fit(TrainContext(trial_spec, data, folder, on_epoch, Place(threads=max(1, int(config.tune.cpus_per_trial)))))
    (folder / ENDED).touch()


class _Ends:
    """Turns what Ray Tune tells of its trials into our own, keeps each in the ledger and passes it on."""

    def __init__(self, file: Path, on_trial: Callable[[Trial], None], metric: str, sign: int) -> None:
        self._metric = metric
        self._sign = sign
        self.failure: Exception | None = None
        self._file = file
        self._on_trial = on_trial
        self._reports: dict[int, list[EpochReport]] = {}
        self._complete: set[int] = set()

    def reported(self, number: int, result: Mapping[str, Any]) -> None:
        """Keep one epoch of a trial."""
        metrics = {key: float(value) for key, value in result.items() if key.startswith(("train_", "valid_"))}
        self._reports.setdefault(number, []).append(EpochReport(int(result["epoch"]), metrics))
        if result["last"]:  # the scheduler may stop a trial right after it, before it can tell its own end
            self._complete.add(number)

    def ended(self, number: int, params: Mapping[str, Any], folder: Path, error: str | None) -> None:
        """Keep a trial that has ended, once."""
        complete = number in self._complete or (folder / ENDED).exists()
        status: Status = "failed" if error else "finished" if complete else "stopped"
        history = tuple(self._reports.pop(number, ()))
        last = checkpoint.latest(folder)
        seen = last.state["history"] if last is not None else []
        best = min(seen, key=lambda each: self._sign * each["metrics"][self._metric], default=None)
        metrics = best["metrics"] if best is not None else {}
        usable = checkpoint.folder_of(folder, best["epoch"]) if best is not None and not error else None
        trial = Trial(number, dict(params), metrics, history, status, usable, error)
        ledger.append(self._file, trial)
        try:
            self._on_trial(trial)
        except Exception as failure:  # noqa: BLE001 - Ray Tune would swallow it; it is raised when the Study ends
            self.failure = self.failure or failure


class _Relay(ray_tune.Callback):  # type: ignore[misc]  # Ray Tune is untyped
    """Passes Ray Tune's words on, in the driver: a stopped trial gets no chance to tell its own end."""

    def __init__(self, ends: _Ends, out: Path) -> None:
        self._ends = ends
        self._out = out

    def __getstate__(self) -> dict[str, Any]:
        """Stay out of Ray Tune's own snapshots: the listener behind this belongs to this process alone."""
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """Keep an epoch."""
        if "epoch" in result:
            self._ends.reported(trial.config[NUMBER], result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Keep a trial that came to its end, or was stopped."""
        self._ended(trial, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Keep a trial that failed."""
        self._ended(trial, _last_line(trial.error_file))

    def _ended(self, trial: Any, error: str | None) -> None:
        params = settings_of({key: value for key, value in trial.config.items() if key != NUMBER})
        self._ends.ended(trial.config[NUMBER], params, self._out / f"trial-{trial.config[NUMBER]:03d}", error)


def _most_epochs(config: Config, space: Mapping[str, Space]) -> int:
    """Return the epochs of the longest trial that the space allows."""
    epochs = space.get("train.epochs")
    if epochs is None:
        return config.train.epochs
    return int(max(epochs.choose)) if epochs.choose is not None else int(epochs.high or 1)


def _sampler(space: Mapping[str, Space], metric: str, mode: str, seed: int) -> Any:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Numbered(OptunaSearch):  # type: ignore[misc]
        """Optuna's TPE; each suggestion carries its number, and a choice its value instead of its place."""

        suggested = 0

        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            params = super().suggest(trial_id)
            if params is None:
                return None
            values = {key: _chosen(space[key], value) for key, value in params.items()}
            values[NUMBER] = self.suggested
            self.suggested += 1
            return values

    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    return Numbered(
        {key: _distribution(each) for key, each in space.items()}, metric=metric, mode=mode, sampler=sampler
    )


def _distribution(space: Space) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if space.choose is not None:
        return CategoricalDistribution(range(len(space.choose)))
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _chosen(space: Space, value: Any) -> Any:
    return space.choose[value] if space.choose is not None else value


def _last_line(file: str | None) -> str:
    lines = Path(file).read_text(encoding="utf-8").strip().splitlines() if file and Path(file).exists() else []
    return lines[-1] if lines else "it ended without a word"
