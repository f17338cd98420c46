"""The seam to the tracking store and the model registry: what is kept, in plain values."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from rayline.errors import NotFoundError, UsageError, suggestion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.features.facts import DataFacts
    from rayline.features.schemas.schema import Schema
    from rayline.registry.bundle import Bundle

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Alias = Literal["champion", "challenger"]
ALIASES: tuple[Alias, ...] = ("champion", "challenger")
DIGEST_TAG = "rayline.digest"
CONTEXTS: Mapping[str, str] = {"training": "train", "validation": "valid", "evaluation": "test"}
"""The part of the data that a run uses in each of MLflow's contexts."""
PARAM_LENGTH = 6000  # MLflow refuses longer values


class Point(NamedTuple):
    """One value of a metric: its name, the value, the step, and when it was measured, in Unix milliseconds.

    The store keeps equal points once, so a point that is sent again must be sent with the time that it had at first.
    """

    name: str
    value: float
    step: int
    at_ms: int


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Version:
    """A registered bundle: immutable, but for its aliases and tags.

    Attributes:
        number: MLflow's version number, from 1.
        run_id: the run that made it.
        uri: what MLflow's own tools load it by, ``models:/NAME/NUMBER``.
        created: Unix time in seconds.
    """

    name: str
    number: int
    run_id: str
    uri: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created: float

    @property
    def digest(self) -> str:
        """The digest of its bundle."""
        return self.tags[DIGEST_TAG]


@dataclass(frozen=True, slots=True)
class UsedData:
    """The data that a run used in one context: 32 hex digits over the rows' content, and how many rows."""

    digest: str
    rows: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run holds.

    Attributes:
        parent: the run it is nested below, or None.
        metrics: the last value of each.
        datasets: what it used, by context.
        files: paths of the artifacts, below the run's root, sorted.
    """

    run_id: str
    experiment: str
    name: str
    status: RunStatus
    parent: str | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    datasets: Mapping[str, UsedData]
    files: tuple[str, ...]


class RunWrites(Protocol):
    """What may be written to a run. Every write may be sent again: it leaves the same result as once.

    A ``Store`` writes at once; a ``Spool`` keeps what is to be written on disk and delivers it.
    """

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Keep parameters; nested mappings become dotted names. One that has another value already is refused."""
        ...

    def log_metrics(self, run_id: str, metrics: Sequence[Point]) -> None:
        """Keep points; equal ones are kept once."""
        ...

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags of a run."""
        ...

    def log_datasets(self, run_id: str, facts: DataFacts, schema: Schema) -> None:
        """Keep which data a run used: the digest, rows and schema of each part, in its context of ``CONTEXTS``.

        Facts without parts are kept as a whole, for ``training``.
        """
        ...

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text as the artifact ``path``."""
        ...

    def log_file(self, run_id: str, file: Path, path: str) -> None:
        """Keep a file as the artifact ``path``."""
        ...

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        """Keep a figure as the artifact ``path``, whose ending gives its format."""
        ...

    def finish_run(self, run_id: str, status: RunStatus = "FINISHED", at_ms: int | None = None) -> None:
        """Close a run, now or at the time given. Closing it again sets the new status; ``RUNNING`` opens it again."""
        ...


