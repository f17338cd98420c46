"""How much each searched parameter decides, by functional ANOVA (Hutter, Hoos and Leyton-Brown, 2014)."""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from rayline.config import Space
from rayline.tuning.page.sheet import ABSENT, Objective, Sheet, text_of

FEWEST_TRIALS = 4
TREES = 32
SEED = 0

optuna.logging.set_verbosity(optuna.logging.ERROR)


def importances(sheet: Sheet, objective: Objective) -> dict[str, float] | str:
    """Return the share (0 to 1, together 1) of each searched key in what an objective varies, the largest first.

    A parameter that was not searched in a trial counts as a level of its own where it is a choice, and as the median of
    the others where it is a number: what its condition decides is then its parent's.

    Returns:
        The shares, or why there are none.
    """
    trials = sheet.scored(objective)
    if len(trials) < FEWEST_TRIALS:
        return f"it takes {FEWEST_TRIALS} trials with a result to tell, and there are {len(trials)}"
    if len({objective.of(trial) for trial in trials}) == 1:
        return f"{objective.name} is the same in every trial"
    columns = {key: _column(sheet, objective, key) for key in sheet.keys}
    varying = {key: each for key, each in columns.items() if len({str(value) for value in each[1]}) > 1}
    if not varying:
        return "no parameter differs between the trials"
    if len(varying) == 1:
        return {next(iter(varying)): 1.0}
    return _shares(sheet, objective, varying)


def _shares(sheet: Sheet, objective: Objective, columns: dict[str, tuple[Any, list[Any]]]) -> dict[str, float] | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's evaluators are marked experimental
        study = optuna.create_study()
        distributions = {key: each[0] for key, each in columns.items()}
        for place, trial in enumerate(sheet.scored(objective)):
            params = {key: values[place] for key, (_, values) in columns.items()}
            study.add_trial(create_trial(params=params, distributions=distributions, value=objective.of(trial)))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=SEED)
        try:
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (RuntimeError, ValueError) as error:
            return str(error)
    return {key: float(share) for key, share in sorted(found.items(), key=lambda each: -each[1])}


def _column(sheet: Sheet, objective: Objective, key: str) -> tuple[Any, list[Any]]:
    """Return one parameter of all trials with a result as Optuna has it."""
    space = sheet.space[key]
    values = [trial.params.get(key) for trial in sheet.scored(objective)]
    return _choice(space, values) if space.choose is not None else _number(space, values)


def _choice(space: Space, values: list[Any]) -> tuple[Any, list[str]]:
    texts = [ABSENT if value is None else text_of(value) for value in values]
    known = dict.fromkeys([*(text_of(each) for each in space.choose or ()), ABSENT, *texts])
    return CategoricalDistribution(tuple(known)), texts


def _number(space: Space, values: list[Any]) -> tuple[Any, list[float]]:
    there = [float(value) for value in values if value is not None]
    middle = statistics.median_low(there) if there else float(space.low or 0.0)
    filled = [middle if value is None else float(value) for value in values]
    low, high = min([*filled, float(space.low or 0.0)]), max([*filled, float(space.high or 0.0)])
    if space.integer:
        return IntDistribution(int(low), int(high), log=space.log), [int(value) for value in filled]
    return FloatDistribution(low, high, log=space.log), filled
