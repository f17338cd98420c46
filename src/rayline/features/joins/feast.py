"""The door to Feast: what the registry of a repository declares, the rows of a source, and its online store. Read only.

Feast's own words: a view has entities, whose join keys are our keys; a source has a timestamp field, which is our time,
and may have a created timestamp, which tells the newer of two rows of one time. Its times without a zone are in UTC.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rayline.errors import ConfigError, DataError, EnvironmentFailed, NotFoundError, RaylineError, suggestion

if TYPE_CHECKING:
    import pyarrow as pa

SETTINGS = "feature_store.yaml"
KeyKind = Literal["number", "text", "other"]
_KINDS: dict[str, KeyKind] = {"INT32": "number", "INT64": "number", "STRING": "text"}
_EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class View:
    """A feature view as the registry has it, as plain values.

    Attributes:
        name: of the view, and ``alias``: what a feature service calls it.
        keys: the join keys of its entities, and ``called``: what each is called in the data.
        kinds: what Feast keeps of each key.
        features: their names, each with the source's column.
        time, created: columns of the source; ``created`` None where it has none.
        ttl: microseconds; a row that is older is not used, one as old is. None means for ever.
        file: path or URI of the Parquet files that the source is; None where only Feast can read it.
        online: Feast keeps its latest rows online.
    """

    name: str
    alias: str
    keys: tuple[str, ...]
    called: tuple[str, ...]
    kinds: tuple[KeyKind, ...]
    features: Mapping[str, str]
    time: str
    created: str | None
    ttl: int | None
    file: str | None = field(repr=False)
    online: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What Feast's online store has of one key: event time in microseconds since 1970-01-01 UTC, and values."""

    time: int
    values: Mapping[str, Any]


