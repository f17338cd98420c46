"""The HTTP of a service as a raw ASGI application: one replica's door to the world.

It reads and writes HTTP; what lies between, and is the same for every protocol, is ``answering``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from rayline.errors import EnvironmentFailed, NotFoundError, Overloaded, RowError, ServiceError
from rayline.serving.host import Host
from rayline.serving.http.access import NO_TOKENS, Access, Tokens
from rayline.serving.http.fastlane import Connection, Headers, take_over
from rayline.serving.http.onewrite import respond
from rayline.serving.http.routes import HeaderValues, Routes
from rayline.serving.records.feedback import Answers, Feedback, PassOn, RequestId
from rayline.serving.versions.answering import Answering, Finished, Limits, Result
from rayline.serving.versions.batching import Rows
from rayline.serving.versions.served import Served
from rayline.serving.wire import about, protocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]

INLINE_BYTES = 32 * 1024

_JSON = (b"content-type", b"application/json")
_SESSION, _PIN = b"x-session-id", b"x-rayline-version"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that can be answered: by which version, its rows or what decodes them, and its sticky key."""

    served: Served
    rows: Rows | Callable[[], Rows]
    session: str | None


class Endpoint:
    """The ASGI application of one replica."""

    def __init__(
        self,
        service: str,
        host: Host,
        answers: Answers,
        feedback: Feedback,
        *,
        pass_on: PassOn,
        peers: Collection[str] | None,
        limits: Limits | None = None,
        tokens: Tokens = NO_TOKENS,
    ) -> None:
        """Serve under ``/service``.

        Args:
            service: its name.
            host: the live versions.
            answers: remembers what was answered.
            feedback: joins late truth.
            pass_on: hands truth to the replica that gave the answer.
            peers: addresses that may connect; None allows all, for where an ingress hides the peer.
            limits: what the replica takes on.
            tokens: what requests must carry.
        """
        self.service = service
        self.prefix = f"/{service}"
        self._host = host
        self._feedback = feedback
        self._pass_on = pass_on
        self._access = Access(service, tokens, peers)
        self._secured = tokens.requests is not None
        self.limits = limits or Limits()
        self.inline_bytes = min(INLINE_BYTES, self.limits.max_body)
        self.answering = Answering(service, answers, self.limits)
        self._routes = Routes(service, self.limits.max_rows, self._choose_by, self.answering.answered, self.reply)
        self.predict_path = f"{self.prefix}/predict"
        self._feedback_path = f"{self.prefix}/feedback"

    def owns(self, path: str) -> bool:
        """Tell whether a path belongs to this service."""
        return path.startswith(self.prefix) and (len(path) == len(self.prefix) or path[len(self.prefix)] == "/")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"service '{self.service}' speaks HTTP, not {scope['type']}.")
        began = perf_counter()
        client = scope.get("client")
        address = None if client is None else client[0]
        refused = None if self._access.admits(address) else await self._refusal(address, scope)
        try:
            if refused is not None:
                status, body, headers = refused
            elif scope["path"] == self.predict_path:
                status, body, headers = await self._predict(scope, receive, began)
            else:
                status, body, headers = await self._other(scope, receive)
        except Overloaded as error:
            status, body, headers = self._busy(error)
        headers.append((b"content-length", b"%d" % len(body)))
        await respond(send, status, headers, body)
        if scope["path"] == self.predict_path and refused is None and self._access.knows(address):
            take_over(self, send)

    async def _refusal(self, address: str | None, scope: Message) -> Reply | None:
        path = scope["path"][len(self.prefix) :]
        refused = await self._access.refusal(address, path, scope["headers"], scope["method"])
        return None if refused is None else self._no_entry(*refused)

    def _no_entry(self, status: int, reason: str) -> Reply:
        status, body, headers = self._problem(status, reason)
        challenge = [(b"www-authenticate", f'Bearer realm="{self.service}"'.encode())] if status == 401 else []
        return status, body, [*headers, *challenge]

    async def _predict(self, scope: Message, receive: Receive, began: float) -> Reply:
        if scope["method"] != "POST":
            return self._method_not_allowed("POST")
        try:
            body = await self._body(receive)
        except RowError as error:
            return self._problem(413, str(error))
        asked = self._asked(scope["headers"], body)
        if not isinstance(asked, _Asked):
            return asked
        result = await self.answering.answered(asked.served, asked.rows, began, asked.session)
        return self.reply(asked.served, result)

    def predict(self, headers: Headers, body: bytes, connection: Connection) -> None:
        """Answer a small predict request on a connection that was taken over."""
        began = perf_counter()
        # A connection may carry the requests of several clients of the ingress, so each shows its own token.
        no_entry = self._access.token_refusal(headers)
        asked: _Asked | Reply | Overloaded | None = self._no_entry(*no_entry) if no_entry else self.answering.refused()
        if asked is None:
            asked = self._asked(headers, body)
        if isinstance(asked, _Asked):
            served = asked.served
            tell = partial(self._told_to, connection, served)
            connection.waits(self.answering.ask(served, asked.rows, began, asked.session, tell))  # type: ignore[arg-type]
        else:
            connection.answer(*(asked if isinstance(asked, tuple) else self._busy(asked)))

    def _asked(self, headers: Headers, body: bytes) -> _Asked | Reply:
        """Choose the version and decode the rows; or say why not."""
        session = pinned = None
        for name, value in headers:
            if name == _SESSION:
                session = value.decode("latin-1")
            elif name == _PIN:
                pinned = value.decode("latin-1")
        try:
            served = self._host.choose(session, pinned, headers)
        except NotFoundError as error:
            return self._problem(404, str(error), live=list(self._host.table.versions))
        except ServiceError as error:
            return self._problem(503, str(error))
        if len(body) > INLINE_BYTES:
            return _Asked(served, partial(served.decode, body, self.limits.max_rows), session)
        try:
            return _Asked(served, served.decode(body, self.limits.max_rows), session)
        except RowError as error:
            return self.reply(served, error)

    def _told_to(self, connection: Connection, served: Served, result: Result) -> None:
        connection.answer(*self.reply(served, result))

    def reply(self, served: Served, result: Result) -> Reply:
        """Return the HTTP of an answered or refused request: status, body and headers without its length."""
        version = (b"x-rayline-version", served.number_text)
        if isinstance(result, Finished):
            id_text = result.request_id.encode("ascii")
            records = served.encoder.encode(result.predictions)
            payload = b'%b%b","predictions":%b}' % (served.prefix, id_text, records)
            return 200, payload, [_JSON, version, (b"x-request-id", id_text)]
        if isinstance(result, RowError):
            return 422, protocol.encode(protocol.refusal(result)), [_JSON, version]
        if isinstance(result, EnvironmentFailed):  # this replica's load or the online store's fault
            status, body, headers = self._busy(result)
            return status, body, [*headers, version]
        problem = f"version {served.live.number} of '{self.service}' failed: {result}"
        status, body, headers = self._problem(500, problem)
        return status, body, [*headers, version]

    def _busy(self, error: EnvironmentFailed) -> Reply:
        status, body, headers = self._problem(503, str(error))
        retry = [(b"retry-after", b"%d" % error.retry_after)] if isinstance(error, Overloaded) else []
        return status, body, [*headers, *retry]

    async def _other(self, scope: Message, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if path == self._feedback_path:
            if method != "POST":
                return self._method_not_allowed("POST")
            try:
                body = await self._body(receive)
            except RowError as error:
                return self._problem(413, str(error))
            return self._told(body)
        if not self.owns(path):
            return self._problem(404, f"'{path}' is not under '{self.prefix}'.")
        if self._routes.takes(path[len(self.prefix) :]):
            return await self._routed(scope, receive, path[len(self.prefix) :])
        if method not in ("GET", "HEAD"):
            return self._method_not_allowed("GET")
        status, facts = about.answer(
            self.service,
            self._host,
            path[len(self.prefix) :],
            max_rows=self.limits.max_rows,
            secured=self._secured,
        )
        return status, protocol.encode(facts), [_JSON]

    async def _routed(self, scope: Message, receive: Receive, path: str) -> Reply:
        began = perf_counter()
        if scope["method"] != "POST":
            return self._method_not_allowed("POST")
        try:
            body = await self._body(receive)
        except RowError as error:
            return self._problem(413, str(error))
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            return await self._routes.reply(path, headers, body, began)
        except ServiceError as error:
            return self._problem(503, str(error))

    def _choose_by(self, headers: HeaderValues, pinned: str | None) -> tuple[Served, str | None]:
        session = headers.get(_SESSION)
        return self._host.choose(session, pinned if pinned is not None else headers.get(_PIN)), session

    def _told(self, body: bytes) -> Reply:
        try:
            truth = protocol.decode_feedback(body)
            outcome = self._feedback.join(truth.request_id, truth.labels)
        except RowError as error:
            return 422, protocol.encode(protocol.refusal(error)), [_JSON]
        except ServiceError as error:
            return self._problem(503, str(error))
        if outcome == "elsewhere":
            parts = RequestId.parse(truth.request_id)
            assert parts is not None
            self._pass_on(parts.replica, truth.request_id, truth.labels)
            return 202, protocol.encode({"request_id": truth.request_id, "status": "passed on"}), [_JSON]
        return 200, protocol.encode({"request_id": truth.request_id, "status": outcome}), [_JSON]

    async def _body(self, receive: Receive) -> bytes:
        """Return a request's body. Raises ``RowError`` where it is too large, ``Overloaded`` where it is too slow."""
        parts: list[bytes] = []
        size, limit = 0, self.limits.max_body
        try:
            async with asyncio.timeout(self.limits.timeout):
                while size <= limit:
                    message = await receive()
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if not message.get("more_body", False) and size <= limit:
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError as error:
            raise Overloaded(f"the body did not come within {self.limits.timeout:g} s; send it again.") from error
        raise RowError(0, None, size, f"bytes were sent, and a body may have {limit}")

    def _method_not_allowed(self, allowed: str) -> Reply:
        status, body, headers = self._problem(405, f"this path takes {allowed}.")
        return status, body, [*headers, (b"allow", allowed.encode("ascii"))]

    def _problem(self, status: int, message: str, **facts: Any) -> Reply:
        return status, protocol.encode(protocol.problem(message, **facts)), [_JSON]


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
