"""What a version was made of and where it has been: read from MLflow and the storage alone, with no cluster running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from rayline.config import Config, DataConfig
from rayline.errors import NotFoundError, RaylineError
from rayline.project import Project

if TYPE_CHECKING:
    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.bundle import Bundle
    from rayline.registry.store import RunRecord, Store, Version
    from rayline.rollout.state import RolloutState

TAG = "rayline."


@dataclass(frozen=True, slots=True)
class Data:
    """The exact data of a version.

    Attributes:
        source: where it was read from.
        digest: 32 hex digits over the content of all rows, whatever their order.
        rows: rows of each part.
        parts: digest of each part.
        schema: fingerprint of the schema.
        now: what the source is today: ``unchanged``, ``changed since``, ``gone``, or why that cannot be told.
    """

    source: str
    digest: str
    rows: Mapping[str, int]
    parts: Mapping[str, str]
    schema: str
    now: str


@dataclass(frozen=True, slots=True)
class Column:
    """One feature: its kind, the raw columns that it looks at and how many numbers it gives."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: int


@dataclass(frozen=True, slots=True)
class Features:
    """The fitted features: their fingerprint, target, task, columns, and what changed since the version before.

    Attributes:
        since: the number of the version before; None where this is the first.
    """

    fingerprint: str
    target: str
    task: str
    width: int
    columns: tuple[Column, ...]
    since: int | None
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The MLflow run that made it.

    Attributes:
        study: the parent run of a Study; None for a training of its own.
        trial: its number in the Study.
        metrics: of the test part.
        skew: what the skew test said; None where there was none.
    """

    run_id: str
    study: str | None
    trial: int | None
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    skew: str | None


@dataclass(frozen=True, slots=True)
class Passage:
    """One rollout that this version took part in.

    Attributes:
        role: ``canary`` where it was to take over, else ``stable``.
        other: the version on the other side.
        began, ended: Unix time in seconds; ``ended`` is the last decision's.
        highest: the largest share that the canary had, in percent.
    """

    id: str
    kind: str
    role: str
    other: int
    phase: str
    highest: int
    began: float
    ended: float
    message: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """All that is known of one version.

    Attributes:
        digest: SHA-256 of the bundle.
        code: the git commit of the project's folder, with ``-dirty`` where it was changed; None without a repository.
        run: None where MLflow does not have it any more.
        traffic: its rollouts, the latest first.
    """

    name: str
    version: int
    digest: str
    created: float
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    data: Data
    features: Features
    run: Run | None
    code: str | None
    environment: Mapping[str, str]
    traffic: tuple[Passage, ...]


def lineage(config: Config, selector: str | None) -> Lineage:
    """Return what a version was made of, and where it has been.

    Args:
        config: the project.
        selector: a version's number or ``@alias``; None means the champion, else the latest.

    Raises:
        NotFoundError: there is no such version.
        TrackingError: MLflow cannot be reached.
        BundleError: the version's bundle is not the one that was registered.
    """
    project = Project(config)
    store = project.store
    version = store.version(config.name, selector)
    bundle = _fetched(project, version)
    record = _run_of(store, version)
    before = [each for each in store.versions(config.name) if each.number < version.number]
    previous = _fetched(project, before[-1]).features if before else None
    return Lineage(
        name=version.name,
        version=version.number,
        digest=version.digest,
        created=version.created,
        aliases=version.aliases,
        tags=version.tags,
        data=_data(config, bundle.lineage),
        features=_features(bundle, before[-1].number if before else None, previous),
        run=None if record is None else _run(record, bundle.lineage),
        code=bundle.lineage.get("code_commit"),
        environment=_environment(bundle.lineage),
        traffic=_traffic(config, version.number),
    )


def _fetched(project: Project, version: Version) -> Bundle:
    from rayline.registry.bundle import Bundle

    return Bundle.load(project.store.fetch(version, project.storage / "served"))


def _run_of(store: Store, version: Version) -> RunRecord | None:
    try:
        return store.run(version.run_id)
    except NotFoundError:  # deleted in MLflow: the bundle still tells the rest
        return None


def _data(config: Config, made: Mapping[str, Any]) -> Data:
    source, rows = str(made.get("source", "")), made.get("rows", {})
    return Data(
        source=source,
        digest=str(made.get("data_digest", "")),
        rows={part: rows[part] for part in sorted(rows, key=_order)},
        parts={part: each["digest"] for part, each in made.get("parts", {}).items()},
        schema=str(made.get("schema_fingerprint", "")),
        now=source_now(config, source, made.get("source_digest")),
    )


def _order(part: str) -> int:
    from rayline.features.splits.split import PARTS

    return PARTS.index(part) if part in PARTS else len(PARTS)


def source_now(config: Config, source: str, digest: str | None) -> str:
    """Return whether a source still has the content of a digest.

    Args:
        config: how the project reads its data today; kept to where the source is still this one.
        source: where the data was read from.
        digest: what ``input_digest`` said then; None where that was not kept.
    """
    from rayline.features.pipeline import input_digest

    if source.startswith("python:"):
        return "not known: it was handed over from Python"
    if not digest:
        return "not known: this version was made before the source's digest was kept"
    try:
        found = input_digest(config if config.data.label == source else replace(config, data=DataConfig(source=source)))
    except NotFoundError:
        return "gone"
    except RaylineError as error:
        return f"not known: {error}"
    return "unchanged" if found == digest else "changed since"


def _features(bundle: Bundle, since: int | None, previous: FittedFeatureSet | None) -> Features:
    from rayline.features.changes import changes

    fitted = bundle.features
    return Features(
        fingerprint=bundle.manifest.features,
        target=fitted.schema.target,
        task=fitted.task,
        width=fitted.width,
        columns=tuple(Column(each.name, each.kind, each.inputs, len(each.output_names)) for each in fitted.columns),
        since=since,
        changes=() if previous is None else changes(previous, fitted),
    )


def _run(record: RunRecord, made: Mapping[str, Any]) -> Run:
    trial = record.tags.get(f"{TAG}trial")
    return Run(
        run_id=record.run_id,
        study=made.get("study_run_id") or record.parent,
        trial=None if trial is None else int(trial),
        status=record.status,
        params=dict(sorted(record.params.items())),
        metrics={
            name.removeprefix("test_"): value
            for name, value in sorted(record.metrics.items())
            if name.startswith("test_")
        },
        skew=record.tags.get(f"{TAG}skew"),
    )


def _environment(made: Mapping[str, Any]) -> dict[str, str]:
    from rayline.registry.provenance import PACKAGES

    return {name: str(made[name]) for name in ("python", "platform", *PACKAGES) if name in made}


def _traffic(config: Config, number: int) -> tuple[Passage, ...]:
    from rayline.rollout.storage.files import rollout_files

    history = rollout_files(config.storage, config.name).history()
    return tuple(_passage(state, number) for state in history if number in (state.stable, state.canary))


def _passage(state: RolloutState, number: int) -> Passage:
    leads = state.canary == number
    return Passage(
        id=state.id,
        kind=state.kind,
        role="canary" if leads else "stable",
        other=state.stable if leads else state.canary,
        phase=state.phase,
        highest=max((each.weight for each in state.decisions), default=state.weight),
        began=state.began,
        ended=state.updated,
        message=state.message,
    )
