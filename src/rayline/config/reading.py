"""One YAML file becomes one typed, frozen ``Config``.

Unknown keys, wrong types and values out of range raise ``ConfigError`` with the key's full name and,
where a key was mistyped, the nearest valid one. Relative paths are relative to the file.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import Struct

from rayline.config.data import DataConfig
from rayline.config.history import FEAST, JoinConfig, feast_place
from rayline.config.project import Config
from rayline.config.service import AccessConfig
from rayline.config.values import set_values
from rayline.errors import ConfigError, NotFoundError, shown, suggestion

Each = TypeVar("Each", bound=Struct)


class _Loader(yaml.SafeLoader):
    """Leaves dates, and keys, as the texts that were written: quoted or not, ``on`` is a key of a hook and no truth."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """Return what YAML says, dates and keys as they were written. Raises ``yaml.YAMLError``, ``ValueError``."""
    return yaml.load(text, _Loader)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: the YAML file.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Returns:
        The configuration, with ``data.source``, the files of ``data.split``, a SQLite database of ``data.sql``,
        ``validate.schema``, ``storage``, ``home``, the files of ``service.access`` and a file of
        ``registry.tracking_uri`` made absolute (other URIs are left alone).

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is not YAML, or a key or value in it is wrong.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"configuration '{file}' does not exist. `rayline init DATA --target COLUMN` writes one.")
    try:
        raw = read_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, days that no calendar has
        raise ConfigError(f"configuration '{file}' is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"configuration '{file}' must be a mapping of sections, not {type(raw).__name__}.")
    for override in overrides:
        _override(raw, override)
    return _anchored(parse(raw), file.resolve().parent)


def parse(raw: Mapping[str, Any]) -> Config:
    """Return the typed configuration of a mapping, with its paths as they stand. Raises ``ConfigError``."""
    return typed(raw, Config, "configuration")


def typed(raw: Mapping[str, Any], section: type[Each], what: str) -> Each:
    """Return a mapping as a section.

    Args:
        raw: what a YAML file holds.
        section: what it must be.
        what: what the file is called in messages.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed; it names the key and the nearest valid name.
    """
    _refuse_unknown_keys(raw, section, "", what)
    try:
        return msgspec.convert(raw, section)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".") or what
        raise ConfigError(f"{what} key '{key}': {reason[:1].lower()}{reason[1:]}.") from error


def plain(section: Struct) -> dict[str, Any]:
    """Return a section as the values that JSON has: what is logged, hashed and written."""
    value: dict[str, Any] = _lists(msgspec.to_builtins(section))
    return value


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(each) for key, each in value.items()}
    return [_lists(each) for each in value] if isinstance(value, list | tuple) else value


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with dotted keys replaced: what a trial of a Study runs. Raises ``ConfigError``."""
    raw = plain(config)
    set_values(raw, values)
    return parse(raw)


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}' must read section.key=value, for instance train.epochs=5.")
    try:
        value = read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or error
        raise ConfigError(
            f"override '{override}': its value is not valid YAML: {reason}. Quote it or close it."
        ) from error
    set_values(raw, {key: value})


def _refuse_unknown_keys(raw: object, kind: Any, place: str, what: str) -> None:
    """Walk the mapping beside its type, so that an unknown key or word can be told with the nearest valid one."""
    kinds = _alternatives(kind)
    if isinstance(raw, Mapping):
        structs = [each for each in kinds if isinstance(each, type) and issubclass(each, Struct)]
        mapping = next((each for each in kinds if get_origin(each) is dict), None)
        if structs:
            _refuse_unknown_fields(raw, _section_of(raw, structs, place, what), place, what)
        elif mapping is not None:
            for key, value in raw.items():
                _refuse_unknown_keys(value, get_args(mapping)[1], f"{place}{key}.", what)
    elif isinstance(raw, list):
        sequence = next((each for each in kinds if get_origin(each) is tuple), None)
        for index, value in enumerate(raw if sequence is not None else ()):
            _refuse_unknown_keys(value, get_args(sequence)[0], f"{place.rstrip('.')}[{index}].", what)
    elif isinstance(raw, str) and str not in kinds:
        words = [word for each in kinds if get_origin(each) is Literal for word in get_args(each)]
        if words and raw not in words:
            raise ConfigError(f"{what} key '{place.rstrip('.')}' is {shown(raw)}. {suggestion(raw, map(str, words))}")


