"""What a model needs of the online store, as the values that a Bundle carries in ``history.json``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rayline.config import Config
from rayline.errors import SchemaError
from rayline.features.joins.join import taken
from rayline.features.joins.tables import tables_of
from rayline.features.joins.windows import WindowSpec, window_groups

FORMAT = 1


def store_table(project: str, name: str) -> str:
    """Return what a project's feature table or group of windows is called in a store that others may share."""
    return f"{project}/{name}"


@dataclass(frozen=True, slots=True)
class TableNeed:
    """Columns of one feature table.

    Attributes:
        table: its name in the store.
        keys, at: columns of a request that tell which row, and as of when.
        ttl: in microseconds; None means for ever.
        columns: the model's input by the table's column.
    """

    table: str
    keys: tuple[str, ...]
    at: str
    ttl: int | None
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WindowNeed:
    """Windows over one group of keys and time; their names are the model's inputs."""

    table: str
    keys: tuple[str, ...]
    at: str
    windows: tuple[WindowSpec, ...]


@dataclass(frozen=True, slots=True)
class HistoryNeed:
    """All that a model looks up; ``store`` is the configured address."""

    store: str
    tables: tuple[TableNeed, ...]
    windows: tuple[WindowNeed, ...]

    @classmethod
    def of(cls, config: Config, inputs: Collection[str]) -> HistoryNeed | None:
        """Return what a configuration's model needs; None where no input is joined or made by a window.

        Args:
            config: the project.
            inputs: the model's raw input columns.

        Raises:
            NotFoundError, DataError: a feature table cannot be read.
        """
        tables = []
        for source in tables_of(config.features.join):
            spec = source.spec
            names = taken(source.table(head=True).column_names, spec)
            columns = {spec.prefix + name: name for name in names if spec.prefix + name in inputs}
            if columns:
                name = source.elsewhere or store_table(config.name, spec.name)
                tables.append(TableNeed(name, spec.keys, spec.at, spec.ttl, columns))
        windows = []
        for group in window_groups(config.features.windows):
            used = tuple(each for each in group.windows if each.name in inputs)
            if used:
                windows.append(WindowNeed(store_table(config.name, group.name), group.by, group.time, used))
        return cls(config.features.online.store, tuple(tables), tuple(windows)) if tables or windows else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> HistoryNeed:
        """Return the needs of ``to_json``'s values. Raises ``SchemaError`` where they are not that."""
        try:
            if raw["format"] != FORMAT:
                raise SchemaError(f"its format is {raw['format']!r}, and this Rayline reads {FORMAT}.")
            tables = tuple(
                TableNeed(each["table"], tuple(each["keys"]), each["at"], each["ttl"], dict(each["columns"]))
                for each in raw["tables"]
            )
            windows = tuple(
                WindowNeed(
                    each["table"],
                    tuple(each["keys"]),
                    each["at"],
                    tuple(WindowSpec(**window) for window in each["windows"]),
                )
                for each in raw["windows"]
            )
            return cls(raw["store"], tables, windows)
        except (KeyError, TypeError) as error:
            raise SchemaError(f"it is damaged: {error!r}.") from error
