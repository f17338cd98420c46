"""Whether a version may meet live traffic: judged by its gates, kept with the version, and asked at every door.

``rayline.blessed`` on a version is ``yes``, ``no`` or ``forced``: a person let it past a gate that said no.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import GateRefused, NotFoundError, UsageError
from rayline.evaluation.gates import Judgement, tried
from rayline.events import Notice
from rayline.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.registry.bundle import Bundle
    from rayline.registry.store import Store, Version

TAG = "rayline.blessed"
REASONS = f"{TAG}.reasons"
AGAINST = f"{TAG}.against"
FORCED_BY, FORCED_AT, FORCED_REASON = f"{TAG}.forced_by", f"{TAG}.forced_at", f"{TAG}.forced_reason"
MOST_TEXT = 4_000  # of a tag
MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Rival:
    """The version that a new one is judged against: the champion, when it was judged."""

    number: int
    digest: str


def rival_of(project: Project, bundle: Path) -> Rival | None:
    """Return what a bundle is judged against, or None where there is no champion.

    The champion itself keeps the rival that it was judged against, so that the same command again stays finished.
    """
    from rayline.registry.manifest import verified
    from rayline.registry.mlflow_store import DATABASE

    if project.config.registry.tracking_uri is None and not (project.storage / DATABASE).exists():
        return None  # so that no database is made to ask it
    store, name = project.store, project.config.name
    champion = _found(store, name, "@champion")
    if champion is not None and champion.digest == verified(bundle)[1]:
        champion = _found(store, name, champion.tags.get(AGAINST, ""))
    return None if champion is None else Rival(champion.number, champion.digest)


def digest_of(rival: Rival | None) -> str | None:
    """Return what a judgement's place in the ledger depends on."""
    return None if rival is None else rival.digest


def _found(store: Store, name: str, selector: str) -> Version | None:
    try:
        return store.version(name, selector) if selector else None
    except NotFoundError:
        return None


def check(project: Project, prepared: Path) -> None:
    """Refuse gates and behavioural tests of what is not there, before a training is spent on them.

    Args:
        project: whose gates.
        prepared: the folder of the finished features step.

    Raises:
        ConfigError: a metric, column or class is unknown; it names the nearest.
    """
    from rayline.evaluation import behaviour, comparison
    from rayline.features.prepared import Prepared

    config = project.config.evaluate
    if not config.gates and not config.behaviour:
        return
    found = Prepared.load(prepared)
    sliced = [gate for gate in config.gates or () if gate.slice is not None]
    table = found.test_table() if sliced else None
    comparison.check(config, found.features.schema, table.column_names if table is not None else ())
    for gate in sliced:
        comparison.slices_of(gate, config, table)
    behaviour.check(config.behaviour, found.features.schema, found.features.input_columns)


def judge(
    project: Project, bundle: Bundle, table: pa.Table, rival: Rival | None, evaluation: Mapping[str, Any]
) -> Judgement:
    """Judge a bundle by all gates, beside its rival on the same rows, and by the behavioural tests.

    Args:
        project: whose gates.
        bundle: what is judged.
        table: the raw test rows.
        rival: what it is compared with.
        evaluation: as ``evaluation.json`` has it.

    Raises:
        BundleError: the rival's bundle is damaged.
    """
    from rayline.evaluation import behaviour, comparison

    config, features = project.config.evaluate, bundle.features
    predictor = bundle.predictor()
    answers = comparison.Answers(bundle.task, comparison.truth_of(features, table), predictor.predict_table(table))
    moved = behaviour.behave(predictor, table, config.behaviour)
    limits = tried(evaluation.get("infrastructure"))
    if rival is None:
        return Judgement(None, None, (*comparison.judged(config, answers, table, ""), *limits), moved)
    other = _fetched(project, rival)
    champion, why = comparison.champions_answers(other.predictor(), table, bundle.task, features.classes)
    answers = replace(answers, champion=champion, why=why)
    gates = comparison.judged(config, answers, table, f"champion v{rival.number}")
    return Judgement(rival.number, rival.digest, (*gates, *limits), moved, _notes(bundle, other, rival))


def _fetched(project: Project, rival: Rival) -> Bundle:
    from rayline.registry.bundle import Bundle

    version = project.store.version(project.config.name, str(rival.number))
    return Bundle.load(project.store.fetch(version, project.storage / "served"))