def _refuse_unknown_fields(raw: Mapping[str, Any], struct: type[Struct], place: str, what: str) -> None:
    fields = _fields_of(struct)
    for key, value in raw.items():
        if key == struct.__struct_config__.tag_field:
            continue
        if key not in fields:
            raise ConfigError(f"unknown {what} key '{place}{key}'. {suggestion(str(key), fields)}")
        _refuse_unknown_keys(value, fields[key], f"{place}{key}.", what)


@cache
def _fields_of(struct: type[Struct]) -> Mapping[str, Any]:
    return get_type_hints(struct, include_extras=True)


def _section_of(raw: Mapping[str, Any], structs: list[type[Struct]], place: str, what: str) -> type[Struct]:
    """Return the section that a mapping means: of several, the one that its tag names."""
    tags = {struct.__struct_config__.tag: struct for struct in structs}
    if len(structs) == 1:
        return structs[0]
    field = str(structs[0].__struct_config__.tag_field)
    if field not in raw:
        raise ConfigError(f"{what} key '{place}{field}' is missing. Known: {', '.join(sorted(map(str, tags)))}.")
    if raw[field] not in tags:
        raise ConfigError(
            f"{what} key '{place}{field}' is {shown(raw[field])}. {suggestion(str(raw[field]), map(str, tags))}"
        )
    return tags[raw[field]]


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [each for part in get_args(kind) for each in _alternatives(part)]
    return [kind]


def _anchored(config: Config, folder: Path) -> Config:
    storage = _anchored_path(config.storage, folder)
    data = _anchored_data(config.data, folder)
    joins = tuple(_anchored_join(join, folder) for join in config.features.join)
    features = msgspec.structs.replace(config.features, join=joins)
    tracking = config.registry.tracking_uri
    if tracking is None and "://" in storage:  # where there is no room for a database, the variable that MLflow reads
        tracking = os.environ.get("MLFLOW_TRACKING_URI")
    registry = msgspec.structs.replace(config.registry, tracking_uri=tracking and _anchored_tracking(tracking, folder))
    schema = config.validate.schema
    validate = msgspec.structs.replace(config.validate, schema=schema and str(folder / schema))
    service = msgspec.structs.replace(config.service, access=_anchored_access(config.service.access, folder))
    return msgspec.structs.replace(
        config,
        data=data,
        features=features,
        storage=storage,
        registry=registry,
        validate=validate,
        service=service,
        home=str(folder / config.home),
    )


def _anchored_access(access: AccessConfig, folder: Path) -> AccessConfig:
    files = {name: str(folder / file) for name, file in msgspec.structs.asdict(access).items() if file is not None}
    return msgspec.structs.replace(access, **files)


def _anchored_join(join: JoinConfig, folder: Path) -> JoinConfig:
    if join.source is None:
        return join
    place = feast_place(join.source)
    if place is not None:
        return msgspec.structs.replace(join, source=f"{FEAST}{folder / place[0]}#{place[1]}")
    return msgspec.structs.replace(join, source=_anchored_path(join.source, folder))


def _anchored_data(data: DataConfig, folder: Path) -> DataConfig:
    split, sql = data.split, data.sql
    files = {
        part: _anchored_path(value, folder)
        for part, value in (("valid", split.valid), ("test", split.test))
        if isinstance(value, str)
    }
    database = sql.connect.get("database") if sql is not None and sql.module == "sqlite3" else None
    if sql is not None and isinstance(database, str) and not database.startswith((":memory:", "file:", "${")):
        sql = msgspec.structs.replace(sql, connect={**sql.connect, "database": str(folder / database)})
    source = _anchored_path(data.source, folder) if data.source else ""
    return msgspec.structs.replace(data, source=source, sql=sql, split=msgspec.structs.replace(split, **files))


def _anchored_path(location: str, folder: Path) -> str:
    return location if _has_scheme(location) else str(folder / location)


def _anchored_tracking(uri: str, folder: Path) -> str:
    parts = urlsplit(uri)
    if not parts.scheme:
        return str(folder / uri)
    relative = parts.path.removeprefix("/")  # three slashes and a relative path, or four and an absolute one
    if parts.scheme != "sqlite" or parts.netloc or not relative or relative.startswith(("/", ":memory:")):
        return uri
    return uri.replace(f"///{relative}", f"///{folder / relative}", 1)


def _has_scheme(location: str) -> bool:
    return "://" in location or location.startswith(("sklearn:", "python:"))
