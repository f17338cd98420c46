"""The in-memory double of the tracking store: the same laws as MLflow's, for tests and dry runs."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import NotFoundError, TrackingRefused
from rayline.registry.fetching import fetched
from rayline.registry.store import (
    DIGEST_TAG,
    Point,
    RunRecord,
    RunStatus,
    UsedData,
    Version,
    check_alias,
    flat,
    selected,
    used_data,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.features.facts import DataFacts
    from rayline.features.schemas.schema import Schema
    from rayline.registry.bundle import Bundle


@dataclass
class _Run:
    experiment: str
    name: str
    parent: str | None
    tags: dict[str, str]
    status: RunStatus = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    datasets: dict[str, UsedData] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class MemoryStore:
    """Keeps everything in this process. Meets ``Store``."""

    _runs: dict[str, _Run] = field(default_factory=dict)
    _versions: dict[str, list[Version]] = field(default_factory=dict)
    _contents: dict[tuple[str, int], dict[str, bytes]] = field(default_factory=dict)

    def start_run(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        parent: str | None = None,
        at_ms: int | None = None,
    ) -> str:
        """Open a run."""
        if parent is not None:
            self._run(parent)
        run_id = uuid.uuid4().hex
        self._runs[run_id] = _Run(experiment, name, parent, dict(tags))
        return run_id

    def find_runs(self, experiment: str, tags: Mapping[str, str]) -> tuple[str, ...]:
        """Return the runs that have all the tags."""
        return tuple(
            run_id
            for run_id, run in self._runs.items()
            if run.experiment == experiment and tags.items() <= run.tags.items()
        )

    def experiments(self) -> tuple[str, ...]:
        """Return the names of all experiments."""
        return tuple(sorted({run.experiment for run in self._runs.values()}))

    def delete_run(self, run_id: str) -> None:
        """Take a run out."""
        self._run(run_id)
        del self._runs[run_id]

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Keep points, parameters and tags."""
        self.log_params(run_id, params)
        self.log_metrics(run_id, points)
        self.set_tags(run_id, tags)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Keep parameters."""
        run, texts = self._run(run_id), flat(params)
        for key, text in texts.items():
            if run.params.get(key, text) != text:
                raise TrackingRefused(
                    f"run '{run_id}': parameter '{key}' is {run.params[key]!r}, and stays so: {text!r}."
                )
        run.params |= texts

    def log_metrics(self, run_id: str, metrics: Sequence[Point]) -> None:
        """Keep points, equal ones once."""
        self._run(run_id).points |= {repr(each): each for each in metrics}  # NaN is not equal to itself

    def log_datasets(self, run_id: str, facts: DataFacts, schema: Schema) -> None:
        """Keep which data a run used."""
        self._run(run_id).datasets |= used_data(facts)

    def log_files(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """Keep the files of a folder."""
        run = self._run(run_id)
        for path in folder.rglob("*"):
            if path.is_file():
                run.files[f"{artifact_path}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text."""
        self._run(run_id).files[path] = text.encode()

    def log_file(self, run_id: str, file: Path, path: str) -> None:
        """Keep a file."""
        self._run(run_id).files[path] = file.read_bytes()

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        """Keep a figure."""
        image = io.BytesIO()
        figure.savefig(image, format=Path(path).suffix.lstrip("."))
        self._run(run_id).files[path] = image.getvalue()

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self._run(run_id).tags |= tags

    def finish_run(self, run_id: str, status: RunStatus = "FINISHED", at_ms: int | None = None) -> None:
        """Close a run, or open it again."""
        self._run(run_id).status = status

    def run(self, run_id: str) -> RunRecord:
        """Return what a run holds."""
        run = self._run(run_id)
        last = sorted(run.points.values(), key=lambda point: (point.step, point.at_ms, point.value))
        metrics = {point.name: point.value for point in last}
        return RunRecord(
            run_id=run_id,
            experiment=run.experiment,
            name=run.name,
            status=run.status,
            parent=run.parent,
            params=dict(run.params),
            metrics=metrics,
            tags=dict(run.tags),
            datasets=dict(run.datasets),
            files=tuple(sorted(run.files)),
        )

    def history(self, run_id: str, metric: str) -> tuple[tuple[int, float], ...]:
        """Return every (step, value) of a metric."""
        return tuple(
            sorted((each.step, each.value) for each in self._run(run_id).points.values() if each.name == metric)
        )

    def children(self, run_id: str) -> tuple[str, ...]:
        """Return the runs nested below a run."""
        self._run(run_id)
        return tuple(key for key, run in self._runs.items() if run.parent == run_id)

    def register(self, bundle: Bundle, run_id: str) -> Version:
        """Give a bundle the next version number."""
        self._run(run_id)
        versions = self._versions.setdefault(bundle.name, [])
        for version in versions:
            if version.digest == bundle.digest and version.run_id == run_id:
                return version
        number = len(versions) + 1
        uri = f"models:/{bundle.name}/{number}"
        tags = {DIGEST_TAG: bundle.digest}
        versions.append(Version(bundle.name, number, run_id, uri, (), tags, time.time()))
        self._contents[bundle.name, number] = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
        return versions[-1]

    def models(self) -> tuple[str, ...]:
        """Return the names of all models."""
        return tuple(sorted(self._versions))

    def version(self, name: str, selector: str | None = None) -> Version:
        """Return the version that ``selector`` means."""
        return selected(name, selector, self.versions(name), self.models())

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return all versions of a model."""
        return tuple(self._versions.get(name, ()))

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        check_alias(alias)
        self.version(name, str(number))
        self._versions[name] = [
            replace(
                each, aliases=_with(each.aliases, alias) if each.number == number else _without(each.aliases, alias)
            )
            for each in self._versions[name]
        ]

    def drop_alias(self, name: str, alias: str) -> None:
        """Point an alias at no version."""
        check_alias(alias)
        self.version(name)
        self._versions[name] = [replace(each, aliases=_without(each.aliases, alias)) for each in self._versions[name]]

    def tag_version(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        self.version(name, str(number))
        self._versions[name] = [
            replace(each, tags={**each.tags, **tags}) if each.number == number else each
            for each in self._versions[name]
        ]

    def fetch_files(self, run_id: str, artifact_path: str, into: Path) -> Path:
        """Return a folder with the files of a run."""
        prefix = f"{artifact_path}/"
        found = {name: data for name, data in self._run(run_id).files.items() if name.startswith(prefix)}
        if not found:
            raise NotFoundError(f"run '{run_id}' has no files in '{artifact_path}'.")
        for name, data in found.items():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(data)
        return into / artifact_path

    def fetch(self, version: Version, into: Path) -> Path:
        """Return a directory with the version's bundle."""
        content = self._contents.get((version.name, version.number))
        if content is None:
            raise NotFoundError(f"model '{version.name}' has no version {version.number} in this store.")

        def download(folder: Path) -> Path:
            bundle = folder / "bundle"
            bundle.mkdir()
            for name, data in content.items():
                (bundle / name).write_bytes(data)
            return bundle

        return fetched(version, into, download)

    def _run(self, run_id: str) -> _Run:
        if run_id not in self._runs:
            raise NotFoundError(f"run '{run_id}' does not exist in this store.")
        return self._runs[run_id]


def _with(aliases: tuple[str, ...], alias: str) -> tuple[str, ...]:
    return tuple(sorted({*aliases, alias}))


def _without(aliases: tuple[str, ...], alias: str) -> tuple[str, ...]:
    return tuple(each for each in aliases if each != alias)