def _notes(bundle: Bundle, other: Bundle, rival: Rival) -> tuple[str, ...]:
    """Tell where the comparison is not quite fair: the champion may have seen these rows."""
    ours, theirs = (each.lineage.get("parts", {}).get("test", {}).get("digest") for each in (bundle, other))
    if ours == theirs:
        return ()
    return (
        f"champion v{rival.number} was measured on another test part, and may have been trained on some of these rows",
    )


def notices(judgement: Judgement) -> Iterator[Notice]:
    """Give what a person should know of a judgement beside its verdict."""
    for note in judgement.notes:
        yield Notice(note)
    for each in judgement.undecided[:MOST_TOLD]:
        yield Notice(f"not decided: {each.told('this version')}")
    more = len(judgement.undecided) - MOST_TOLD
    if more > 0:
        yield Notice(f"and {more} more gates were not decided; gates.json of the run has them all")


def record(store: Store, version: Version, judgement: Judgement) -> None:
    """Keep with a version how it was judged."""
    told = [each.told(f"version {version.number}") for each in (*judgement.refusals, *judgement.undecided)]
    if judgement.baseline is None:
        told.append("no baseline: there was no champion to compare with")
    store.tag_version(
        version.name,
        version.number,
        {
            TAG: "yes" if judgement.blessed else "no",
            REASONS: _cut("\n".join(told) or "every gate passed"),
            AGAINST: "" if judgement.baseline is None else str(judgement.baseline),
        },
    )


def refuse(name: str, number: int, judgement: Judgement) -> None:
    """Raise ``GateRefused`` where a registered version is not blessed: each gate that said no, and the way out."""
    if judgement.blessed:
        return
    told = "".join(f"\n  {each.told(f'version {number}')}" for each in judgement.refusals)
    verb = f"deploy {name}@{number}" if judgement.baseline is None else f"rollout start {name} --version {number}"
    raise GateRefused(
        f"version {number} of '{name}' is registered and not blessed, so it gets no traffic:{told}\n"
        "Train a better one and run again; or let it pass in your own name, which is kept with the version: "
        f'`rayline {verb} --force "WHY"`.'
    )


def allow(project: Project, number: int, force: str | None) -> str:
    """Refuse live traffic to a version that is not blessed.

    Args:
        project: whose version.
        number: which one.
        force: why a person lets it pass all the same; kept with the version, with the person's name and the time.

    Returns:
        Who let it pass and why, for the rollout's history; empty where nobody had to.

    Raises:
        GateRefused: its gates said no, and there is no ``force``.
        UsageError: ``force`` gives no reason.
    """
    name = project.config.name
    version = project.store.version(name, str(number))
    state = version.tags.get(TAG)
    if force is not None and not force.strip():
        raise UsageError('--force needs a reason, which is kept with the version: --force "the label was corrected".')
    if state is None:
        project.listener(Notice(f"version {number} was registered before versions were judged: no gate was asked"))
        return ""
    if state == "yes":
        return ""
    tags = version.tags
    if state == "no":
        if force is None:
            raise GateRefused(
                f"version {number} of '{name}' is not blessed:\n{_indented(tags.get(REASONS, 'its gates said no'))}\n"
                "Train a better one and run again; or let it pass in your own name, which is kept with the version: "
                'add --force "WHY".'
            )
        tags = {**tags, **_force(project.store, version, force)}
    words = f"let past its gates by {tags.get(FORCED_BY)}: {tags.get(FORCED_REASON)}"
    project.listener(Notice(f"version {number} was {words}"))
    return words


def _force(store: Store, version: Version, reason: str) -> dict[str, str]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    tags = {TAG: "forced", FORCED_BY: _user(), FORCED_AT: now, FORCED_REASON: _cut(reason.strip())}
    store.tag_version(version.name, version.number, tags)
    return tags


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "a user without a name"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def as_result(judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as the result of a step."""
    from rayline.evaluation.gates import to_json

    return {"blessed": judgement.blessed, **to_json(judgement)}


def of_result(result: Mapping[str, Any]) -> Judgement:
    """Return the judgement of a step's result."""
    from rayline.evaluation.gates import from_json

    return from_json({key: value for key, value in result.items() if key != "blessed"})