class Repository:
    """A Feast repository."""

    def __init__(self, folder: str | Path) -> None:
        """Open the repository in a folder; its registry is read anew.

        Raises:
            EnvironmentFailed: Feast is not installed, or it cannot reach its registry.
            NotFoundError: there is no repository in that folder.
            ConfigError: Feast refuses its settings.
        """
        self._folder = Path(folder)
        if not (self._folder / SETTINGS).is_file():
            raise NotFoundError(
                f"there is no Feast repository in '{folder}': it has no {SETTINGS}. {self._near()}".strip()
            )
        feast = _feast()
        with _door(f"the Feast repository '{folder}'"):
            self._store: Any = feast.FeatureStore(repo_path=str(self._folder))

    def views(self, name: str) -> tuple[View, ...]:
        """Return the feature view of a name or, where there is none, the views that a feature service takes from.

        Args:
            name: ``VIEW``, ``SERVICE``, or ``SERVICE/VIEW`` for one of a service's, by its alias if it has one.

        Raises:
            NotFoundError: neither has this name; it says the nearest.
            ConfigError: a view cannot be joined: it has no entity or no source, or is computed on demand.
        """
        with _door(f"the registry of the Feast repository '{self._folder}'"):
            views = {view.name: view for view in self._store.list_all_feature_views()}
            services = {service.name: service for service in self._store.list_feature_services()}
        if name in views:
            return (self._view(views[name], views[name].projection),)
        if not views:
            raise NotFoundError(
                f"the Feast repository '{self._folder}' has no feature view. "
                f"`feast -c {self._folder} apply` registers what it declares."
            )
        service, _, alias = name.partition("/")
        if service not in services:
            near = suggestion(name, [*views, *services])
            raise NotFoundError(
                f"the Feast repository '{self._folder}' has no feature view and no feature service '{name}'. {near}"
            )
        projections = {each.name_alias or each.name: each for each in services[service].feature_view_projections}
        if alias and alias not in projections:
            near = suggestion(alias, projections)
            raise NotFoundError(f"Feast's feature service '{service}' takes nothing from a view '{alias}'. {near}")
        chosen = [projections[alias]] if alias else projections.values()
        return tuple(self._view(views[each.name], each) for each in chosen)

    def rows(self, view: View) -> pa.Table:
        """Return all rows of a view's source, keys, times and features under the source's names, by Feast's own reader.

        Raises:
            EnvironmentFailed: Feast cannot read it.
        """
        with _door(f"the source of Feast's feature view '{view.name}'"):
            source = self._store.get_feature_view(view.name).batch_source
            job = self._store.provider.offline_store.pull_all_from_table_or_query(
                config=self._store.config,
                data_source=source,
                join_key_columns=list(view.keys),
                feature_name_columns=list(view.features.values()),
                timestamp_field=view.time,
                created_timestamp_column=view.created,
                start_date=_EVER[0],
                end_date=_EVER[1],
            )
            return job.to_arrow()

    def latest(self, view: View, keys: Mapping[str, Sequence[Any]]) -> list[Answer | None]:
        """Return what Feast's online store has of some keys, in one call; None where it has nothing.

        Args:
            view: the feature view.
            keys: the values of each join key, equally many, of the type that Feast keeps, none of them missing.

        Raises:
            EnvironmentFailed: the store cannot be reached, or has no such table.
        """
        with _door(f"Feast's online store of '{view.name}'"):
            response = self._store.get_online_features(
                features=[f"{view.name}:{feature}" for feature in view.features],
                entity_rows={name: list(values) for name, values in keys.items()},
            )
            values = response.to_dict()
            names = list(response.proto.metadata.feature_names.val)
            times = [
                each.ToMicroseconds()
                for each in response.proto.results[names.index(next(iter(view.features)))].event_timestamps
            ]
        return [
            Answer(time, {feature: values[feature][place] for feature in view.features}) if time else None
            for place, time in enumerate(times)
        ]

    def _view(self, view: Any, projection: Any) -> View:
        source = getattr(view, "batch_source", None)
        what = f"Feast's feature view '{view.name}'"
        if source is None:
            raise ConfigError(f"{what} has no batch source to join from: it is computed on demand, or only pushed to.")
        if (version := getattr(projection, "version_tag", None)) is not None:
            raise ConfigError(f"{what} is asked for in version {version}; only the latest can be joined.")
        entities = [field for field in view.entity_columns if field.name != "__dummy_id"]
        if not entities:
            raise ConfigError(f"{what} has no entity, so there is no key to join it by.")
        names = [field.name for field in entities]
        column_of = {feature: column for column, feature in (source.field_mapping or {}).items()}
        return View(
            name=view.name,
            alias=projection.name_alias or view.name,
            keys=tuple(names),
            called=tuple((projection.join_key_map or {}).get(name, name) for name in names),
            kinds=tuple(_KINDS.get(getattr(field.dtype, "name", ""), "other") for field in entities),
            features={field.name: column_of.get(field.name, field.name) for field in projection.features},
            time=source.timestamp_field,
            created=source.created_timestamp_column or None,
            ttl=round(view.ttl / timedelta(microseconds=1)) or None if view.ttl else None,
            file=self._file(source),
            online=bool(view.online),
        )

    def _file(self, source: Any) -> str | None:
        """Return where a source's Parquet files are, None where Feast alone can read it."""
        feast = _feast()
        if (
            not isinstance(source, feast.FileSource)
            or source.s3_endpoint_override
            or getattr(source, "connection_ref", None)
        ):
            return None
        if source.file_format is not None and type(source.file_format).__name__ != "ParquetFormat":
            return None
        path: str = source.get_uri_for_file_path(self._folder, source.path)
        return path

    def _near(self) -> str:
        parent = self._folder.parent
        names = [each.parent.name for each in parent.glob(f"*/{SETTINGS}")] if parent.is_dir() else []
        return suggestion(self._folder.name, names) if names else ""


def _feast() -> Any:
    os.environ.setdefault("FEAST_USAGE", "False")
    try:
        import feast.errors
        import feast.repo_config
    except ImportError as error:
        raise EnvironmentFailed(
            f"a join from Feast needs its package, which cannot be imported ({error}): `pip install 'rayline[feast]'`."
        ) from error
    return feast


@contextmanager
def _door(what: str) -> Iterator[None]:
    """Map what Feast and the databases behind it raise."""
    feast = _feast()
    try:
        yield
    except RaylineError:
        raise
    except feast.repo_config.FeastConfigError as error:
        raise ConfigError(f"{what}: its {SETTINGS} is wrong: {error}") from error
    except feast.errors.DataSourceNotFoundException as error:
        raise DataError(f"{what} cannot be read: {error}") from error
    except Exception as error:  # a database of the user's choice raises what it will
        reason = str(error).strip().splitlines()
        raise EnvironmentFailed(f"{what} cannot be used: {reason[0] if reason else type(error).__name__}.") from error
