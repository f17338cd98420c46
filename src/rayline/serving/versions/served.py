"""One version, loaded and warm: what turns the rows of a request into an answer and counts it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import BundleError, RowError
from rayline.serving.records.counters import Counters, RowTruth
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.versions import passing
from rayline.serving.versions.batching import Rows
from rayline.serving.versions.execution import Execution, chosen
from rayline.serving.wire import protocol
from rayline.serving.wire.decoding import RowDecoder
from rayline.serving.wire.encoding import RecordEncoder

if TYPE_CHECKING:
    from rayline.features.online.lookup import Lookup
    from rayline.registry.bundle import Bundle
    from rayline.registry.predictor import Predictions, Predictor

_LOG = logging.getLogger(__name__)

WARM_UP_CALLS = 5
BATCH_TRIED = 64
LOOKUP_SECONDS = 20e-6  # of one row in one table of an embedded store: measured at 12 to 28 microseconds
REMOTE_SECONDS = 1.0  # what waiting for a store on the network may take: never done on the event loop
LABEL_LIMIT = 1e15  # beyond it, a float64 sum of absolute errors cannot tell one unit any more
LABEL_TIMES = 1e6


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets: a record per row for the wire, and the bare outcomes (labels or numbers) to count."""

    records: list[dict[str, Any]]
    outcomes: list[Any]


