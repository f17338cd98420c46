"""One replica's ASGI application on real bundles, without Ray, and a client for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_examples import array_bundle
from rayline.serving.host import Host
from rayline.serving.http.access import Tokens
from rayline.serving.http.endpoint import Endpoint
from rayline.serving.records.feedback import Answers, Feedback, FeedbackLog
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.versions.answering import Limits
from registry_examples import make_bundle, mixed_table, real_table

TAG = "00c0ffee"
NO_TOKENS = Tokens()
LIMITS = Limits(max_rows=100)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class App:
    """One replica's application and what it needs."""

    def __init__(
        self,
        folder: Path,
        task: str,
        limits: Limits = LIMITS,
        *,
        tokens: Tokens = NO_TOKENS,
        peers: Any = frozenset({"127.0.0.1"}),
    ) -> None:
        if task == "arrays":
            self.bundles = [array_bundle(folder / str(seed), seed) for seed in (1, 2)]
        else:
            table = mixed_table() if task == "mixed" else real_table(task)
            self.bundles = [make_bundle(folder / str(seed), table, seed=seed) for seed in (1, 2)]
        live = [LiveVersion(n, str(each.path), each.digest) for n, each in enumerate(self.bundles, start=1)]
        self.host = Host("churn", on_change=lambda: None)
        self.plan = TrafficPlan.first("churn", live[0]).adding(live[1]).weighing(1, {1: 50, 2: 50})
        self.host.apply(self.plan, wait=True)
        self.log = FeedbackLog(folder / "feedback.jsonl")
        self.passed_on: list[tuple[Any, ...]] = []
        answers = Answers(TAG)
        self.endpoint = Endpoint(
            "churn",
            self.host,
            answers,
            Feedback(self.host, answers, self.log, TAG),
            pass_on=lambda *truth: self.passed_on.append(truth),
            limits=limits,
            peers=peers,
            tokens=tokens,
        )
        self.rows = [dict(row) for row in self.bundles[0].example]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        client: str = "127.0.0.1",
        parts: int = 1,
    ) -> Reply:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return asyncio.run(send(self.endpoint, method, path, raw, headers or {}, client, parts))

    def predict(self, rows: object, **headers: str) -> Reply:
        return self.ask(
            "POST", "/churn/predict", {"rows": rows}, {key.replace("_", "-"): value for key, value in headers.items()}
        )


async def send(app: Any, method: str, path: str, raw: bytes, headers: dict[str, str], client: str, parts: int) -> Reply:
    step = max(1, -(-len(raw) // parts))
    pieces = [raw[start : start + step] for start in range(0, len(raw), step)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": (client, 12345),
        "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
    }
    await app(scope, receive, keep)
    start, *bodies = sent
    found = [(key.decode(), value.decode()) for key, value in start["headers"]]
    assert len({key.lower() for key, _ in found}) == len(found), "a header came twice"
    body = b"".join(each.get("body", b"") for each in bodies)
    assert dict(found)["content-length"] == str(len(body))
    return Reply(start["status"], dict(found), body)
