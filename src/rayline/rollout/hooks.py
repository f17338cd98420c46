"""Hooks: how those are told who want to hear what a rollout does.

What a hook is told lies in the state as a note from the moment of the decision, so that a crash loses none; ``id`` is
the same however often it is sent, for receivers that must not act twice. A Python function runs in a thread of the
controller's process, so its module must be importable there (on a cluster: in the image or the runtime environment).
One that does not return in time is given up, and its thread is left to itself.
"""

from __future__ import annotations

import importlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from rayline.config import HookConfig
from rayline.errors import ServiceError

Body = Mapping[str, str | int | float]


def tell(hook: HookConfig, body: Body) -> None:
    """Tell one hook what happened: a POST of JSON that must be answered with 2xx, or a call of a function.

    Raises:
        ServiceError: it cannot be reached or found, took longer than its timeout, or failed.
    """
    if hook.webhook is not None:
        _post(hook.webhook, body, hook.timeout)
    else:
        assert hook.function is not None
        function = imported(hook.function, "hook")
        within(hook.timeout, lambda: function(dict(body)), f"hook '{hook.function}'")


def name_of(hook: HookConfig) -> str:
    """Return what a hook is called in messages: its address or function."""
    return hook.webhook or hook.function or ""


def imported(path: str, kind: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names. Raises ``ServiceError`` where there is none."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise ServiceError(
            f"{kind} '{path}' cannot be imported where the controller runs: {error}. Its module must lie on the "
            "PYTHONPATH of the cluster's workers."
        ) from error
    if not callable(found):
        raise ServiceError(f"{kind} '{path}' is {type(found).__name__}; it must be a function.")
    called: Callable[..., Any] = found
    return called


def within(seconds: float, work: Callable[[], Any], what: str) -> Any:
    """Return what ``work`` gives in a thread of its own, within ``seconds``.

    Raises:
        ServiceError: it took longer, or raised.
    """
    outcome: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything
            errors.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors and isinstance(errors[0], ServiceError):
        raise errors[0]
    if errors:
        raise ServiceError(f"{what} failed: {type(errors[0]).__name__}: {errors[0]}.") from errors[0]
    if not outcome:
        raise ServiceError(f"{what} did not return within {seconds:g} s.")
    return outcome[0]


def _post(address: str, body: Body, timeout: float) -> None:
    request = urllib.request.Request(
        address,
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "idempotency-key": str(body["id"])},
        method="POST",
    )

    def send() -> int:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                raise ServiceError(f"webhook '{address}' answered {error.code}.") from None

    # A server that sends a byte now and then would outlive the socket's own timeout.
    within(timeout, send, f"webhook '{address}'")
