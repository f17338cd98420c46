"""Who may ask a replica: its cluster's nodes, or whoever has the token; where tokens are kept, everybody needs one.

Three doors. Health pages tell nothing and are open to the cluster's nodes, for a balancer has no token. Requests need
the token for requests, where there is one. What a service tells of its inside, which is the page of its traffic, needs
the token for administration, where there is one, else that for requests. The token for administration opens all.
Nothing can be changed over HTTP: that goes through Ray's own actors, and so through whoever may reach the cluster.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rayline.config import AccessConfig
from rayline.errors import ConfigError, NotFoundError
from rayline.serving.http.peers import Peers

OPEN = frozenset({"/v2/health/live", "/v2/health/ready", "/ping", "/health"})
INSIDE = frozenset({"", "/"})
SHORTEST = 16
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, 2.1, with '=' in any place
_MAKE = "(umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32))' > {path})"

Refusal = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The bearer tokens of a service; None where there is none.

    Attributes:
        requests: opens predictions, feedback and what describes them.
        administration: opens those and the inside.
    """

    requests: bytes | None = None
    administration: bytes | None = None

    @classmethod
    def read(cls, config: AccessConfig) -> Tokens:
        """Read the files of a configuration.

        Raises:
            NotFoundError: a file does not exist; the message has the command that makes it.
            ConfigError: others may read it, or it holds no token.
        """
        requests = _read(config.token_file, "token_file")
        administration = _read(config.admin_token_file, "admin_token_file")
        if requests is not None and requests == administration:
            raise ConfigError(
                "service.access: token_file and admin_token_file hold the same token, so that whoever may ask may also"
                f" look inside. Make another: {_MAKE.format(path=config.admin_token_file)}"
            )
        return cls(requests, administration)

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return self.requests is not None or self.administration is not None


NO_TOKENS = Tokens()


class Access:
    """Decides over each request of one replica."""

    def __init__(self, service: str, tokens: Tokens, peers: Peers | Collection[str] | None) -> None:
        """Guard a service.

        Args:
            service: its name.
            tokens: that open it.
            peers: addresses that may connect without one; None allows all, for where an ingress hides the peer.
        """
        self._service = service
        self._tokens = tokens
        self.peers = peers

    def admits(self, address: str | None) -> bool:
        """Tell at once of a connection that needs no second look; others go to ``refusal``."""
        return not self._tokens.any and self.knows(address)

    def knows(self, address: str | None) -> bool:
        """Tell whether an address may connect without a token."""
        return self.peers is None or address is None or address in self.peers

    def token_refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Return why a request for predictions on a connection of a known address is refused; None where it is not."""
        return self._without_token(_bearer(headers), inside=False) if self._tokens.requests is not None else None

    async def refusal(
        self, address: str | None, path: str, headers: Iterable[tuple[bytes, bytes]], method: str = "GET"
    ) -> Refusal | None:
        """Return status and reason of a request that is refused, or None where it may go on.

        Args:
            address: of who is connected; None where it is not known, as over a Unix socket.
            path: what follows the service's prefix.
            headers: of the request, names in lower case.
            method: of the request.
        """
        shown = _bearer(headers)
        known = self.knows(address)
        if not known and self._opened_by(shown):
            known = True
        elif not known and isinstance(self.peers, Peers):
            known = await self.peers.asked_again(str(address))
        if not known:
            return 403, f"'{address}' is no node of this cluster; use the ingress, or send the token."
        if path in OPEN and method in ("GET", "HEAD"):
            return None
        return self._without_token(shown, inside=path in INSIDE)

    def _without_token(self, shown: bytes | None, *, inside: bool) -> Refusal | None:
        tokens = self._tokens
        needed = (tokens.administration or tokens.requests) if inside else tokens.requests
        if needed is None or _same(shown, needed) or _same(shown, tokens.administration):
            return None
        what = "for administration" if inside and tokens.administration is not None else "for requests"
        if self._opened_by(shown):
            return 403, f"this page of '{self._service}' needs the token {what}."
        said = "send" if shown is None else "the one sent is wrong; send"
        return 401, f"service '{self._service}' needs a token {what}: {said} 'Authorization: Bearer TOKEN'."

    def _opened_by(self, shown: bytes | None) -> bool:
        """Tell whether a token is one of this service's; every one is compared, so that time tells nothing."""
        return _same(shown, self._tokens.requests) | _same(shown, self._tokens.administration)


def refuse_open_host(host: str, loopback: Collection[str], access: AccessConfig) -> None:
    """Raise ``ConfigError`` for an address that others can reach, where requests need no token."""
    if host not in loopback and access.token_file is None:
        raise ConfigError(
            f"service.host '{host}' can be reached from other machines, and requests need no token. Keep 127.0.0.1, or"
            f" set service.access.token_file to a file with a token: {_MAKE.format(path='FILE')}"
        )


def _read(path: str | None, key: str) -> bytes | None:
    if path is None:
        return None
    make = f"Make one: {_MAKE.format(path=path)}"
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    except FileNotFoundError as error:
        raise NotFoundError(f"service.access.{key} '{path}' does not exist. {make}") from error
    except OSError as error:
        raise ConfigError(f"service.access.{key} '{path}' cannot be read: {error.strerror}. {make}") from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise ConfigError(f"service.access.{key} '{path}' is no plain file of your own. {make}")
        if found.st_mode & 0o077:
            raise ConfigError(
                f"service.access.{key} '{path}' has mode {stat.S_IMODE(found.st_mode):04o}, so that others on this"
                f" machine can read it; it must be 0600: chmod 600 {path}"
            )
        text = os.read(file, 4096).decode("ascii", "replace").strip()
    finally:
        os.close(file)
    if len(text) < SHORTEST or not _TOKEN.fullmatch(text):
        raise ConfigError(
            f"service.access.{key} '{path}' must hold one token of at least {SHORTEST} letters, digits and '-._~+/='."
            f" {make}"
        )
    return text.encode("ascii")


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else None
    return None


def _same(shown: bytes | None, token: bytes | None) -> bool:
    """Compare in constant time."""
    return shown is not None and token is not None and hmac.compare_digest(shown, token)