class Store(RunWrites, Protocol):
    """Runs and registered versions.

    Every method raises ``TrackingError`` where the store cannot be reached or refuses (``TrackingRefused`` where it
    will never take what it was given), and ``NotFoundError`` for a run, model, version or alias that does not exist.
    All of them may be called from several threads and processes.
    """

    def start_run(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        parent: str | None = None,
        at_ms: int | None = None,
    ) -> str:
        """Open a run, nested below ``parent`` where that is given, and return its id. Makes the experiment.

        Called twice it opens two runs; ``find_runs`` tells whether the first call came through.
        """
        ...

    def find_runs(self, experiment: str, tags: Mapping[str, str]) -> tuple[str, ...]:
        """Return the ids of an experiment's runs that have all the tags, oldest first."""
        ...

    def experiments(self) -> tuple[str, ...]:
        """Return the names of all experiments, sorted."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Take a run out of the experiment."""
        ...

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Keep points, parameters and tags, in as few calls as the store allows."""
        ...

    def log_files(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """Keep the files of a folder below ``artifact_path``."""
        ...

    def run(self, run_id: str) -> RunRecord:
        """Return what a run holds."""
        ...

    def history(self, run_id: str, metric: str) -> tuple[tuple[int, float], ...]:
        """Return every (step, value) of a metric, by step; empty where it was never logged."""
        ...

    def children(self, run_id: str) -> tuple[str, ...]:
        """Return the ids of the runs nested below a run, oldest first."""
        ...

    def register(self, bundle: Bundle, run_id: str) -> Version:
        """Log a bundle as a model of its run and give it the next version number.

        The same bundle from the same run keeps the version that it has: a resumed flow registers once.
        """
        ...

    def models(self) -> tuple[str, ...]:
        """Return the names of all registered models, sorted."""
        ...

    def version(self, name: str, selector: str | None = None) -> Version:
        """Return the version of ``3`` or ``@champion``; None means the champion, else the latest."""
        ...

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return all versions of a model by number; empty where there is no such model."""
        ...

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point ``champion`` or ``challenger`` at a version, away from any other.

        Raises ``UsageError`` for another alias.
        """
        ...

    def drop_alias(self, name: str, alias: str) -> None:
        """Point the alias at no version; nothing happens where it points at none."""
        ...

    def tag_version(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set or replace tags of a version."""
        ...

    def fetch_files(self, run_id: str, artifact_path: str, into: Path) -> Path:
        """Return a folder below ``into`` with the files that ``log_files`` kept; earlier ones there are replaced.

        Raises ``NotFoundError`` where the run has none there.
        """
        ...

    def fetch(self, version: Version, into: Path) -> Path:
        """Return a directory below ``into`` with the version's bundle; fetched and checked once, then kept.

        Raises ``BundleError`` where what the store holds is not what was registered.
        """
        ...


def used_data(facts: DataFacts) -> dict[str, UsedData]:
    """Return the digest and rows of each part, by context; of the whole, for training, where there are no parts."""
    if not facts.parts:
        return {"training": UsedData(facts.digest, sum(facts.rows.values()))}
    found = ((context, facts.parts[part]) for context, part in CONTEXTS.items() if part in facts.parts)
    return {context: UsedData(part.digest, part.rows) for context, part in found}


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return parameters as texts under dotted names; a value that is no text becomes JSON, cut to what MLflow takes."""
    texts: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            texts |= flat(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            texts[name] = text if len(text) <= PARAM_LENGTH else f"{text[: PARAM_LENGTH - 1]}…"
    return texts


def selected(name: str, selector: str | None, versions: Sequence[Version], models: Iterable[str]) -> Version:
    """Return the version of ``versions`` that ``selector`` means.

    Raises:
        UsageError: the selector is neither a number nor an alias.
        NotFoundError: there is no such model, version or alias.
    """
    if not versions:
        raise NotFoundError(f"model '{name}' has no registered version. {suggestion(name, models)}")
    if selector is None:
        champion = (version for version in versions if "champion" in version.aliases)
        return next(champion, max(versions, key=lambda version: version.number))
    if selector.startswith("@"):
        alias = selector[1:]
        known = sorted({each for version in versions for each in version.aliases})
        for version in versions:
            if alias in version.aliases:
                return version
        raise NotFoundError(f"model '{name}' has no alias '{alias}'. {suggestion(alias, known)}")
    if not re.fullmatch(r"[0-9]+", selector):
        raise UsageError(f"version {selector!r} of model '{name}' must be a number, as in {name}@3, or an alias.")
    number = int(selector)
    for version in versions:
        if version.number == number:
            return version
    numbers = ", ".join(str(version.number) for version in versions)
    raise NotFoundError(f"model '{name}' has no version {number}. Its versions: {numbers}.")


def check_alias(alias: str) -> None:
    """Raise ``UsageError`` for anything but ``champion`` and ``challenger``."""
    if alias not in ALIASES:
        raise UsageError(f"alias '{alias}' is unknown. {suggestion(alias, ALIASES)}")
