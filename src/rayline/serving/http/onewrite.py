"""An answer in one write: head and body reach the ingress together or not at all.

ASGI sends them apart, and the server puts each on the wire as it comes. The ingress wakes on the head and takes the
processor; a replica that dies in that moment has begun an answer, which the ingress may not ask another replica for.
Held back until both are there, a request in flight is either unanswered, and asked again, or answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer. Where the server's transport cannot be reached, head and body go apart as ASGI has it."""
    start = {"type": "http.response.start", "status": status, "headers": headers}
    rest = {"type": "http.response.body", "body": body}
    cycle = getattr(send, "__self__", None)  # uvicorn's: it writes to its attribute ``transport``
    transport = getattr(cycle, "transport", None)
    if cycle is None or not callable(getattr(transport, "write", None)):
        await send(start)
        await send(rest)
        return
    held = _Held(transport)
    cycle.transport = held
    try:
        await send(start)
        await send(rest)
    finally:
        cycle.transport = transport
        held.release()


class _Held:
    """A transport that keeps what is written until it is released."""

    __slots__ = ("_parts", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def close(self) -> None:
        self.release()
        self._transport.close()

    def release(self) -> None:
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
