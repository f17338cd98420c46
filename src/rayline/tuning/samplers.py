"""The door to Optuna: who suggests the next trial, and what it is told.

Suggestions come by ask and tell. The sampler of trial n is made anew from the seed and n, so that a suggestion follows
from the seed and from what was told before it, and from nothing else: with ``max_concurrent: 1`` the same seed gives
the same trials, killed and resumed or not. With more at once it depends on which trial ends first.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from rayline.config import Space, TuneConfig
from rayline.errors import ConfigError
from rayline.training.spec import EpochReport
from rayline.tuning.ledger import Trial
from rayline.tuning.schedulers import pruner
from rayline.tuning.space.choices import as_value, same_value

STARTUP_TRIALS = 4
"""Random trials before TPE and the Gaussian process begin to learn."""

STATEFUL = ("cmaes", "qmc")
"""Samplers that keep with the study how far they are."""

MOST_GRID = 100_000
STUDY = "rayline"  # Hyperband divides trials among its brackets by this name and their number

optuna.logging.set_verbosity(optuna.logging.ERROR)


def suggest(trial: Any, space: Mapping[str, Space]) -> dict[str, Any]:
    """Return a value for each key of the space that is searched in this trial.

    Args:
        trial: an Optuna trial; parents are asked before what depends on them.
        space: by dotted key, with parents anywhere.
    """
    chosen: dict[str, Any] = {}
    for key in ordered(space):
        each = space[key]
        if not active(each, chosen):
            continue
        if each.choose is not None:
            chosen[key] = as_value(each.choose[trial.suggest_categorical(key, tuple(range(len(each.choose))))])
        elif each.integer:
            chosen[key] = trial.suggest_int(key, int(each.low or 0), int(each.high or 0), log=each.log)
        else:
            chosen[key] = trial.suggest_float(key, each.low, each.high, log=each.log)
    return chosen


def ordered(space: Mapping[str, Space]) -> list[str]:
    """Return the keys of a space as they stand, but parents before what depends on them.

    Raises:
        ConfigError: keys depend on each other in a circle.
    """
    found: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [key for key in waiting if all(parent in found or parent not in space for parent in space[key].when)]
        if not ready:
            raise ConfigError(f"tune.space: {', '.join(waiting)} depend on each other in a circle by 'when'.")
        found.append(ready[0])
        waiting.remove(ready[0])
    return found


def active(space: Space, chosen: Mapping[str, Any]) -> bool:
    """Tell whether a key is searched, given what was chosen for the keys that it depends on."""
    for key, wanted in space.when.items():
        if key not in chosen:
            return False
        allowed = [wanted, *wanted] if isinstance(wanted, list | tuple) else [wanted]
        if not any(same_value(chosen[key], each) for each in allowed):
            return False
    return True


def grid(space: Mapping[str, Space], seed: int) -> list[dict[str, Any]]:
    """Return every combination of a finite space once, in an order that the seed decides.

    Raises:
        ConfigError: a key has no finite number of values, or there are too many combinations.
    """
    for key, each in space.items():
        if each.choose is None and not each.integer:
            raise ConfigError(
                f"tune.sampler 'grid' needs a finite number of values for '{key}': give it 'choose: [...]'."
            )
    found = list(itertools.islice(_combinations(space, ordered(space), {}), MOST_GRID + 1))
    if len(found) > MOST_GRID:
        raise ConfigError(f"tune.sampler 'grid' has more than {MOST_GRID:,} combinations. Narrow the space.")
    return [found[place] for place in np.random.default_rng(seed).permutation(len(found))]


class Suggester:
    """An Optuna study that is asked and told. ``study`` is the raw handle.

    Args:
        tune: the section.
        space: what to search.
        metrics: names of the objectives, as reports have them (``valid_loss``); pruning looks at the first.
        directions: ``min`` or ``max`` for each of them.
        longest: epochs of the longest trial.
        earlier: trials of earlier Studies to learn from; they do not count.

    Raises:
        ConfigError: the sampler cannot search this space.
    """

    def __init__(
        self,
        tune: TuneConfig,
        space: Mapping[str, Space],
        metrics: Sequence[str],
        directions: Sequence[str],
        longest: int,
        earlier: Sequence[Trial] = (),
    ) -> None:
        self._tune = tune
        self._space = dict(space)
        self.metrics = tuple(metrics)
        self._grid = grid(space, tune.seed) if tune.sampler == "grid" else None
        self._asked: dict[int, Any] = {}
        self.study = optuna.create_study(
            study_name=STUDY,
            directions=[{"min": "minimize", "max": "maximize"}[each] for each in directions],
            pruner=pruner(tune, longest),
        )
        for trial in earlier:
            self._learn(trial)
        self._before = len(self.study.get_trials(deepcopy=False))

    @property
    def next_number(self) -> int:
        """The number of the trial that is asked for next."""
        return len(self.study.get_trials(deepcopy=False)) - self._before

    @property
    def size(self) -> int | None:
        """How many trials there are to suggest; None where there is no end."""
        return len(self._grid) if self._grid is not None else None

    def ask(self, params: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Return the next trial's number and its parameters: those that are given, else what the sampler suggests."""
        number = self.next_number
        if params is None and self._grid is not None:
            params = self._grid[number]
        if params is not None:
            self.study.enqueue_trial(self._internal(params))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of experimental samplers, and of values outside a space that has changed
            self.study.sampler = sampler(self._tune, number)
            trial = self.study.ask()
            if params is not None and self._tune.sampler in STATEFUL:
                _ = trial.relative_params  # takes the step that it took when it first suggested them
            suggested = suggest(trial, self._space)
        self._asked[number] = trial
        return number, dict(params) if params is not None else suggested

    def report(self, number: int, report: EpochReport) -> bool:
        """Tell an epoch of a running trial; return whether the scheduler ends it there."""
        value = report.metrics.get(self.metrics[0])
        if len(self.metrics) > 1 or self._tune.scheduler == "none" or value is None:
            return False
        trial = self._asked[number]
        trial.report(value, report.epoch)
        return bool(trial.should_prune())

    def replay(self, trial: Trial) -> None:
        """Tell an ended trial of an earlier attempt, with its epochs."""
        for report in trial.history:
            self.report(trial.number, report)
        self.tell(trial)

    def tell(self, trial: Trial) -> None:
        """Tell how a trial ended."""
        asked = self._asked.pop(trial.number)
        if trial.status == "failed" or not trial.metrics:
            self.study.tell(asked, state=TrialState.FAIL)
        elif trial.status == "stopped" and len(self.metrics) == 1:
            self.study.tell(asked, state=TrialState.PRUNED)
        else:
            self.study.tell(asked, [trial.metrics[name] for name in self.metrics])

    def _internal(self, params: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for key, value in params.items():
            if key in self._space:
                inside, internal = _internal_of(self._space[key], value)
                if inside:
                    found[key] = internal
        return found

    def _learn(self, trial: Trial) -> None:
        """Add a trial of an earlier Study, with those of its parameters that lie in this space."""
        values = [trial.metrics.get(name) for name in self.metrics]
        params = self._internal(trial.params)
        if trial.status == "failed" or None in values or not params:
            return
        self.study.add_trial(
            create_trial(
                params=params, distributions={key: distribution(self._space[key]) for key in params}, values=values
            )
        )


def sampler(tune: TuneConfig, number: int) -> Any:
    """Return the sampler that suggests one trial."""
    seed = int(np.random.SeedSequence([tune.seed, number]).generate_state(1)[0])
    samplers = optuna.samplers
    independent = samplers.RandomSampler(seed=seed)
    if tune.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    if tune.sampler == "gp":
        return samplers.GPSampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, independent_sampler=independent, deterministic_objective=False
        )
    if tune.sampler == "cmaes":
        return samplers.CmaEsSampler(seed=seed, independent_sampler=independent, warn_independent_sampling=False)
    if tune.sampler == "qmc":  # one scrambled sequence for all trials: how far it is used stands with the study
        return samplers.QMCSampler(
            seed=tune.seed, scramble=True, independent_sampler=independent, warn_independent_sampling=False
        )
    return independent


def distribution(space: Space) -> Any:
    """Return a span or a choice as Optuna has it; a choice by its place."""
    if space.choose is not None:
        return CategoricalDistribution(tuple(range(len(space.choose))))
    if space.integer:
        return IntDistribution(int(space.low or 0), int(space.high or 0), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _internal_of(space: Space, value: Any) -> tuple[bool, Any]:
    """Return whether a value lies in a space, and how Optuna has it."""
    if space.choose is not None:
        places = [place for place, each in enumerate(space.choose) if same_value(each, value)]
        return (True, places[0]) if places else (False, None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False, None
    inside = bool(space.low is not None and space.high is not None and space.low <= value <= space.high)
    if space.integer and value != int(value):
        return False, None
    return inside, int(value) if space.integer else float(value)


def _combinations(
    space: Mapping[str, Space], keys: Sequence[str], chosen: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    if not keys:
        yield dict(chosen)
        return
    first, rest = space[keys[0]], keys[1:]
    if not active(first, chosen):
        yield from _combinations(space, rest, chosen)
        return
    values = first.choose if first.choose is not None else range(int(first.low or 0), int(first.high or 0) + 1)
    for value in values:
        yield from _combinations(space, rest, {**chosen, keys[0]: as_value(value)})
