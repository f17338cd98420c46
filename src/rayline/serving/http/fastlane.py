"""A connection taken over from the HTTP server between two requests, for small predictions and nothing else.

uvicorn makes a task, a scope and an event of every request, which together cost more than the prediction. Once it has
answered the first request of a keep-alive connection, the connection is handed here by asyncio's own ``set_protocol``,
as a server does for WebSockets. What is not a plain, small ``POST`` to the predict path is handed back as it came,
unread, so that there is one full HTTP parser and this is none: every doubt goes to uvicorn. The listener stays the one
that Serve has opened: it places, heals, drains and scales the replica as before.

Where the server is not the one that is known here, nothing is taken over, and all is as without this file.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayline.serving.http.endpoint import Endpoint
    from rayline.serving.versions.batching import Waiting

SERVER = "uvicorn.protocols.http.httptools_impl"
_UNSET = "_unset_keepalive_if_required"
NEEDED = ("connections", "cycle", "pipeline", "scope", "server_state", "timeout_keep_alive", _UNSET)
MOST_HEAD = 16 * 1024
MOST_AHEAD = 64 * 1024  # bytes that are read before the request before them is answered

Headers = list[tuple[bytes, bytes]]

_TOKEN, _TEXT = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", rb"[^\x00-\x08\x0a-\x1f\x7f]*"
_HEAD = re.compile(rb"POST ([^ \r\n]+) HTTP/1\.1\r\n((?:%b:%b\r\n)+)" % (_TOKEN, _TEXT))
_LINE = re.compile(rb"(%b):[ \t]*(%b)\r\n" % (_TOKEN, _TEXT))
_NOT_HERE = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_STATUS = {each.value: b"HTTP/1.1 %d %b\r\n" % (each.value, each.phrase.encode("ascii")) for each in HTTPStatus}


def take_over(endpoint: Endpoint, send: Any) -> None:
    """Answer the next requests of the connection that ``send`` has just answered on, where that is possible."""
    cycle: Any = getattr(send, "__self__", None)
    transport: Any = getattr(cycle, "transport", None)
    if not callable(getattr(transport, "set_protocol", None)) or not getattr(cycle, "keep_alive", False):
        return
    server: Any = transport.get_protocol() if not transport.is_closing() else None
    if type(server).__module__ != SERVER or not all(hasattr(server, name) for name in NEEDED):
        return
    idle = server.cycle is cycle and cycle.response_complete and server.scope is cycle.scope and not server.pipeline
    if idle:
        Connection(endpoint, server, transport).begin()


def read_head(head: bytes, path: bytes) -> tuple[Headers, int] | None:
    """Return headers, names in lower case, and the length of the body of a plain request; None for any other.

    Args:
        head: from the method to the end of the last header's line.
        path: that it must ask for.
    """
    match = _HEAD.fullmatch(head)
    if match is None or match[1] != path:
        return None
    headers: Headers = []
    length = -1
    for name, text in _LINE.findall(match[2]):
        name = name.lower()
        if name in _NOT_HERE or (name == b"connection" and text.lower() != b"keep-alive"):
            return None
        if name == b"content-length":
            if length >= 0 or not text.isdigit() or len(text) > 9:
                return None
            length = int(text)
        headers.append((name, text))
    return (headers, length) if length >= 0 else None


class Connection(asyncio.Protocol):
    """One taken over connection. Its requests are answered one after the other."""

    def __init__(self, endpoint: Endpoint, server: Any, transport: asyncio.Transport) -> None:
        self._endpoint = endpoint
        self._server = server
        self._transport = transport
        self._path = endpoint.predict_path.encode("ascii")
        self._data = b""
        self._head: tuple[bytes, Headers, int] | None = None
        self._waiting: Waiting | None = None
        self._busy = False
        self._stepping = False
        self._held = False
        self._closing = False
        self._heard = perf_counter()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Take the place of the server's own protocol."""
        self._server._unset_keepalive_if_required()
        self._server.connections.discard(self._server)
        self._server.connections.add(self)
        self._transport.set_protocol(self)
        self._watch(self._server.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole, and keep what is not."""
        self._heard = perf_counter()
        self._data = self._data + data if self._data else data
        if not self._busy:
            self._go_on()
        elif len(self._data) > MOST_AHEAD:
            self._held = True
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        """Let the transport close, as the server does."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the request under way, and let the server clear up."""
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._endpoint.answering.forget(self._waiting)
            self._waiting = None
        self._server.connections.discard(self)
        self._server.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hear of nothing new while the client does not read."""
        self._server.pause_writing()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._server.resume_writing()
        self._transport.resume_reading()

    def shutdown(self) -> None:
        """Close, once the request under way is answered: the server asks this of its connections when it stops."""
        if self._busy:
            self._closing = True
        else:
            self._transport.close()

    def _go_on(self) -> None:
        """Begin what is whole, one request after the other; an answer at once must not call itself here."""
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._data and not self._busy and self._begun():
                pass
        finally:
            self._stepping = False

    def _begun(self) -> bool:
        """Begin the next request, and tell whether its bytes were there."""
        data = self._data
        end = data.find(b"\r\n\r\n")
        head = data[: end + 2] if 0 <= end <= MOST_HEAD else b""
        known = self._head
        if known is None or known[0] != head:  # a client's heads are mostly the same
            found = read_head(head, self._path)
            if found is None or found[1] > self._endpoint.inline_bytes:
                self._hand_back()
                return False
            known = self._head = (head, *found)
        start, stop = end + 4, end + 4 + known[2]
        if len(data) < stop:
            return False
        self._data = data[stop:]
        self._busy = True
        self._endpoint.predict(known[1], data[start:stop], self)
        return True

    def waits(self, waiting: Waiting) -> None:
        """Hear what is to be forgotten if the client hangs up."""
        self._waiting = waiting

    def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """Write an answer and begin the next request."""
        self._busy = False
        self._waiting = None
        lines = [_STATUS[status]]
        for name, value in (*self._server.server_state.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"content-length: %d\r\n%b\r\n" % (len(body), b"connection: close\r\n" if self._closing else b""))
        lines.append(body)
        self._transport.write(b"".join(lines))
        self._server.server_state.total_requests += 1
        if self._closing:
            self._transport.close()
            return
        if self._held:
            self._held = False
            self._transport.resume_reading()
        self._go_on()

    def _hand_back(self) -> None:
        """Let the server read what has come: it is no request for here."""
        if self._timer is not None:
            self._timer.cancel()
        data, self._data = self._data, b""
        self._server.connections.discard(self)
        self._server.connections.add(self._server)
        self._transport.set_protocol(self._server)
        self._server.data_received(data)

    def _watch(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Close where nothing was heard for as long as the server keeps a connection; one timer for many requests."""
        left = self._server.timeout_keep_alive - (perf_counter() - self._heard)
        if self._busy or left > 0:
            self._watch(max(left, 1.0))
        else:
            self._transport.close()
