"""The door to MLflow: runs, models and versions, on an embedded SQLite database or on a server."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import ConfigError, NotFoundError
from rayline.registry.fetching import fetched
from rayline.registry.mlflow_door import MlflowDoor
from rayline.registry.mlflow_values import (
    CONTEXT_TAG,
    PARENT_TAG,
    batches,
    dataset_inputs,
    files_of,
    pages,
    refuse_relative,
    tag_filter,
    used_dataset,
    version_of,
)
from rayline.registry.store import DIGEST_TAG, Point, RunRecord, RunStatus, Version, check_alias, flat, selected
from rayline.storage import folder_of, is_object_store, uri_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.features.facts import DataFacts
    from rayline.features.schemas.schema import Schema
    from rayline.registry.bundle import Bundle

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"


class MlflowStore(MlflowDoor):
    """Meets ``Store``."""

    @classmethod
    def open(cls, tracking_uri: str | None, storage: str | Path) -> MlflowStore:
        """Return a connected store: that of ``at``. Raises ``ConfigError`` and ``TrackingError``."""
        store = cls.at(tracking_uri, storage)
        store.connect()
        return store

    @classmethod
    def at(cls, tracking_uri: str | None, storage: str | Path) -> MlflowStore:
        """Return a store that connects at its first use.

        Args:
            tracking_uri: MLflow's server or database; None is SQLite in the ``storage`` folder.
            storage: absolute path or URI of the state folder.

        Raises:
            ConfigError: the URI depends on the current folder, or SQLite was asked for on an object store.
        """
        location, remote = str(storage), is_object_store(storage)
        if tracking_uri is None:
            if remote:
                raise ConfigError(
                    f"storage '{uri_of(folder_of(location))}' cannot hold MLflow's "
                    "SQLite database. Set registry.tracking_uri to a server (http://HOST:PORT), or "
                    "MLFLOW_TRACKING_URI in the environment; "
                    "`mlflow server --backend-store-uri postgresql://... --artifacts-destination s3://...` is one."
                )
            tracking_uri = f"sqlite:///{Path(location).absolute() / DATABASE}"
        refuse_relative(tracking_uri)
        root = (
            f"{uri_of(folder_of(location))}/{ARTIFACTS}" if remote else (Path(location).absolute() / ARTIFACTS).as_uri()
        )
        return cls(tracking_uri, None if tracking_uri.startswith("http") else root)

    def start_run(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        parent: str | None = None,
        at_ms: int | None = None,
    ) -> str:
        """Open a run."""
        with self._door(f"start run '{name}'", missing=f"parent run '{parent}'") as client:
            if parent is not None:
                if parent not in self._opened:
                    client.get_run(parent)
                tags = {**tags, PARENT_TAG: parent}
            run = client.create_run(
                self._experiment(client, experiment), start_time=at_ms, run_name=name, tags=dict(tags)
            )
            run_id = str(run.info.run_id)
            self._opened.add(run_id)
            return run_id

    def find_runs(self, experiment: str, tags: Mapping[str, str]) -> tuple[str, ...]:
        """Return the runs that have all the tags."""
        with self._door(f"search experiment '{experiment}'") as client:
            home = client.get_experiment_by_name(experiment)
            if home is None:
                return ()
            query = " and ".join(tag_filter(key, value) for key, value in tags.items())
            order = ["attributes.start_time ASC"]
            found = pages(client.search_runs, experiment_ids=[home.experiment_id], filter_string=query, order_by=order)
            return tuple(run.info.run_id for run in found)

    def experiments(self) -> tuple[str, ...]:
        """Return the names of all experiments."""
        with self._door("list the experiments") as client:
            return tuple(sorted(each.name for each in pages(client.search_experiments)))

    def delete_run(self, run_id: str) -> None:
        """Take a run out of the experiment; MLflow keeps it among its deleted ones."""
        with self._door("delete a run", missing=f"run '{run_id}'") as client:
            client.delete_run(run_id)

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Keep points, parameters and tags."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(name, float(value), at_ms, step) for name, value, step, at_ms in points]
        texts = [Param(key, value) for key, value in flat(params).items()]
        marks = [RunTag(key, value) for key, value in tags.items()]
        with self._door("log to a run", missing=f"run '{run_id}'") as client:
            for some in batches(metrics, texts, marks):
                client.log_batch(run_id, *some)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Keep parameters."""
        self.log_batch(run_id, (), params, {})

    def log_metrics(self, run_id: str, metrics: Sequence[Point]) -> None:
        """Keep points."""
        self.log_batch(run_id, metrics, {}, {})

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self.log_batch(run_id, (), {}, tags)

    def log_datasets(self, run_id: str, facts: DataFacts, schema: Schema) -> None:
        """Keep which data a run used."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(Dataset(**values), [InputTag(CONTEXT_TAG, context)])
            for context, values in dataset_inputs(facts, schema)
        ]
        with self._door("log the data sets", missing=f"run '{run_id}'") as client:
            client.log_inputs(run_id, inputs)

    def log_files(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """Keep the files of a folder."""
        with self._door(f"log files of '{folder}'", missing=f"run '{run_id}'") as client:
            client.log_artifacts(run_id, str(folder), artifact_path)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text."""
        with self._door(f"log '{path}'", missing=f"run '{run_id}'") as client:
            client.log_text(run_id, text, path)

    def log_file(self, run_id: str, file: Path, path: str) -> None:
        """Keep a file."""
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            named = Path(temporary) / name  # MLflow gives an artifact the name of its file
            os.symlink(file.resolve(strict=True), named)
            with self._door(f"log '{path}'", missing=f"run '{run_id}'") as client:
                client.log_artifact(run_id, str(named), folder or None)

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        """Keep a figure."""
        with tempfile.TemporaryDirectory() as temporary:
            image = Path(temporary) / Path(path).name
            figure.savefig(image)
            self.log_file(run_id, image, path)

    def finish_run(self, run_id: str, status: RunStatus = "FINISHED", at_ms: int | None = None) -> None:
        """Close a run, or open it again."""
        with self._door("finish a run", missing=f"run '{run_id}'") as client:
            if status == "RUNNING":
                client.update_run(run_id, status)
            else:
                client.set_terminated(run_id, status, at_ms)

    def run(self, run_id: str) -> RunRecord:
        """Return what a run holds."""
        with self._door("read a run", missing=f"run '{run_id}'") as client:
            run = client.get_run(run_id)
            experiment = client.get_experiment(run.info.experiment_id).name
            files = tuple(sorted(files_of(client, run_id, None)))
        own = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
        return RunRecord(
            run_id=run_id,
            experiment=experiment,
            name=run.info.run_name,
            status=run.info.status,
            parent=run.data.tags.get(PARENT_TAG),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags=own,
            datasets=dict(used_dataset(each) for each in run.inputs.dataset_inputs),
            files=files,
        )

    def history(self, run_id: str, metric: str) -> tuple[tuple[int, float], ...]:
        """Return every (step, value) of a metric."""
        with self._door("read a metric", missing=f"run '{run_id}'") as client:
            client.get_run(run_id)
            return tuple(sorted((each.step, each.value) for each in client.get_metric_history(run_id, metric)))

    def children(self, run_id: str) -> tuple[str, ...]:
        """Return the runs nested below a run."""
        with self._door("read nested runs", missing=f"run '{run_id}'") as client:
            experiment = client.get_run(run_id).info.experiment_id
            found = pages(
                client.search_runs,
                experiment_ids=[experiment],
                filter_string=f"tags.`{PARENT_TAG}` = '{run_id}'",
                order_by=["attributes.start_time ASC"],
            )
            return tuple(run.info.run_id for run in found)

    def register(self, bundle: Bundle, run_id: str) -> Version:
        """Log a bundle as a model of its run and give it the next version number."""
        for version in self.versions(bundle.name):
            if version.digest == bundle.digest and version.run_id == run_id:
                return version
        with self._door(f"register '{bundle.name}'", missing=f"run '{run_id}'") as client:
            from mlflow.exceptions import MlflowException

            from rayline.registry.pyfunc import log

            logged = log(client, bundle, run_id)
            try:
                client.create_registered_model(bundle.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # A database resolves models:/ID in MLflow's global store, which may be another one: the place itself it is.
            by_id = self.tracking_uri.startswith("http")
            made = client.create_model_version(
                bundle.name,
                source=f"models:/{logged.model_id}" if by_id else logged.artifact_location,
                run_id=run_id,
                tags={DIGEST_TAG: bundle.digest},
                model_id=logged.model_id,
            )
            link = json.dumps([{"name": bundle.name, "version": str(made.version)}])
            client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
            return version_of(made)

    def models(self) -> tuple[str, ...]:
        """Return the names of all models."""
        with self._door("list the models") as client:
            return tuple(sorted(model.name for model in pages(client.search_registered_models)))

    def version(self, name: str, selector: str | None = None) -> Version:
        """Return the version that ``selector`` means."""
        versions = self.versions(name)
        return selected(name, selector, versions, () if versions else self.models())

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return all versions of a model."""
        with self._door(f"list the versions of '{name}'") as client:
            found = pages(client.search_model_versions, filter_string=f"name = '{name.replace(chr(39), '')}'")
            if not found:
                return ()
            # The search leaves out the aliases; the model itself has them all.
            aliases = client.get_registered_model(name).aliases
        pointing: dict[int, list[str]] = {}
        for alias, number in aliases.items():
            pointing.setdefault(int(number), []).append(alias)
        versions = [version_of(each, pointing.get(int(each.version), ())) for each in found]
        return tuple(sorted((each for each in versions if DIGEST_TAG in each.tags), key=lambda each: each.number))

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        check_alias(alias)
        self.version(name, str(number))
        with self._door(f"set alias '{alias}'", missing=f"version {number} of '{name}'") as client:
            client.set_registered_model_alias(name, alias, str(number))

    def drop_alias(self, name: str, alias: str) -> None:
        """Point an alias at no version."""
        check_alias(alias)
        self.version(name)
        with self._door(f"drop alias '{alias}'", missing=f"model '{name}'") as client:
            client.delete_registered_model_alias(name, alias)

    def tag_version(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        self.version(name, str(number))
        with self._door("tag a version", missing=f"version {number} of '{name}'") as client:
            for key, value in tags.items():
                client.set_model_version_tag(name, str(number), key, value)

    def fetch_files(self, run_id: str, artifact_path: str, into: Path) -> Path:
        """Return a folder with the files of a run."""
        missing = f"'{artifact_path}' of run '{run_id}'"
        into.mkdir(parents=True, exist_ok=True)
        with self._door(f"fetch {missing}", missing=missing) as client:
            if not client.list_artifacts(run_id, artifact_path):
                raise NotFoundError(f"run '{run_id}' has no files in '{artifact_path}'.")
            return Path(client.download_artifacts(run_id, artifact_path, str(into)))

    def fetch(self, version: Version, into: Path) -> Path:
        """Return a directory with the version's bundle."""

        def download(folder: Path) -> Path:
            from mlflow.artifacts import download_artifacts

            from rayline.registry.pyfunc import DATA

            missing = f"version {version.number} of '{version.name}'"
            with self._door(f"fetch {missing}", missing=missing) as client:
                source = client.get_model_version_download_uri(version.name, str(version.number))
                return Path(
                    download_artifacts(
                        artifact_uri=f"{source}/{DATA}", dst_path=str(folder), tracking_uri=self._client_uri
                    )
                )

        return fetched(version, into, download)
