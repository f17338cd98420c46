"""The short way into a replica: middleware that Serve puts before its own handling of each HTTP request.

Serve wraps every request in tasks, queues, contexts and metrics of its own, which costs more than a prediction. Its
callback setting lets an ASGI middleware stand before that; here it answers the service's own paths at once and leaves
every other path, health checks included, to Serve. Where the setting is absent all goes through Serve, only slower.
"""

from __future__ import annotations

from typing import Any

from rayline.serving.endpoint import Endpoint, Message, Receive, Send

IMPORT_PATH = "rayline.serving.frontdoor:middlewares"

_endpoint: Endpoint | None = None


def open_for(endpoint: Endpoint) -> None:
    """Answer the endpoint's paths in this process from now on."""
    global _endpoint
    _endpoint = endpoint


class FrontDoor:
    """ASGI middleware: the endpoint of this process first, then Serve."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        endpoint = _endpoint
        if endpoint is not None and scope["type"] == "http" and endpoint.owns(scope["path"]):
            await endpoint(scope, receive, send)
        else:
            await self._behind(scope, receive, send)

    async def _behind(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let Serve answer. Its own request id comes second where the service has given one."""

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _first_id(message.get("headers", []))
            await send(message)

        await self._app(scope, receive, send_once)


def middlewares() -> list[Any]:
    """Return what Serve's callback setting asks for."""
    from starlette.middleware import Middleware

    return [Middleware(FrontDoor)]


def _first_id(headers: Any) -> list[Any]:
    kept, seen = [], False
    for name, value in headers:
        if name.lower() == b"x-request-id":
            if seen:
                continue
            seen = True
        kept.append((name, value))
    return kept
