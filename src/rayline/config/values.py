"""Dotted keys set in the raw mapping of a configuration: what ``--set`` and the trials of a Study change. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rayline.errors import ConfigError, shown

COLUMNS = "features.columns."
BUILDER = "model.builder"
USE = "use"


def column_key(key: str, columns: Iterable[str]) -> tuple[str, str] | None:
    """Return the column and the setting that ``features.columns.NAME.SETTING`` names, or None for another key.

    A column's name may have dots of its own: of ``columns`` the longest that fits is meant, else the name ends before
    the last dot.
    """
    if not key.startswith(COLUMNS):
        return None
    rest = key.removeprefix(COLUMNS)
    fitting = [name for name in columns if rest.startswith(f"{name}.")]
    if fitting:
        name = max(fitting, key=len)
        return name, rest.removeprefix(f"{name}.")
    name, dot, setting = rest.rpartition(".")
    return (name, setting) if dot else None


def set_values(raw: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set dotted keys in a mapping of sections.

    A column that is declared by its kind alone becomes a section. ``model.builder`` and a column's ``kind`` decide
    which other settings there are: they come first, and one that changes clears the settings of the one before.
    ``features.columns.NAME.use: false`` takes the feature out.

    Raises:
        ConfigError: a key leads through a value that is no section, or ``use`` is no boolean.
    """
    columns = _columns_of(raw)
    for key in sorted(values, key=lambda key: _turn(key, columns)):
        _set(raw, columns, key, values[key])


def _turn(key: str, columns: Mapping[str, Any]) -> int:
    if key == BUILDER:
        return 0
    found = column_key(key, columns)
    if found is None:
        return 1
    return {"kind": 0, USE: 2}.get(found[1], 1)


def _set(raw: dict[str, Any], columns: dict[str, Any], key: str, value: Any) -> None:
    found = column_key(key, columns)
    if found is not None and found[0] in columns:
        _set_column(columns, *found, key, value)
        return
    model = raw.get("model")
    if key == BUILDER and isinstance(model, dict) and model.get("builder", value) != value:
        model.pop("options", None)
    *path, last = key.split(".")
    _place(raw, path, key)[last] = value


def _set_column(columns: dict[str, Any], name: str, setting: str, key: str, value: Any) -> None:
    if setting == USE:
        if not isinstance(value, bool):
            raise ConfigError(f"key '{key}' is true or false, not {shown(value)}.")
        if not value:
            del columns[name]
            if not columns:  # no columns would mean all of them
                raise ConfigError(f"key '{key}' takes out the last feature: one must stay.")
        return
    if isinstance(columns[name], str):
        columns[name] = {"kind": columns[name]}
    if setting == "kind" and columns[name]["kind"] != value:
        source = columns[name].get("source")
        columns[name] = {"kind": value} if source is None else {"kind": value, "source": source}
        return
    *path, last = setting.split(".")
    _place(columns[name], path, key)[last] = value


def _place(raw: dict[str, Any], path: Iterable[str], key: str) -> dict[str, Any]:
    place = raw
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"key '{key}': '{part}' is {shown(place)}, not a section.")
    return place


def _columns_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    features = raw.get("features")
    columns = features.get("columns") if isinstance(features, dict) else None
    return columns if isinstance(columns, dict) else {}
