"""Which keys of a configuration a space may name, and to which builder or kind of column each belongs. Pure."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_type_hints

from msgspec import Struct

from rayline.config import CONFIG_OF, Config, ModelConfig, TrainConfig, column_config, kind_of
from rayline.config.model import OPTIONS
from rayline.config.values import COLUMNS, USE, column_key
from rayline.errors import ConfigError, suggestion
from rayline.model import READY_MADE, family_of

MODEL_OPTIONS = "model.options."
DROP = "features.drop"
KIND = "kind"

AGREED: Mapping[str, str] = {
    **dict.fromkeys(
        ("train.metric", "train.num_workers", "train.use_gpu", "features.target", "features.task"),
        "trials must agree on it to be compared",
    ),
    **dict.fromkeys(
        (
            "train.parallel",
            "train.feed",
            "train.checkpoint",
            "train.checkpoint.num_to_keep",
            "train.max_failures",
            "train.stall_seconds",
            "features.online",
        ),
        "it says how a trial runs, and not what comes of it",
    ),
}
"""Keys that exist and that no space may name, each with the reason."""

ROWS = ("features.join", "features.windows")
XGBOOST_NATIVE = ("alpha", "eta", "lambda", "max_cat_to_onehot", "min_split_loss", "refresh_leaf", "updater")
"""What the library calls otherwise than its scikit-learn class, or that this has not."""
OF_MLP = ("model.hidden", "model.dropout")


def searchable(config: Config | None = None) -> tuple[str, ...]:
    """Return the keys that a space may name.

    Args:
        config: where given, with the settings of each declared column and the options of its builder; else without.
    """
    sections: Mapping[str, type[Struct]] = {"model": ModelConfig, "train": TrainConfig}
    keys = [f"{name}.{field}" for name, section in sections.items() for field in get_type_hints(section)]
    found = [key for key in keys if key not in AGREED and key != "model.options"] + [DROP]
    if config is not None:
        found += [f"{MODEL_OPTIONS}{name}" for name in options_of(config.model.builder) or ()]
        for name, declared in config.features.columns.items():
            found += [f"{COLUMNS}{name}.{each}" for each in settings_of_kind(kind_of(column_config(declared)))]
    return tuple(found)


def settings_of_kind(kind: str | None) -> tuple[str, ...]:
    """Return what may be searched of a column: ``use``, ``kind`` and the settings of its kind, or of all where None."""
    kinds = CONFIG_OF.values() if kind is None else (CONFIG_OF[kind],)
    fields = dict.fromkeys(field for each in kinds for field in get_type_hints(each) if not field.startswith("__"))
    return (USE, KIND, *fields)


def check_key(key: str, config: Config, builders: Iterable[str]) -> None:
    """Check that a space may name a key.

    Args:
        key: dotted.
        config: the base configuration; of a column that it does not declare only the setting is checked.
        builders: every ``model.builder`` that the space reaches.

    Raises:
        ConfigError: it is unknown, with the nearest that is known; or trials must agree on it.
    """
    known = searchable(config)
    if key in AGREED:
        raise ConfigError(f"tune.space cannot search '{key}': {AGREED[key]}.")
    if key in known or key.startswith(MODEL_OPTIONS):
        return
    for rows in ROWS:
        if key == rows or key.startswith(f"{rows}."):
            raise ConfigError(
                f"tune.space cannot search '{key}': the history of a row decides into which part it falls, and trials "
                f"must be compared on the same rows. Declare each variant, and search {COLUMNS}NAME.use."
            )
    column = column_key(key, config.features.columns)
    if column is not None and _is_setting(*column, config):
        return
    names = [*known, *(f"{MODEL_OPTIONS}{name}" for each in builders for name in options_of(each) or ())]
    if column is not None and not config.features.columns:
        names += [f"{COLUMNS}{column[0]}.{each}" for each in settings_of_kind(None)]
    raise ConfigError(f"tune.space names the unknown key '{key}'. {suggestion(key, names)}")


def builders_for(key: str, builders: Iterable[str]) -> tuple[str, ...] | None:
    """Return those of the builders that take a setting of ``model``; None where it belongs to no builder.

    Raises:
        ConfigError: none of them has such an option; it names the nearest.
    """
    builders = tuple(builders)
    if key in OF_MLP:
        return tuple(each for each in builders if each == "mlp")
    if not key.startswith(MODEL_OPTIONS):
        return None
    option = key.removeprefix(MODEL_OPTIONS)
    takes = {each: options_of(each) for each in builders}
    found = tuple(each for each, names in takes.items() if names is None or option.partition(".")[0] in names)
    if not found:
        known = sorted({name for names in takes.values() for name in names or ()})
        near = suggestion(option, known) if known else "It takes no options: 'mlp' has model.hidden and model.dropout."
        raise ConfigError(
            f"tune.space names '{key}', and model.builder '{', '.join(builders)}' has no option '{option}'. {near}"
        )
    return found


@cache
def options_of(builder: str) -> tuple[str, ...] | None:
    """Return the names that ``model.options`` may have for a builder; None where it takes any, or cannot be asked."""
    if builder in OPTIONS:
        return tuple(get_type_hints(OPTIONS[builder]))
    if builder == "mlp":
        return ()
    if builder in READY_MADE:
        names = _arguments("xgboost:XGBModel")
        return names and (*names, *XGBOOST_NATIVE)
    names = _arguments(builder)
    return names if names is None or family_of(builder) == "sklearn" else names[2:]  # after inputs and outputs


def _arguments(path: str) -> tuple[str, ...] | None:
    """Return the arguments of a class or function by name, or None where it takes any or cannot be found here."""
    module, _, name = path.partition(":")
    try:
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    except (ImportError, AttributeError, ValueError, TypeError):
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters) and module != "xgboost":
        return None
    return tuple(each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD)


def _is_setting(name: str, setting: str, config: Config) -> bool:
    columns: Mapping[str, Any] = config.features.columns
    if columns and name not in columns:
        return False
    return setting.partition(".")[0] in settings_of_kind(None)
