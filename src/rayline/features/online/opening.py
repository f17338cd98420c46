"""Which online store an address means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from rayline.config.history import feast_place
from rayline.errors import ConfigError, suggestion
from rayline.features.online.seam import OnlineStore
from rayline.storage import is_object_store, uri_of

VARIABLE = "RAYLINE_ONLINE_STORE"
FOLDER = "online"
EMBEDDED = "embedded"


def _redis(address: str) -> OnlineStore:
    from rayline.features.online.redis_store import RedisStore

    return RedisStore(address)


BY_SCHEME: dict[str, Callable[[str], OnlineStore]] = {"redis": _redis, "rediss": _redis, "unix": _redis}
"""Another kind of store is one small file and a line here."""


def address_of(setting: str) -> str:
    """Return the address that holds: the variable ``RAYLINE_ONLINE_STORE``, or what was configured."""
    return os.environ.get(VARIABLE) or setting


def open_store(setting: str, storage: Path | None, *, create: bool = True) -> OnlineStore:
    """Open an online store.

    Args:
        setting: ``features.online.store``; the variable ``RAYLINE_ONLINE_STORE`` wins over it.
        storage: the project's state folder, which the embedded store lies in.
        create: make the embedded store where there is none.

    Raises:
        ConfigError: no store has such an address, or the state lies in an object store, and this one cannot.
        ServiceError: the store does not answer, or there is none.
        EnvironmentFailed: it cannot be used.
    """
    address = address_of(setting)
    if address == EMBEDDED:
        from rayline.features.online.lmdb_store import LmdbStore

        if storage is None:
            raise ConfigError("the embedded online store lies under 'storage', and no such folder is known here.")
        if is_object_store(storage):
            raise ConfigError(
                f"the embedded online store cannot lie in '{uri_of(storage)}': it is changed in place. "
                "Set features.online.store to a redis:// address."
            )
        return LmdbStore(storage / FOLDER, create=create)
    scheme = urlsplit(address).scheme
    if scheme not in BY_SCHEME:
        near = suggestion(scheme or address.partition("@")[2] or "?", (EMBEDDED, *BY_SCHEME))
        raise ConfigError(f"no online store has an address of '{scheme or 'no scheme'}'. {near}")
    return BY_SCHEME[scheme](address)


def is_remote(setting: str) -> bool:
    """Tell whether looking up waits for a network."""
    return address_of(setting) != EMBEDDED


def beside_feast(own: Callable[[], OnlineStore], tables: Iterable[str]) -> tuple[Callable[[], OnlineStore], bool]:
    """Return what opens the stores of some tables, and whether one is Feast's; ``own`` opens Rayline's.

    Feast's stores are opened now, which takes seconds; one that cannot be is tried again when it is needed.
    """
    feast = [table for table in tables if feast_place(table) is not None]
    if not feast:
        return own, False
    from rayline.features.online.feast_store import BothStores

    stores = BothStores(own, feast)
    return lambda: stores, True
