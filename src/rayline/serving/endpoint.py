"""The HTTP of a service as a raw ASGI application: one replica's door to the world.

What is quick is answered on the event loop; what is slow (a large body, or rows that cost much by what the version was
measured to take) goes to a thread, so that one slow version does not hold up the answers of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from rayline.errors import EnvironmentFailed, NotFoundError, RowError, ServiceError
from rayline.serving import about, protocol
from rayline.serving.feedback import Answers, Feedback, PassOn, RequestId
from rayline.serving.host import Host
from rayline.serving.onewrite import respond
from rayline.serving.served import Served

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]
Rows = list[protocol.Row]
Work = tuple[bytes, list[Any]]
"""The encoded records of an answer, and its bare outcomes."""

INLINE_SECONDS = 0.003
INLINE_BYTES = 32 * 1024
SLOW_LIMIT = 128
SLOW_THREADS = 2

_JSON = (b"content-type", b"application/json")
_SESSION, _PIN = b"x-session-id", b"x-rayline-version"


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
        max_rows: int,
        peers: Collection[str] | None,
    ) -> None:
        """Serve under ``/service``.

        Args:
            service: its name.
            host: the live versions.
            answers: remembers what was answered.
            feedback: joins late truth.
            pass_on: hands truth to the replica that gave the answer.
            max_rows: per request.
            peers: addresses that may connect; None allows all, for where an ingress hides the peer.
        """
        self.service = service
        self.prefix = f"/{service}"
        self._host = host
        self._answers = answers
        self._feedback = feedback
        self._pass_on = pass_on
        self._max_rows = max_rows
        self.peers = peers
        self._predict_path = f"{self.prefix}/predict"
        self._feedback_path = f"{self.prefix}/feedback"
        self._slow = ThreadPoolExecutor(SLOW_THREADS, thread_name_prefix="rayline-slow")
        self._slow_pending = 0

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
        if self.peers is not None and client is not None and client[0] not in self.peers:
            status, body, headers = self._problem(403, f"'{client[0]}' is no node of this cluster; use the ingress.")
        elif scope["path"] == self._predict_path:
            status, body, headers = await self._predict(scope, receive, began)
        else:
            status, body, headers = await self._other(scope, receive)
        headers.append((b"content-length", b"%d" % len(body)))
        await respond(send, status, headers, body)

    async def _predict(self, scope: Message, receive: Receive, began: float) -> Reply:
        if scope["method"] != "POST":
            return self._method_not_allowed("POST")
        session = pinned = None
        for name, value in scope["headers"]:
            if name == _SESSION:
                session = value.decode("latin-1")
            elif name == _PIN:
                pinned = value.decode("latin-1")
        try:
            body = await _body(receive)
            served = self._host.choose(session, pinned, scope["headers"])
        except NotFoundError as error:
            return self._problem(404, str(error), live=list(self._host.table.versions))
        except ServiceError as error:
            return self._problem(503, str(error))
        except RowError as error:
            return self._problem(413, str(error))
        return await self._answer(served, body, began)

    async def _answer(self, served: Served, body: bytes, began: float) -> Reply:
        asked: bytes | Rows = body
        if len(body) <= INLINE_BYTES:
            try:
                asked = protocol.decode_rows(body, self._max_rows)
            except RowError as error:
                return self._reply(served, error, began)
            if served.seconds(len(asked)) <= INLINE_SECONDS:
                return self._reply(served, self._work(served, asked), began)
        if self._slow_pending >= SLOW_LIMIT:
            return self._problem(503, f"service '{self.service}' has {SLOW_LIMIT} slow requests waiting; try again.")
        self._slow_pending += 1
        try:
            work = await asyncio.get_running_loop().run_in_executor(self._slow, self._work, served, asked)
        finally:
            self._slow_pending -= 1
        return self._reply(served, work, began)

    def _work(self, served: Served, asked: bytes | Rows) -> Work | Exception:
        """Do what may be slow: it touches nothing that is shared, so that a thread can run it."""
        try:
            rows = protocol.decode_rows(asked, self._max_rows) if isinstance(asked, bytes) else asked
            answer = served.predict(rows)
        except Exception as error:  # noqa: BLE001 - a version at fault is counted and must not end the replica
            return error
        return protocol.encode(answer.records), answer.outcomes

    def _reply(self, served: Served, work: Work | Exception, began: float) -> Reply:
        number = served.live.number
        version = (b"x-rayline-version", served.number_text)
        if isinstance(work, RowError):
            return 422, protocol.encode(protocol.refusal(work)), [_JSON, version]
        if isinstance(work, EnvironmentFailed):  # the online store's fault, and not the version's
            status, body, headers = self._problem(503, str(work))
            return status, body, [*headers, version]
        if isinstance(work, Exception):
            served.counters.failed(perf_counter() - began)
            status, body, headers = self._problem(500, f"version {number} of '{self.service}' failed: {work}")
            return status, body, [*headers, version]
        records, outcomes = work
        request_id = self._answers.new_id(number)
        self._answers.remember(request_id, number, outcomes)
        id_text = request_id.encode("ascii")
        payload = b'%b%b","predictions":%b}' % (served.prefix, id_text, records)
        served.counters.answered(perf_counter() - began, outcomes, labelled=served.labelled)
        return 200, payload, [_JSON, version, (b"x-request-id", id_text)]

    async def _other(self, scope: Message, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if path == self._feedback_path:
            if method != "POST":
                return self._method_not_allowed("POST")
            try:
                body = await _body(receive)
            except RowError as error:
                return self._problem(413, str(error))
            return self._told(body)
        if not self.owns(path):
            return self._problem(404, f"'{path}' is not under '{self.prefix}'.")
        if method not in ("GET", "HEAD"):
            return self._method_not_allowed("GET")
        status, facts = about.answer(self.service, self._host, path[len(self.prefix) :])
        return status, protocol.encode(facts), [_JSON]

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

    def _method_not_allowed(self, allowed: str) -> Reply:
        status, body, headers = self._problem(405, f"this path takes {allowed}.")
        return status, body, [*headers, (b"allow", allowed.encode("ascii"))]

    def _problem(self, status: int, message: str, **facts: Any) -> Reply:
        return status, protocol.encode(protocol.problem(message, **facts)), [_JSON]


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _body(receive: Receive) -> bytes:
    """Return a request's body. Raises ``RowError`` where it is too large."""
    message = await receive()
    body: bytes = message.get("body", b"")
    parts, size = [body], len(body)
    while size <= protocol.MAX_BODY_BYTES:
        if not message.get("more_body", False):
            return body if len(parts) == 1 else b"".join(parts)
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    raise RowError(0, None, size, f"bytes were sent, and a body may have {protocol.MAX_BODY_BYTES}")