@dataclass(frozen=True, slots=True)
class Served:
    """One version in memory.

    Attributes:
        live: its number and bundle.
        counters: what it has done in this replica.
        labelled: it answers class labels, not numbers.
        columns: the input columns of a row.
        row_seconds, call_seconds: measured cost of one row and of one call, in seconds.
        prefix, number_text: what each of its answers begins with, and its number, as bytes.
        lookup: completes rows from the online store; None where the version looks nothing up.
        remote: answers several requests in another process, each with predictions or what went wrong; None where this
            process computes them.
        decoder: reads the plain requests of this version; None where each goes the general way.
        encoder: writes the records of its answers.
        engine: what runs its network, such as ``numpy``, and why.
    """

    live: LiveVersion
    bundle: Bundle
    predictor: Predictor
    counters: Counters
    labelled: bool
    columns: tuple[str, ...]
    row_seconds: float
    call_seconds: float
    prefix: bytes
    number_text: bytes
    lookup: Lookup | None = None
    remote: Callable[[list[Rows]], Awaitable[list[Predictions | Exception]]] | None = None
    decoder: RowDecoder | None = None
    encoder: RecordEncoder = field(default_factory=lambda: RecordEncoder(None))
    engine: tuple[str, str] = ("", "")

    @classmethod
    def load(
        cls,
        service: str,
        live: LiveVersion,
        edges: Sequence[float],
        storage: str | Path | None = None,
        *,
        execution: Execution = "numpy",
        threads: int = 1,
    ) -> Served:
        """Load a version and answer its example until it is warm.

        Args:
            service: the service's name.
            live: the version.
            edges: of the histogram of its predictions.
            storage: the project's state folder, for a version that looks columns up in an embedded store.
            execution: how networks are run; see ``ServiceConfig``.
            threads: that compute one pass.

        Raises:
            RaylineError: the bundle cannot be loaded, is not the one that the plan names, or does not answer.
        """
        from rayline.registry.bundle import Bundle

        bundle = Bundle.load(Path(live.path))
        if bundle.digest != live.digest:
            raise BundleError(
                f"bundle '{live.path}' has digest {bundle.digest[:12]}, and version {live.number} of '{service}' was "
                f"deployed from {live.digest[:12]}. Fetch the version again and deploy it."
            )
        example = [dict(row) for row in bundle.example[:1]]
        predictor = bundle.predictor()
        engine = chosen(predictor, predictor.features.rows(example), execution, threads)
        predictor = engine.predictor
        _LOG.info("version %d of '%s' runs on %s: %s.", live.number, service, engine.engine, engine.why)
        call_seconds = _cost(lambda: predictor.predict(example))
        batch_seconds = _cost(lambda: predictor.predict(example * BATCH_TRIED)) if example else call_seconds
        lookup, row_waits, call_waits = _lookup(bundle, storage)
        return cls(
            live=live,
            bundle=bundle,
            predictor=predictor,
            counters=Counters(edges),
            labelled=bundle.task != "regression",
            columns=bundle.features.input_columns,
            row_seconds=max(0.0, batch_seconds - call_seconds) / (BATCH_TRIED - 1) + row_waits,
            call_seconds=call_seconds + call_waits,
            prefix=protocol.prediction_prefix(service, live.number),
            number_text=b"%d" % live.number,
            lookup=lookup,
            engine=(engine.engine, engine.why),
            decoder=_decoder(bundle) if lookup is None else None,
            encoder=RecordEncoder(bundle.features.classes if bundle.task != "regression" else None),
        )

    def seconds(self, rows: int) -> float:
        """Return what a call with so many rows is expected to take, as measured when the version was warmed."""
        return self.call_seconds + self.row_seconds * rows

    def decode(self, body: bytes, max_rows: int) -> Rows:
        """Return the rows of a predict request. Raises ``RowError`` as ``protocol.decode_rows`` does."""
        if self.decoder is not None and self.remote is None:
            rows = self.decoder.rows(body, max_rows)
            if rows is not None:
                return rows
        return protocol.decode_rows(body, max_rows)

    def predict(self, rows: Rows) -> Answer:
        """Answer the rows of one request.

        Raises:
            RowError: a row cannot be used; the request is at fault.
            NotFinite: an answer is NaN or infinite.
            EnvironmentFailed: columns must be looked up, and the online store cannot be used.
        """
        [outcome] = self.predict_many([rows])
        if isinstance(outcome, Exception):
            raise outcome
        return Answer(outcome.records(), outcome.outcomes)

    def predict_many(self, requests: list[Rows]) -> list[Predictions | Exception]:
        """Answer several requests in one pass. What goes wrong with one of them is its answer, and no other's.

        Returns:
            Per request its predictions, or what ``predict`` raises, or the version's own failure.
        """
        return passing.answered(self, requests)

    def judge(
        self, outcomes: Sequence[Any], labels: Sequence[Any], slices: Sequence[tuple[str, ...]] | None = None
    ) -> list[RowTruth]:
        """Return, given the truth of each row, whether its prediction was right, or how far off.

        Args:
            outcomes: what was answered, per row.
            labels: the truth, per row.
            slices: those that each row belongs to, where they are known.

        Raises:
            RowError: there is not one label per row, or a regression's label is no number, not finite or absurdly
                large: one of them would spoil the sum of all others for good.
        """
        if len(labels) != len(outcomes):
            raise RowError(
                0, None, len(labels), f"labels were sent for a request of {len(outcomes)} rows; send one each"
            )
        own = slices if slices is not None and len(slices) == len(outcomes) else [()] * len(outcomes)
        if self.labelled:
            return [
                RowTruth(correct=_class_text(label) == outcome, slices=each)
                for label, outcome, each in zip(labels, outcomes, own, strict=True)
            ]
        truth = [self._number(index, label) for index, label in enumerate(labels)]
        return [
            RowTruth(error=float(outcome - label), slices=each)
            for label, outcome, each in zip(truth, outcomes, own, strict=True)
        ]

    def _number(self, index: int, label: object) -> float:
        """Return a regression's label as a number that can be counted. Raises ``RowError``."""
        features = self.bundle.features
        column = features.schema.target
        if isinstance(label, bool) or not isinstance(label, int | float):
            raise RowError(index, column, label, "must be a number")
        limit = max(LABEL_LIMIT, LABEL_TIMES * (abs(features.target_mean) + features.target_std))
        try:
            number = float(label)
        except OverflowError:
            number = math.inf
        if not abs(number) <= limit:  # NaN too
            raise RowError(index, column, label, f"must be a finite number of at most {limit:.3g} in magnitude")
        return number


def _lookup(bundle: Bundle, storage: str | Path | None) -> tuple[Lookup | None, float, float]:
    """Return what completes a version's rows, and the seconds that it is expected to take of a row and of a call."""
    need = bundle.history
    if need is None:
        return None, 0.0, 0.0
    from rayline.features.online.lookup import Lookup
    from rayline.features.online.opening import beside_feast, is_remote, open_store

    folder = Path(storage) if storage is not None else None
    own = partial(open_store, need.store, folder, create=False)
    open_, feast = beside_feast(own, [each.table for each in need.tables])
    lookup = Lookup(need, bundle.features.input_columns, open_)
    row_seconds = LOOKUP_SECONDS * (len(need.tables) + len(need.windows))
    return lookup, row_seconds, REMOTE_SECONDS if feast or is_remote(need.store) else 0.0


def _decoder(bundle: Bundle) -> RowDecoder | None:
    try:
        return RowDecoder(bundle.features)
    except (ValueError, TypeError):  # a column's name cannot stand in a typed record
        return None


def _cost(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(WARM_UP_CALLS):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def _class_text(label: object) -> str | None:
    from rayline.features.reading import canonical

    try:
        return canonical.level_text(label)
    except (ValueError, TypeError):
        return None
