"""Writes the latest row of each key of every joined feature table, and what windows look at, to the online store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.config import Config, plain
from rayline.errors import UsageError
from rayline.features.joins.history import table_with_history
from rayline.features.joins.tables import FeatureTable, tables_of
from rayline.features.joins.windows import WindowGroup, window_groups
from rayline.features.online.declared import store_table
from rayline.features.online.latest import Latest, LatestRows, Tails
from rayline.features.online.opening import FOLDER, address_of
from rayline.features.online.seam import OnlineStore
from rayline.features.sources import read_dataset, read_table, source_digest, too_large

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 50_000
RECORD = "materialized.json"


@dataclass(frozen=True, slots=True)
class Materialized:
    """What became of one table.

    Attributes:
        table: its name in the store.
        rows: rows that were looked at; 0 where nothing had changed.
        kept: rows that were written, because the store had none as new.
        keys: keys that the store has now.
        unchanged: the source is the one that was written before, and the store still has its keys.
        seconds: wall time.
        elsewhere: its name in the store that its owner keeps, such as Feast, and that nothing was written to.
    """

    table: str
    rows: int
    kept: int
    keys: int
    unchanged: bool
    seconds: float
    elsewhere: str | None = None


def needs_ray(config: Config) -> bool:
    """Tell whether a source is so large that it is read in parallel."""
    large = any(not table.small() for table in tables_of(config.features.join) if table.elsewhere is None)
    return large or bool(config.features.windows and too_large(config.data))


def materialize(
    config: Config, store: OnlineStore, *, fresh: bool = False, each: Callable[[Materialized], None] = lambda _: None
) -> tuple[Materialized, ...]:
    """Write to an online store what a service of this configuration looks up. Again means: what has changed.

    Args:
        config: the project. Ray must be connected where ``needs_ray`` says so.
        store: where to.
        fresh: look at every table again.
        each: hears of each table when it is done.

    Raises:
        UsageError: the configuration has neither joins nor windows.
        NotFoundError, ConfigError, DataError: a source, a key or a time cannot be read.
        EnvironmentFailed: the store cannot be used.
    """
    features = config.features
    if not features.join and not features.windows:
        raise UsageError(
            f"project '{config.name}' joins no feature table and has no window, so there is nothing to look up. "
            "Add features.join or features.windows."
        )
    done = []
    for source in tables_of(features.join):
        if source.elsewhere is not None:
            done.append(Materialized(source.spec.name, 0, 0, 0, True, 0.0, source.elsewhere))
            each(done[-1])
            continue
        digest = _digest(source.digest(), repr(source.spec))
        done.append(_written(config, store, source.spec.name, digest, fresh, lambda s=source: _latest(s)))  # type: ignore[misc]
        each(done[-1])
    for group in window_groups(features.windows):
        joined = [table.digest() for table in tables_of(features.join)]
        digest = _digest(source_digest(config.data), *joined, repr(group), plain(config.data))
        done.append(_written(config, store, group.name, digest, fresh, lambda g=group: [_state(config, g)]))  # type: ignore[misc]
        each(done[-1])
    return tuple(done)


def _written(
    config: Config, store: OnlineStore, name: str, digest: str, fresh: bool, read: Callable[[], Iterable[Latest]]
) -> Materialized:
    began = time.perf_counter()
    table = store_table(config.name, name)
    file = storage.refresh(storage.folder_of(config.storage) / FOLDER / RECORD)
    place = f"{_digest(address_of(config.features.online.store))} {table}"  # an address may hold a password
    known = _record(file)
    if not fresh and known.get(place) == {"digest": digest, "keys": store.size(table)}:
        return Materialized(table, 0, 0, store.size(table), True, time.perf_counter() - began)
    seen = kept = 0
    for latest in read():
        seen += latest.seen
        kept += _put(store, table, latest)
    keys = store.size(table)
    _write(file, {**_record(file), place: {"digest": digest, "keys": keys}})
    return Materialized(table, seen, kept, keys, False, time.perf_counter() - began)


def _put(store: OnlineStore, table: str, latest: Latest) -> int:
    kept = 0
    for start in range(0, len(latest.keys), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        kept += store.put(table, latest.columns, latest.keys[part], latest.times[part], latest.rows[part])
    return kept


def _latest(source: FeatureTable) -> Iterable[Latest]:
    look = LatestRows(source.spec)
    if source.small():
        return [look(source.table())]
    from rayline.features.blocks import fold

    return fold(source.dataset(), look)


def _state(config: Config, group: WindowGroup) -> Latest:
    import pyarrow as pa

    look = Tails(group)
    if not too_large(config.data):
        table = read_table(config.data)
        if any(name not in table.column_names for name in (*group.by, group.time, *group.sources)):
            table = table_with_history(config.features, table)
        return _counted(look.state(look(table)), table.num_rows)
    from rayline.features.blocks import fold

    rows, tails = 0, None
    for count, tail in fold(_dataset(config, group), _Counted(look)):
        rows += count
        tails = tail if tails is None else look(pa.concat_tables([tails, tail], promote_options="permissive"))
    assert tails is not None
    return _counted(look.state(tails), rows)


def _dataset(config: Config, group: WindowGroup) -> Any:
    schema = read_table(config.data, head=True).schema
    dataset, names = read_dataset(config.data, schema), schema.names
    if all(name in names for name in (*group.by, group.time, *group.sources)):
        return dataset
    from rayline.features.joins.exchange import joined

    for source in tables_of(config.features.join):
        dataset = joined(dataset, source.table() if source.small() else source.dataset(), source.spec)
    return dataset


@dataclass(frozen=True, slots=True)
class _Counted:
    look: Tails

    def __call__(self, table: pa.Table) -> tuple[int, pa.Table]:
        return table.num_rows, self.look(table)


def _counted(latest: Latest, rows: int) -> Latest:
    return Latest(latest.columns, latest.keys, latest.times, latest.rows, rows)


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _record(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def _write(file: Path, values: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text(json.dumps(values, indent=1), encoding="utf-8")
    draft.replace(file)
    storage.keep(file)
