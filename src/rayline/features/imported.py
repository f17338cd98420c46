"""Find what a configuration names as ``my_package.my_module:name``."""

from __future__ import annotations

import importlib
from typing import Any

from rayline.errors import ConfigError, suggestion


def imported(path: str, place: str) -> Any:
    """Return the named object.

    Args:
        path: ``my_package.my_module:name``.
        place: names the setting in messages.

    Raises:
        ConfigError: it is written otherwise, its module cannot be imported, or it has no such name.
    """
    name, colon, attribute = path.partition(":")
    if not (name and colon and attribute) or name.startswith("."):
        raise ConfigError(f"{place} '{path}' must read my_package.my_module:name.")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{place} '{path}': module '{name}' cannot be imported ({error}). It must lie beside the configuration "
            "file or be installed."
        ) from error
    if not hasattr(module, attribute):
        known = [each for each in vars(module) if not each.startswith("_")]
        raise ConfigError(f"{place} '{path}': module '{name}' has no '{attribute}'. {suggestion(attribute, known)}")
    return getattr(module, attribute)
