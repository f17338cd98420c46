"""A replica's stand-in for a version that another process holds: it looks like one loaded here, and asks there.

The batcher calls it with all requests that wait, one call at a time: what comes while a call is under way goes in the
next, so that the price of the way is shared. A process that does not answer is asked again only now and then, and its
requests fail at once meanwhile: those that wait for it must not fill the replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, cast

from rayline.errors import ServiceError, VersionDown
from rayline.serving.names import remote_name
from rayline.serving.records.counters import Counters
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.versions.batching import Rows
from rayline.serving.versions.execution import Execution
from rayline.serving.versions.served import Served
from rayline.serving.wire import protocol
from rayline.serving.wire.encoding import RecordEncoder

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions, Predictor

CALL_SECONDS = 5.0
TRIAL_SECONDS = 1.0
AGAIN_SECONDS = 0.25
IDLE_SECONDS = 0.5
ABOUT_SECONDS = 30.0


class Handle(Protocol):
    """The part of Serve's deployment handle that is used."""

    @property
    def predict(self) -> Any: ...


class Away:
    """Asks the process of one version. For one event loop, one call at a time."""

    def __init__(self, service: str, number: int, handle: Handle) -> None:
        """Ask through ``handle``."""
        self._name = f"version {number} of '{service}'"
        self._handle = handle
        self._down = ""
        self._again = 0.0
        self._calls = 0
        self._last = 0.0

    @property
    def busy(self) -> bool:
        """Tell whether a call is under way, or was so lately that another may follow it."""
        return self._calls > 0 or monotonic() - self._last < IDLE_SECONDS

    async def __call__(self, requests: list[Rows]) -> list[Predictions | Exception]:
        """Return per request its predictions, or what went wrong: ``VersionDown`` where the process did not answer."""
        if self._down and monotonic() < self._again:
            return [VersionDown(self._down)] * len(requests)
        self._calls += 1
        try:
            call = self._handle.predict.remote(requests)
            answers: list[Predictions | Exception] = await asyncio.wait_for(
                call, TRIAL_SECONDS if self._down else CALL_SECONDS
            )
        except Exception as error:  # noqa: BLE001 - Ray and Serve raise a dozen kinds; to a request they are one
            why = f"no answer within {CALL_SECONDS:.0f} s" if isinstance(error, TimeoutError) else type(error).__name__
            self._down = f"{self._name} runs in a process of its own, which does not answer: {why}."
            self._again = monotonic() + AGAIN_SECONDS
            return [VersionDown(self._down)] * len(requests)
        finally:
            self._calls -= 1
            self._last = monotonic()
        self._down = ""
        return answers


class _Elsewhere:
    """Stands where a version's predictor would."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __getattr__(self, name: str) -> Any:
        raise ServiceError(f"version {self._number} is held by another process; ask its stand-in's `remote`.")


def stand_in(service: str, live: LiveVersion, edges: Sequence[float]) -> Served:
    """Return a version that another process holds.

    Args:
        service: the service's name.
        live: the version, placed remote; its application must run.
        edges: of the histogram of its predictions.

    Raises:
        BundleError: the bundle is damaged.
        ServiceError: the process holds another bundle, or does not answer.
    """
    from ray import serve

    from rayline.registry.bundle import Bundle

    bundle = Bundle.load(Path(live.path))
    name = remote_name(service, live.number)
    try:
        handle = serve.get_app_handle(name)
        about = handle.about.remote().result(timeout_s=ABOUT_SECONDS)
    except Exception as error:
        raise ServiceError(f"application '{name}' of version {live.number} does not answer: {error}") from error
    if about["digest"] != live.digest:
        raise ServiceError(
            f"application '{name}' holds bundle {about['digest'][:12]}, not {live.digest[:12]}; unload the version "
            "and load it again."
        )
    return Served(
        live=live,
        bundle=bundle,
        predictor=cast("Predictor", _Elsewhere(live.number)),
        counters=Counters(edges),
        labelled=bundle.task != "regression",
        columns=bundle.features.input_columns,
        row_seconds=0.0,
        call_seconds=CALL_SECONDS,
        prefix=protocol.prediction_prefix(service, live.number),
        number_text=b"%d" % live.number,
        remote=Away(service, live.number, handle),
        encoder=RecordEncoder(bundle.features.classes if bundle.task != "regression" else None),
    )


def load(
    service: str,
    live: LiveVersion,
    edges: Sequence[float],
    storage: str | Path | None = None,
    execution: Execution = "auto",
    threads: int = 1,
) -> Served:
    """Load a version into this process, or its stand-in where it is placed remote; takes and raises what these do."""
    if live.placement == "remote":
        return stand_in(service, live, edges)
    return Served.load(service, live, edges, storage, execution=execution, threads=threads)
