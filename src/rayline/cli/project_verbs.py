"""Verbs that take a configuration file: from ``init`` to ``register``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rayline import config as configuration
from rayline.cli import show
from rayline.cli.options import HERE, Address, ConfigFile, Fresh, Json, Overrides, name_cluster
from rayline.config import Environment


def init(
    data: Annotated[str, Parameter(help="A CSV, Parquet or JSON lines file, a glob or URI, or sklearn:NAME.")],
    /,
    *,
    target: Annotated[str, Parameter(help="The column to predict.")],
    name: Annotated[str | None, Parameter(help="The project's name; default: the file's.")] = None,
    out: Annotated[Path, Parameter(help="The folder for the configuration.")] = Path(),
    force: Annotated[bool, Parameter(help="Replace a configuration that is there.", negative=())] = False,
    port: Annotated[int, Parameter(help="Where the service is to answer.")] = 8000,
) -> int:
    """Infer schema and task from a table and write a configuration that runs as it stands."""
    from rayline.scaffold import scaffold

    show.scaffolded(scaffold(data, target=target, name=name, out=out, force=force, port=port))
    return 0


def plan(config: ConfigFile = HERE, /, *, address: Address = None, set_: Overrides = (), json: Json = False) -> int:
    """Tell what `run` would do: each step, cached or not, and what it needs against what there is and can come."""
    from rayline.preview import preview

    name_cluster(address)
    show.plan(preview(configuration.load(config, set_)), as_json=json)
    return 0


def run(config: ConfigFile = HERE, /, *, fresh: Fresh = False, set_: Overrides = (), json: Json = False) -> int:
    """Validate, fit features, train or tune, evaluate, register, roll out. The same command again resumes."""
    from rayline import flow

    loaded = configuration.load(config, set_)
    with show.flow(loaded.name, quiet=json) as listener:
        outcome = flow.run(loaded, fresh=fresh, listener=listener)
    return show.outcome(loaded, outcome, as_json=json)


def validate(
    config: ConfigFile = HERE,
    data: Annotated[str | None, Parameter(help="Another table to check; default: the configuration's own.")] = None,
    /,
    *,
    environment: Annotated[Environment, Parameter(help="Where the table is from; SERVING has no target.")] = "TRAINING",
    update: Annotated[bool, Parameter(help="Propose the change to the schema file as a diff.", negative=())] = False,
    yes: Annotated[bool, Parameter(help="Apply the proposed change without asking.", negative=())] = False,
    set_: Overrides = (),
    json: Json = False,
) -> int:
    """Check a table against its schema, and look for leaks of the target; exit code 1 where it breaks it."""
    from rayline.check import check

    loaded = configuration.load(config, set_)
    done = check(loaded, data, environment=environment, update=update)
    proposal = done.proposal if done.proposal is not None and done.proposal.diff else None
    apply = proposal is not None and yes
    if not json:
        show.checked(done)
        apply = apply or (proposal is not None and show.confirmed(f"Change '{proposal.file}' so?"))
    if apply and proposal is not None:
        proposal.apply()
        after = check(loaded, data, environment=environment)
        done = replace(done, anomalies=after.anomalies, hints=after.hints, valid=after.valid)
        if not json:
            show.updated(done, proposal.file)
    if json:
        return show.checked(done, as_json=True, applied=apply)
    return 0 if done.valid else 1


def train(config: ConfigFile = HERE, /, *, fresh: Fresh = False, set_: Overrides = (), json: Json = False) -> int:
    """Train one configuration, after the features it needs."""
    return _until("train", config, fresh, set_, json)


def tune(config: ConfigFile = HERE, /, *, fresh: Fresh = False, set_: Overrides = (), json: Json = False) -> int:
    """Search for a better configuration, after the features it needs."""
    return _until("tune", config, fresh, set_, json)


def evaluate(config: ConfigFile = HERE, /, *, fresh: Fresh = False, set_: Overrides = (), json: Json = False) -> int:
    """Measure the trained model, as it will be served, on the test part."""
    return _until("evaluate", config, fresh, set_, json)


def register(config: ConfigFile = HERE, /, *, fresh: Fresh = False, set_: Overrides = (), json: Json = False) -> int:
    """Give the trained model a version number, without traffic."""
    return _until("register", config, fresh, set_, json)


def _until(
    step: Literal["train", "tune", "evaluate", "register"],
    config: Path,
    fresh: bool,
    overrides: tuple[str, ...],
    json: bool,
) -> int:
    from rayline import flow
    from rayline.errors import ConfigError

    loaded = configuration.load(config, overrides)
    if step == "tune" and loaded.tune is None:
        raise ConfigError(f"'{config}' has no section 'tune': add one with a 'space' to search.")
    with show.flow(loaded.name, quiet=json) as listener:
        outcome = flow.run(loaded, until=step, fresh=fresh, listener=listener)
    if step == "evaluate" and not json:
        show.evaluated(outcome.result("evaluate")["evaluation"])
    return show.outcome(loaded, outcome, as_json=json)


VERBS: tuple[Callable[..., int], ...] = (init, plan, run, validate, train, tune, evaluate, register)
