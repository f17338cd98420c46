"""The short way into a replica: middleware that Serve puts before its own handling of each HTTP request.

Serve wraps every request in tasks, queues, contexts and metrics of its own, which costs more than a prediction. Its
callback setting lets an ASGI middleware stand before that; here it answers the service's own paths at once and leaves
every other path, health checks included, to Serve. Where the setting is absent all goes through Serve, only slower.
"""

from __future__ import annotations

import os
from typing import Any

from rayline.serving.http.endpoint import Endpoint, Message, Receive, Send
from rayline.serving.load import LoopLag

IMPORT_PATH = "rayline.serving.http.frontdoor:middlewares"

_endpoint: Endpoint | None = None
lag = LoopLag()
"""Of the loop that answers in this process."""


def open_for(endpoint: Endpoint) -> None:
    """Answer the endpoint's paths in this process from now on."""
    global _endpoint
    _endpoint = endpoint


class FrontDoor:
    """ASGI middleware of a replica: its endpoint first, then Serve."""

    def __init__(self, app: Any, endpoint: Endpoint) -> None:
        self._app = app
        self._endpoint = endpoint

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if not lag.started:
            lag.start()
        if scope["type"] == "http" and self._endpoint.owns(scope["path"]):
            await self._endpoint(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class OneRequestId:
    """ASGI middleware of Serve's own proxy, the plain ingress and HAProxy's last resort.

    The proxy gives each answer an id of its own beside the service's; the service's is kept.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand on, and keep the first id."""

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _first_id(message.get("headers", []))
            await send(message)

        await self._app(scope, receive, send_once)


def middlewares() -> list[Any]:
    """Return what Serve's callback setting asks for: nothing in the replicas of other applications."""
    from starlette.middleware import Middleware

    if _endpoint is not None:
        return [Middleware(FrontDoor, endpoint=_endpoint)]
    return [] if _in_replica() else [Middleware(OneRequestId)]


def _in_replica() -> bool:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True


def requests_come_direct() -> bool:
    """Tell whether the ingress connects to the replicas themselves, as HAProxy does, and not to a proxy process."""
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"


def _first_id(headers: Any) -> list[Any]:
    kept, seen = [], False
    for name, value in headers:
        if name.lower() == b"x-request-id":
            if seen:
                continue
            seen = True
        kept.append((name, value))
    return kept
