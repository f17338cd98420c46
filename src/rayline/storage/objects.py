"""The door to object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure.

Endpoint, region and credentials come from the environment, under the names that the vendors' own tools read
(``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME``), or
from the role of the machine. Each request is tried again a bounded number of times.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rayline.errors import StorageError

RETRIES = 10
RETRY_SECONDS = 60
CONNECT_SECONDS = 5
REQUEST_SECONDS = 60
BETWEEN = " "

asked: Counter[str] = Counter()
"""How often this process asked which kind of request, for measurements."""


@dataclass(frozen=True, slots=True)
class Object:
    """What an object holds, and the tag of this state of it: the store's ETag, and its version where it has any."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing: its key, and its size in bytes."""

    key: str
    size: int


@cache
def objects(scheme: str, bucket: str) -> Objects:
    """Return the objects of a bucket; nothing is asked yet. Raises ``StorageError`` where its settings are wrong."""
    return Objects(scheme, bucket)


class Objects:
    """The objects of one bucket. Every method raises ``StorageError`` where the store cannot be asked, or refuses."""

    def __init__(self, scheme: str, bucket: str) -> None:
        """Name the bucket."""
        from obstore.store import from_url

        self.uri = f"{scheme}://{bucket}"
        plain_http = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        seconds = {"connect_timeout": timedelta(seconds=CONNECT_SECONDS), "timeout": timedelta(seconds=REQUEST_SECONDS)}
        options: Any = {**seconds, **({"allow_http": True} if plain_http else {})}
        with self._door("use", ""):
            self._store = from_url(
                self.uri,
                client_options=options,
                retry_config={
                    "max_retries": RETRIES,
                    "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=5),
                        "base": 2,
                    },
                },
            )

    def get(self, key: str, unless: str | None = None) -> Object | Literal["same"] | None:
        """Return an object; None where there is none, ``same`` where its tag is still ``unless``."""
        import obstore
        from obstore.exceptions import NotModifiedError

        asked["GET"] += 1
        with self._door("read", key):
            try:
                found = obstore.get(
                    self._store, key, options={"if_none_match": unless.partition(BETWEEN)[0]} if unless else None
                )
                return Object(bytes(found.bytes()), _tag(found.meta))
            except NotModifiedError:
                return "same"
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return None

    def download(self, key: str, file: Path) -> str | None:
        """Write an object to a local file; returns its tag, or None where there is none."""
        import obstore

        asked["GET"] += 1
        with self._door("read", key):
            try:
                found = obstore.get(self._store, key)
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return None
            with file.open("wb") as output:
                for chunk in found.stream():
                    output.write(chunk)
            return _tag(found.meta)

    def put(self, key: str, content: bytes | Path) -> str:
        """Write an object, whole or not at all, whatever is there; returns its tag."""
        import obstore

        asked["PUT"] += 1
        with self._door("write", key):
            return _tag(obstore.put(self._store, key, content))

    def swap(self, key: str, content: bytes, before: str | None) -> str | None:
        """Write an object where it is still in the state with the tag ``before``; None: where there is none yet.

        Returns:
            Its new tag; None where it is in another state: nothing was written then. ``content`` should be unlike what
            anyone else writes: a request whose answer was lost is known again by it.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        asked["PUT"] += 1
        with self._door("write", key):
            try:
                mode: Any = "create" if before is None else _state(before)
                return _tag(obstore.put(self._store, key, content, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError):
                pass
            except FileNotFoundError as error:  # it is gone: another state too
                self._refuse_missing_bucket(error)
        there = self.get(key)
        return there.etag if isinstance(there, Object) and there.data == content else None

    def exists(self, key: str) -> bool:
        """Tell whether there is an object."""
        import obstore

        asked["HEAD"] += 1
        with self._door("look at", key):
            try:
                obstore.head(self._store, key)
            except FileNotFoundError:
                return False
        return True

    def below(self, key: str) -> list[Listed]:
        """Return all objects whose keys begin with ``key/``, by key."""
        import obstore

        asked["LIST"] += 1
        with self._door("list", key):
            chunks = obstore.list(self._store, prefix=key or None)
            found = [Listed(str(each["path"]), int(each["size"])) for chunk in chunks for each in chunk]
        return sorted(found, key=lambda each: each.key)

    def directly_in(self, key: str) -> list[str]:
        """Return the names of the objects right under ``key/``, in order."""
        import obstore

        asked["LIST"] += 1
        with self._door("list", key):
            found = obstore.list_with_delimiter(self._store, prefix=key or None)
        return sorted(str(each["path"]).rpartition("/")[2] for each in found["objects"])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are none to delete."""
        import obstore

        if not keys:
            return
        asked["DELETE"] += 1
        with self._door("delete", keys[0]):
            try:
                obstore.delete(self._store, list(keys))
            except FileNotFoundError:
                return

    @contextmanager
    def _door(self, what: str, key: str) -> Iterator[None]:
        """Tell the store's own errors as ours."""
        from obstore.exceptions import BaseError

        try:
            yield
        except StorageError:
            raise
        except (BaseError, FileNotFoundError, PermissionError, ValueError) as error:
            self._refuse_missing_bucket(error)
            place = f"{self.uri}/{key}" if key else self.uri
            raise StorageError(f"cannot {what} '{place}': {_first_line(error)}. {self._way_out(error)}") from error

    def _refuse_missing_bucket(self, error: Exception) -> None:
        if "NoSuchBucket" in str(error):
            raise StorageError(
                f"'{self.uri}' cannot be used: there is no such bucket. Create it, or name another one."
            ) from error

    def _way_out(self, error: Exception) -> str:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        text = str(error)
        if isinstance(error, UnauthenticatedError | PermissionDeniedError | PermissionError) or "credential" in text:
            return (
                "Check the credentials that this process has (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, "
                "AZURE_STORAGE_ACCOUNT_KEY, or the role of the machine), and that they may read and write there."
            )
        return "Check the bucket, the network and the endpoint (AWS_ENDPOINT_URL), then run the same command again."


def _tag(meta: Mapping[str, Any]) -> str:
    version = meta.get("version")
    return f"{meta['e_tag']}{BETWEEN}{version}" if version else str(meta["e_tag"])


def _state(tag: str) -> dict[str, str]:
    """Return a state as a conditional write names it: S3 and Azure go by the ETag, Google by the version."""
    etag, _, version = tag.partition(BETWEEN)
    return {"e_tag": etag, **({"version": version} if version else {})}


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    for each in ("\n\nDebug source", "\n"):
        text = text.partition(each)[0]
    return text.rstrip(". ") or type(error).__name__
