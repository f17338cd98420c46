"""The paths of other protocols that ask for predictions, by method and path: read, answered by one door, and written.

``POST /NAME/v2/models/NAME[/versions/V]/infer`` is the Open Inference Protocol's, ``POST /NAME/invocations`` MLflow's.
A request that is none gets 400, one with a bad value 422, both with the reason under ``error``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rayline.errors import NotFoundError, RowError
from rayline.serving.versions.answering import Finished, Result
from rayline.serving.versions.batching import Rows
from rayline.serving.versions.served import Served
from rayline.serving.wire import invocations, oip, oip_answer, protocol

Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]
HeaderValues = dict[bytes, str]

_JSON = (b"content-type", b"application/json")
INLINE_BYTES = 32 * 1024


Choose = Callable[[HeaderValues, str | None], tuple[Served, str | None]]
"""Gives version and session of a request by its headers and the version that its path names; see ``Host.choose``."""

Answer = Callable[[Served, Rows | Callable[[], Rows], float, str | None], Awaitable[Result]]
"""See ``Answering.answered``."""

Fail = Callable[[Served, Result], Reply]
"""Gives the reply to a request that failed for no fault of its own."""


@dataclass(frozen=True, slots=True)
class Routes:
    """The other protocols of one service.

    Attributes:
        service: its name.
        max_rows: per request.
        choose: gives the version that answers.
        answer: answers rows.
        fail: writes a failure.
    """

    service: str
    max_rows: int
    choose: Choose
    answer: Answer
    fail: Fail

    def takes(self, path: str) -> bool:
        """Tell whether a path, after the service's prefix, takes a POST of rows."""
        return path == "/invocations" or (path.startswith("/v2/models/") and path.endswith("/infer"))

    async def reply(self, path: str, headers: HeaderValues, body: bytes, began: float) -> Reply:
        """Answer a POST on a path that is taken, which came at ``began`` of ``time.perf_counter``.

        Raises:
            ServiceError: no version is loaded.
        """
        if b"content-encoding" in headers:
            return problem(415, "a body must not be compressed here; leave Content-Encoding out.")
        try:
            if path == "/invocations":
                return await self._invocations(headers, body, began)
            return await self._infer(path, headers, body, began)
        except NotFoundError as error:
            return problem(404, str(error))
        except RowError as error:
            return 400 if error.column is None else 422, protocol.encode(protocol.refusal(error)), [_JSON]

    async def _infer(self, path: str, headers: HeaderValues, body: bytes, began: float) -> Reply:
        served, session = self.choose(headers, self._version(path))
        features = served.bundle.features
        shapes = {name: features.schema.column(name).shape or () for name in served.columns}
        read: list[oip.Asked] = []

        def rows() -> Rows:
            asked = oip.read(body, headers.get(oip.HEADER), shapes, self.max_rows)
            oip_answer.refuse_unknown_outputs(asked, features.classes)
            read.append(asked)
            return asked.rows

        finished = await self._finished(served, rows, body, began, session)
        if not isinstance(finished, Finished):
            return self.fail(served, finished)
        facts = {
            "model_name": self.service,
            "model_version": str(served.live.number),
            "parameters": {"request_id": finished.request_id},
        }
        written = oip_answer.write(read[0], finished.predictions, facts)
        told = _told(finished, written.content_type)
        if written.head_length is not None:
            told.append((oip.HEADER, b"%d" % written.head_length))
        return 200, written.body, told

    async def _invocations(self, headers: HeaderValues, body: bytes, began: float) -> Reply:
        kind, *settings = [part.strip().lower() for part in headers.get(b"content-type", "").split(";")]
        if any(setting not in ("", "charset=utf-8") for setting in settings):
            return problem(415, f"content type parameters {settings} are not served; send UTF-8.")
        if kind not in ("application/json", "text/csv", ""):
            return problem(415, f"content type '{kind}' is not served; send application/json or text/csv.")
        served, session = self.choose(headers, None)
        schema = served.bundle.features.schema

        def rows() -> Rows:
            if kind != "text/csv":
                return invocations.read_json(body, self.max_rows)
            numbers = [name for name in served.columns if schema.column(name).kind == "numeric"]
            return invocations.read_csv(body, numbers, self.max_rows)

        finished = await self._finished(served, rows, body, began, session)
        if not isinstance(finished, Finished):
            return self.fail(served, finished)
        answer = protocol.encode(invocations.predictions(finished.predictions.records()))
        return 200, answer, _told(finished, oip_answer.JSON)

    async def _finished(
        self, served: Served, rows: Callable[[], Rows], body: bytes, began: float, session: str | None
    ) -> Result:
        """Answer a body's rows; a large one is read on a thread. Raises ``RowError``."""
        ready = rows() if len(body) <= INLINE_BYTES else rows
        finished = await self.answer(served, ready, began, session)
        if isinstance(finished, RowError):
            raise finished
        return finished

    def _version(self, path: str) -> str | None:
        """Return the version that a path names, or None. Raises ``NotFoundError`` where it is another model's."""
        name, *rest = path.removeprefix("/v2/models/").removesuffix("/infer").split("/")
        if name != self.service:
            raise NotFoundError(f"this service is '{self.service}', not '{name}'.")
        if not rest:
            return None
        if len(rest) != 2 or rest[0] != "versions":
            raise NotFoundError(f"service '{self.service}' has no path '{path}'.")
        return rest[1]


def problem(status: int, message: str) -> Reply:
    """Return a refusal."""
    return status, protocol.encode(protocol.problem(message)), [_JSON]


def _told(finished: Finished, content_type: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", content_type),
        (b"x-rayline-version", finished.served.number_text),
        (b"x-request-id", finished.request_id.encode("ascii")),
    ]
