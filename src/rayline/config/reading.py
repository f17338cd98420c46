"""One YAML file becomes one typed, frozen ``Config``.

Unknown keys, wrong types and values out of range raise ``ConfigError`` with the key's full name and,
where a key was mistyped, the nearest valid one. Relative paths are relative to the file.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import Struct

from rayline.config.history import FEAST, JoinConfig, feast_place
from rayline.config.project import Config
from rayline.errors import ConfigError, NotFoundError, shown, suggestion


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: the YAML file.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Returns:
        The configuration, with ``data.source``, ``storage`` and a file of ``registry.tracking_uri`` made absolute
        (other URIs are left alone).

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is not YAML, or a key or value in it is wrong.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"configuration '{file}' does not exist. `rayline init DATA --target COLUMN` writes one.")
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, days that no calendar has
        raise ConfigError(f"configuration '{file}' is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"configuration '{file}' must be a mapping of sections, not {type(raw).__name__}.")
    for override in overrides:
        _override(raw, override)
    return _anchored(parse(raw), file.resolve().parent)


def parse(raw: Mapping[str, Any]) -> Config:
    """Return the typed configuration of a mapping, with its paths as they stand. Raises ``ConfigError``."""
    _refuse_unknown_keys(raw, Config, "")
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".") or "configuration"
        raise ConfigError(f"configuration key '{key}': {reason[:1].lower()}{reason[1:]}.") from error


def plain(section: Struct) -> dict[str, Any]:
    """Return a section as JSON-ready values: what is logged, hashed and written."""
    value: dict[str, Any] = msgspec.to_builtins(section)
    return value


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with dotted keys replaced: what a trial of a Study runs. Raises ``ConfigError``."""
    raw = plain(config)
    for key, value in values.items():
        _set(raw, key, value)
    return parse(raw)


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}' must read section.key=value, for instance train.epochs=5.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or error
        raise ConfigError(
            f"override '{override}': its value is not valid YAML: {reason}. Quote it or close it."
        ) from error
    _set(raw, key, value)


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    place = raw
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"key '{key}': '{part}' is {shown(place)}, not a section.")
    place[last] = value


def _refuse_unknown_keys(raw: object, kind: Any, place: str) -> None:
    """Walk the mapping beside its type, so that an unknown key or word can be told with the nearest valid one."""
    kinds = _alternatives(kind)
    if isinstance(raw, Mapping):
        structs = [each for each in kinds if isinstance(each, type) and issubclass(each, Struct)]
        mapping = next((each for each in kinds if get_origin(each) is dict), None)
        if structs:
            _refuse_unknown_fields(raw, _section_of(raw, structs, place), place)
        elif mapping is not None:
            for key, value in raw.items():
                _refuse_unknown_keys(value, get_args(mapping)[1], f"{place}{key}.")
    elif isinstance(raw, list):
        sequence = next((each for each in kinds if get_origin(each) is tuple), None)
        for index, value in enumerate(raw if sequence is not None else ()):
            _refuse_unknown_keys(value, get_args(sequence)[0], f"{place.rstrip('.')}[{index}].")
    elif isinstance(raw, str) and str not in kinds:
        words = [word for each in kinds if get_origin(each) is Literal for word in get_args(each)]
        if words and raw not in words:
            raise ConfigError(
                f"configuration key '{place.rstrip('.')}' is {shown(raw)}. {suggestion(raw, map(str, words))}"
            )


def _refuse_unknown_fields(raw: Mapping[str, Any], struct: type[Struct], place: str) -> None:
    fields = get_type_hints(struct, include_extras=True)
    for key, value in raw.items():
        if key == struct.__struct_config__.tag_field:
            continue
        if key not in fields:
            raise ConfigError(f"unknown configuration key '{place}{key}'. {suggestion(str(key), fields)}")
        _refuse_unknown_keys(value, fields[key], f"{place}{key}.")


def _section_of(raw: Mapping[str, Any], structs: list[type[Struct]], place: str) -> type[Struct]:
    """Return the section that a mapping means: of several, the one that its tag names."""
    tags = {struct.__struct_config__.tag: struct for struct in structs}
    if len(structs) == 1:
        return structs[0]
    field = str(structs[0].__struct_config__.tag_field)
    if field not in raw:
        raise ConfigError(f"configuration key '{place}{field}' is missing. Known: {', '.join(sorted(map(str, tags)))}.")
    if raw[field] not in tags:
        raise ConfigError(
            f"configuration key '{place}{field}' is {shown(raw[field])}. {suggestion(str(raw[field]), map(str, tags))}"
        )
    return tags[raw[field]]


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [each for part in get_args(kind) for each in _alternatives(part)]
    return [kind]


def _anchored(config: Config, folder: Path) -> Config:
    source = config.data.source
    if not _has_scheme(source):
        source = str(folder / source)
    storage = config.storage if _has_scheme(config.storage) else str(folder / config.storage)
    data = msgspec.structs.replace(config.data, source=source)
    features = msgspec.structs.replace(
        config.features, join=tuple(_anchored_join(join, folder) for join in config.features.join)
    )
    tracking = config.registry.tracking_uri
    registry = msgspec.structs.replace(config.registry, tracking_uri=tracking and _anchored_tracking(tracking, folder))
    return msgspec.structs.replace(config, data=data, features=features, storage=storage, registry=registry)


def _anchored_join(join: JoinConfig, folder: Path) -> JoinConfig:
    if join.source is None or _has_scheme(join.source):
        return join
    place = feast_place(join.source)
    if place is not None:
        return msgspec.structs.replace(join, source=f"{FEAST}{folder / place[0]}#{place[1]}")
    return msgspec.structs.replace(join, source=str(folder / join.source))


def _anchored_tracking(uri: str, folder: Path) -> str:
    parts = urlsplit(uri)
    if not parts.scheme:
        return str(folder / uri)
    relative = parts.path.removeprefix("/")  # three slashes and a relative path, or four and an absolute one
    if parts.scheme != "sqlite" or parts.netloc or not relative or relative.startswith(("/", ":memory:")):
        return uri
    return uri.replace(f"///{relative}", f"///{folder / relative}", 1)


def _has_scheme(location: str) -> bool:
    return "://" in location or location.startswith("sklearn:")
