"""A configuration as a person would have written it: without what every configuration has anyway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from rayline.config.columns import READ_KINDS, ColumnBase, column_config, kind_of
from rayline.config.project import Config


def shortest(config: Config) -> dict[str, Any]:
    """Return the sections and keys that differ from the defaults, JSON-ready: ``parse`` makes the same of them."""
    found = _differing(config)
    return {key: value for key, value in found.items() if value != {}}


def _differing(section: Struct) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tag, field = section.__struct_config__.tag, section.__struct_config__.tag_field
    if field is not None:
        found[str(field)] = tag
    for each in msgspec.structs.fields(section):
        value = getattr(section, each.name)
        if not each.required and value == _default(each):
            continue
        found[each.encode_name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, ColumnBase):
        kind = kind_of(value)  # type: ignore[arg-type]  # every one of them is
        return kind if kind in READ_KINDS and value == column_config(kind) else _differing(value)
    if isinstance(value, Struct):
        return _differing(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return msgspec.to_builtins(value)


def _default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()
