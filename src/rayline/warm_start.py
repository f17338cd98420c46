"""Earlier Studies, found in the tracking store by name: their trials are what a new Study's sampler begins from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rayline import storage
from rayline.config import Config, Space
from rayline.errors import NotFoundError, suggestion
from rayline.experiment import PARAMS
from rayline.ledger import key_of
from rayline.registry.store import RunRecord
from rayline.tuning.ledger import Event, Trial, as_json, trial_of
from rayline.tuning.space.conditions import applies, holds, ordered

if TYPE_CHECKING:
    from rayline.registry.store import Store

STUDY = {"rayline.kind": "study"}
BEST = "best_"
FILE = "earlier.json"
MOST_LOOKED_AT = 50  # Studies of one experiment, the latest, whose names are compared


def remembered(
    store: Store, config: Config, space: Mapping[str, Space], data: str, folder: Path
) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """Return the trials of the Studies that ``tune.warm_start`` names, as the Study in ``folder`` first found them.

    A resumed Study begins from the same trials, whatever has been tried since.

    Args:
        store: where the Studies are.
        config: the project.
        space: today's, as it was checked.
        data: the digest of today's rows.
        folder: the Study's.

    Returns:
        The trials, with those of their parameters that today's space has, and what the user should know.

    Raises:
        NotFoundError: there is no finished Study of a name; the message has the nearest.
        TrackingError: the store cannot be reached.
    """
    assert config.tune is not None
    names = config.tune.warm_start
    if not names:
        return (), ()
    file, key = folder / FILE, key_of(list(names))
    known = _read(file, key)
    if known is not None:
        return known
    found: list[Trial] = []
    notices: list[str] = []
    for name in names:
        run = find_study(store, name, config.registry.experiment or config.name)
        trials, notice = _trials_of(store, run, name, space, data)
        found += trials
        notices.append(notice)
    _write(file, key, found, notices)
    return tuple(found), tuple(notices)


def find_study(store: Store, name: str, experiment: str) -> RunRecord:
    """Return the latest finished Study of a name.

    Args:
        store: where to look.
        name: of a project, of the parent run (``bike-study``), or ``EXPERIMENT/NAME``; or the parent run's id.
        experiment: where to look first.

    Raises:
        NotFoundError: there is none; the message has the nearest name.
    """
    experiments = store.experiments()
    known: dict[str, None] = {}
    for place in dict.fromkeys((experiment, *experiments)):
        if place not in experiments:
            continue
        for run_id in store.find_runs(place, STUDY)[: -MOST_LOOKED_AT - 1 : -1]:
            record = store.run(run_id)
            project = record.tags.get("rayline.project", place)
            names = (project, record.name, f"{place}/{project}", f"{place}/{record.name}", run_id)
            if name in names and record.status == "FINISHED":
                return record
            known |= dict.fromkeys(names[:2] if record.status == "FINISHED" else ())
    raise NotFoundError(
        f"tune.warm_start names '{name}', and MLflow has no finished Study of this name. {suggestion(name, known)}"
    )


def _trials_of(
    store: Store, study: RunRecord, name: str, space: Mapping[str, Space], data: str
) -> tuple[list[Trial], str]:
    """Return the trials of a Study that have a result, with the parameters that today's space has, and a notice."""
    found: list[Trial] = []
    unknown: dict[str, None] = {}
    outside: dict[str, int] = {}
    for number, run_id in enumerate(store.children(study.run_id)):
        run = store.run(run_id)
        metrics = {key.removeprefix(BEST): value for key, value in run.metrics.items() if key.startswith(BEST)}
        params = _params(run, space)
        if run.status != "FINISHED" or not metrics:
            continue
        unknown |= dict.fromkeys(key for key in params if key not in space)
        for key in space:
            if key in params and not holds(space[key], params[key]):
                outside[key] = outside.get(key, 0) + 1
        kept = _kept(params, space)
        if kept:
            found.append(Trial(number, kept, metrics, (), "finished", None))
    words = [f"warm start from Study '{name}' (run {study.run_id}): {len(found)} trials"]
    if unknown:
        words.append(f"{', '.join(unknown)} not searched now and left out")
    words += [f"{count} values of {key} lie outside what is searched now" for key, count in outside.items()]
    if study.tags.get("rayline.data", data) != data:
        words.append("its rows were others")
    return found, "; ".join(words)


def _params(run: RunRecord, space: Mapping[str, Space]) -> dict[str, Any]:
    """Return what was searched in a trial; of one that does not say, what it has for today's keys."""
    try:
        params = json.loads(run.tags[PARAMS])
        return dict(params)
    except (KeyError, ValueError, TypeError):
        return {key: _value(run.params[key]) for key in space if key in run.params}


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _kept(params: Mapping[str, Any], space: Mapping[str, Space]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key in ordered(space):
        if key in params and holds(space[key], params[key]) and applies(space, key, kept):
            kept[key] = params[key]
    return kept


def _read(file: Path, key: str) -> tuple[tuple[Trial, ...], tuple[str, ...]] | None:
    try:
        raw = json.loads(storage.fetch(file).read_text(encoding="utf-8"))
        trials = tuple(trial_of(Event("ended", each.pop("number"), 0.0, each)) for each in raw["trials"])
        return (trials, tuple(raw["notices"])) if raw["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, key: str, trials: Sequence[Trial], notices: Sequence[str]) -> None:
    raw = {
        "key": key,
        "notices": list(notices),
        "trials": [{"number": each.number, **as_json(each)} for each in trials],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(raw), encoding="utf-8")
    draft.replace(file)
    storage.keep(file)
