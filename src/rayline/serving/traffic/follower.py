"""A replica's tie to the live state: a thread that polls, applies what it hears and gives counts in return."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from rayline.errors import RaylineError
from rayline.serving.host import Host
from rayline.serving.names import live_state_handle
from rayline.serving.records.feedback import Feedback
from rayline.serving.traffic.plan import TrafficPlan

RETRY_SECONDS = 0.1

_LOG = logging.getLogger(__name__)


class Follower:
    """Keeps one replica's host on the newest plan. A dead live state is waited for; the last plan is served on."""

    def __init__(self, service: str, replica: str, host: Host, me: Any, actor: str = "") -> None:
        """Follow the plan of a service.

        Args:
            service: its name.
            replica: this replica's name, which ends in its tag.
            host: what to keep up to date.
            me: the handle to this replica's actor.
            actor: the name that Ray knows that actor by.
        """
        self._service = service
        self._replica = replica
        self._host = host
        self._me = me
        self._round = 0
        self._stop = threading.Event()
        self._feedback: Feedback | None = None
        self._facts: Callable[[], dict[str, Any]] = dict
        self._received: list[int] = []
        self._actor = actor
        self._thread = threading.Thread(target=self._run, name="rayline-follower", daemon=True)

    def first_plan(self) -> None:
        """Apply the plan and wait until its versions are loaded; a new replica does so before it is ready.

        Raises:
            RaylineError: there is no plan, or the stable version cannot be loaded.
        """
        import ray

        state = live_state_handle(self._service)
        raw = ray.get(state.plan.remote())
        if raw is None:
            raise RaylineError(f"service '{self._service}' has no traffic plan.")
        plan = TrafficPlan.from_json(raw)
        self._host.apply(plan, wait=True)
        report = self._host.report()
        if str(plan.stable) not in report["loaded"]:
            why = report["failed"].get(str(plan.stable), "it was dropped while loading")
            raise RaylineError(f"the stable version {plan.stable} of '{self._service}' cannot be loaded: {why}")
        # Known before it is ready: no change of the plan is acknowledged without this replica.
        ray.get(state.report.remote(self._report(), self._me))

    def start(self, feedback: Feedback, facts: Callable[[], dict[str, Any]] = dict) -> None:
        """Begin to poll; truth passed on by other replicas goes to ``feedback``, and ``facts`` with each report."""
        self._feedback, self._facts = feedback, facts
        self._thread.start()

    def alive(self) -> bool:
        """Tell whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop polling after the poll under way."""
        self._stop.set()

    def tell(self) -> None:
        """Report at once, between polls: a version has loaded or failed."""
        self._quietly(lambda state: state.report.remote(self._report(), self._me))

    def pass_on(self, tag: str, request_id: str, labels: Sequence[Any]) -> None:
        """Hand truth to the replica with a tag. It is stored here already, so that nobody waits for its arrival."""
        self._quietly(lambda state: state.pass_on.remote(tag, request_id, list(labels)))

    def _run(self) -> None:
        import ray

        state: Any = None
        while not self._stop.is_set():
            try:
                state = state or live_state_handle(self._service)
                answer = ray.get(state.poll.remote({**self._report(), "received": self._received}, self._me))
            except (ray.exceptions.RayError, ValueError):
                state = None  # it restarts under the same name
                self._stop.wait(RETRY_SECONDS)
                continue
            self._round = answer["round"]
            if answer["plan"] is not None:
                self._host.apply(TrafficPlan.from_json(answer["plan"]))
            for letter in answer["mail"]:
                self._receive(letter)
            self._received = [letter["letter"] for letter in answer["mail"]]

    def _receive(self, letter: dict[str, Any]) -> None:
        if self._feedback is None:
            return
        try:
            self._feedback.join(letter["request_id"], letter["labels"], passed_on=True)
        except RaylineError:
            return  # whoever sent it was answered; there is nobody left to tell
        except Exception:  # noqa: BLE001 - one letter must not end the thread, and with it the replica
            _LOG.exception("truth for request '%s' could not be joined.", letter["request_id"])

    def _report(self) -> dict[str, Any]:
        me = {"replica": self._replica, "actor": self._actor, "pid": os.getpid()}
        return {**me, "round": self._round, **self._host.report(), "records": self._facts()}

    def _quietly(self, call: Callable[[Any], Any]) -> None:
        import ray

        try:
            call(live_state_handle(self._service))
        except (ray.exceptions.RayError, ValueError):
            return  # the next poll tells the same
