"""The online store in Redis, for services on several machines: one hash for each feature table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from rayline.errors import EnvironmentFailed, ServiceError
from rayline.features.online.record import Layouts, key_bytes, listed, records, unlisted
from rayline.features.online.seam import Found, Key, Value

SENT_AT_ONCE = 1_000
SECONDS = 5.0

# One step for the server, so that of two writers the newer row stays. Event times beyond 2^53 microseconds (the year
# 2255) are compared as doubles.
_PUT = """
local kept = 0
for place = 1, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[1], ARGV[place])
  if not before or struct.unpack('>i8', before) <= struct.unpack('>i8', ARGV[place + 1]) then
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
    kept = kept + 1
  end
end
return kept
"""


class RedisStore:
    """Meets ``OnlineStore``."""

    def __init__(self, address: str) -> None:
        """Connect to ``redis://...``.

        Raises:
            ServiceError: nothing answers there.
            EnvironmentFailed: the client is not installed.
        """
        try:
            import redis
        except ImportError as error:
            raise EnvironmentFailed("Redis needs its client: `pip install rayline[redis]`.") from error
        parts = urlsplit(address)
        self._place = f"{parts.scheme}://{parts.hostname or parts.path}{f':{parts.port}' if parts.port else ''}"
        with self._door():
            self._client: Any = redis.Redis.from_url(
                address, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, health_check_interval=30
            )
            self._client.ping()
        self._script = self._client.register_script(_PUT)
        self._layouts = Layouts(self._columns)

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        """As ``OnlineStore``."""
        kept = 0
        waiting: list[bytes] = []
        with self._door():
            self._client.sadd(f"rayline:columns:{table}", listed(columns))
            for key, _, record in records(columns, keys, times, rows):
                waiting += (key, record)
                if len(waiting) == 2 * SENT_AT_ONCE:
                    kept += int(self._script(keys=[f"rayline:rows:{table}"], args=waiting))
                    waiting = []
            if waiting:
                kept += int(self._script(keys=[f"rayline:rows:{table}"], args=waiting))
        return kept

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        """As ``OnlineStore``."""
        names = [key_bytes(key) for key in keys]
        asked = list(dict.fromkeys(name for name in names if name is not None))
        with self._door():
            kept = self._client.hmget(f"rayline:rows:{table}", asked) if asked else []
        found = dict(zip(asked, kept, strict=True))
        records_of = [found[name] if name is not None else None for name in names]
        return [self._layouts.found(table, record) if record is not None else None for record in records_of]

    def size(self, table: str) -> int:
        """As ``OnlineStore``."""
        with self._door():
            return int(self._client.hlen(f"rayline:rows:{table}"))

    def close(self) -> None:
        """As ``OnlineStore``."""
        self._client.close()

    def _columns(self, table: str) -> list[list[str]]:
        with self._door():
            return [unlisted(each) for each in self._client.smembers(f"rayline:columns:{table}")]

    @contextmanager
    def _door(self) -> Iterator[None]:
        import redis

        try:
            yield
        except redis.RedisError as error:
            raise ServiceError(
                f"the online store {self._place} does not answer: {error}. Start it, or set features.online.store."
            ) from error
