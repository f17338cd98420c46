"""The paths of other protocols that ask for predictions, by method and path: read, answered by one door, and written.

``POST /NAME/v2/models/NAME[/versions/V]/infer`` is the Open Inference Protocol's, ``POST /NAME/invocations`` MLflow's.
A request that is none gets 400, one with a bad value 422, both with the reason under ``error``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec

from rayline.errors import NotFoundError, RowError
from rayline.serving import invocations, oip, oip_answer, protocol
from rayline.serving.served import Served

Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]
Headers = dict[bytes, str]

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows that were answered and counted: one record each, and the request's id."""

    records: list[dict[str, Any]]
    request_id: str


Choose = Callable[[Headers, str | None], Served]
"""Chooses the version of a request by its headers and the version that its path names. Raises ``NotFoundError``."""

Ask = Callable[[Served, list[protocol.Row], float], Awaitable[Answered | Reply]]
"""Answers decoded rows with a version, since a moment of ``perf_counter``; or gives the reply of a failure.

Raises ``RowError``.
"""


@dataclass(frozen=True, slots=True)
class Routes:
    """The other protocols of one service.

    Attributes:
        service: its name.
        max_rows: per request.
        choose: gives the version that answers.
        ask: answers rows.
    """

    service: str
    max_rows: int
    choose: Choose
    ask: Ask

    def takes(self, path: str) -> bool:
        """Tell whether a path, after the service's prefix, takes a POST of rows."""
        return path == "/invocations" or (path.startswith("/v2/models/") and path.endswith("/infer"))

    async def answer(self, path: str, headers: Headers, body: bytes) -> Reply:
        """Answer a POST on a path that is taken.

        Raises:
            ServiceError: no version is loaded.
        """
        began = perf_counter()
        if "content-encoding" in (each.decode("latin-1") for each in headers):
            return problem(415, "a body must not be compressed here; leave Content-Encoding out.")
        try:
            if path == "/invocations":
                return await self._invocations(headers, body, began)
            return await self._infer(path, headers, body, began)
        except NotFoundError as error:
            return problem(404, str(error))
        except RowError as error:
            return 400 if error.column is None else 422, protocol.encode(protocol.refusal(error)), [_JSON]

    async def _infer(self, path: str, headers: Headers, body: bytes, began: float) -> Reply:
        served = self.choose(headers, self._version(path))
        features = served.bundle.features
        shapes = {name: features.schema.column(name).shape or () for name in served.columns}
        asked = oip.read(body, headers.get(oip.HEADER), shapes, self.max_rows)
        oip_answer.refuse_unknown_outputs(asked, features.classes)
        answered = await self.ask(served, asked.rows, began)
        if not isinstance(answered, Answered):
            return answered
        facts = {
            "model_name": self.service,
            "model_version": str(served.live.number),
            "parameters": {"request_id": answered.request_id},
        }
        written = oip_answer.write(asked, answered.records, features.classes, facts)
        told = _told(served, answered, written.content_type)
        if written.head_length is not None:
            told.append((oip.HEADER, b"%d" % written.head_length))
        return 200, written.body, told

    async def _invocations(self, headers: Headers, body: bytes, began: float) -> Reply:
        kind, *settings = [part.strip().lower() for part in headers.get(b"content-type", "").split(";")]
        if any(setting not in ("", "charset=utf-8") for setting in settings):
            return problem(415, f"content type parameters {settings} are not served; send UTF-8.")
        served = self.choose(headers, None)
        if kind == "text/csv":
            schema = served.bundle.features.schema
            numbers = [name for name in served.columns if schema.column(name).kind == "numeric"]
            rows = invocations.read_csv(body, numbers, self.max_rows)
        elif kind in ("application/json", ""):
            rows = invocations.read_json(body, self.max_rows)
        else:
            return problem(415, f"content type '{kind}' is not served; send application/json or text/csv.")
        answered = await self.ask(served, rows, began)
        if not isinstance(answered, Answered):
            return answered
        return 200, _encode(invocations.predictions(answered.records)), _told(served, answered, oip_answer.JSON)

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


def _told(served: Served, answered: Answered, content_type: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", content_type),
        (b"x-rayline-version", served.number_text),
        (b"x-request-id", answered.request_id.encode("ascii")),
    ]
