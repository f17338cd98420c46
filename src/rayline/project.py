"""One configuration, opened: its storage, its ledger, its MLflow store and its place on Ray."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import cluster
from rayline import storage as kept
from rayline.config import Config, plain
from rayline.errors import TrackingError
from rayline.events import Finished, Listener, Notice, Started, silent
from rayline.ledger import Ledger, Record, key_of
from rayline.model import file_digest, source_digest
from rayline.progress import in_job

if TYPE_CHECKING:
    from rayline.registry.mlflow_store import MlflowStore
    from rayline.registry.spool import Tracking
    from rayline.registry.store import Store

Result = dict[str, Any]
SKEW_ROWS = 1_000  # training rows that go through the bundle's serving path before it is registered


@dataclass
class Project:
    """What every step of a flow works with.

    Attributes:
        config: the configuration, with absolute paths.
        fresh: run every step again, whatever the ledger holds.
        listener: hears what happens.
        looked_at: steps of which it was asked before whether the cluster can hold them.
    """

    config: Config
    fresh: bool = False
    listener: Listener = silent
    looked_at: set[str] = field(default_factory=set, init=False, repr=False)
    _opening: Future[Store] | None = field(default=None, init=False, repr=False)
    _opener: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Make a user's own model builder importable: it lies beside the configuration, or here."""
        for folder in (str(Path.cwd()), str(home_of(self.config))):
            if folder not in sys.path:
                sys.path.insert(0, folder)

    @cached_property
    def storage(self) -> Path:
        """The state folder; of an object store the folder that it is worked on through. Raises ``ConfigError``."""
        return kept.folder_of(self.config.storage)

    @cached_property
    def ledger(self) -> Ledger:
        """The finished steps of this project."""
        return Ledger(self.storage / "ledger" / self.config.name, self.storage)

    @property
    def store(self) -> Store:
        """The MLflow store; the first use waits until it is open, and until it has what earlier commands left for it.

        Raises ``TrackingError`` where it cannot be reached; the next use tries again.
        """
        self.open_store_early()
        assert self._opening is not None
        return self._opening.result()

    def open_store_early(self) -> None:
        """Begin to open the MLflow store in the background: its import and first migration take seconds.

        What earlier commands could not deliver to it is delivered first.
        """
        with self._opener:
            if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
                self._opening = Future()
                threading.Thread(target=_open, args=(self, self._opening), name="open-store", daemon=True).start()

    @contextmanager
    def left_delivered(self) -> Iterator[None]:
        """Deliver to MLflow, beside what happens within, what earlier commands could not; tell what still waits.

        MLflow being away ends nothing here: what waits is kept.
        """
        waits = self.tracking.left()
        if waits:
            self.open_store_early()
        yield
        if waits and self._opening is not None:
            with suppress(TrackingError, TimeoutError):
                self._opening.result(self.tracking.drain_seconds)
            for path, text in self.tracking.left().items():
                if path in waits:  # one of this command has been told of when its run ended
                    self.listener(Notice(text))

    @cached_property
    def tracking(self) -> Tracking:
        """The way of runs into the MLflow store: by queues under ``storage``. Raises ``ConfigError``."""
        from rayline.registry.spool import Tracking

        digest = key_of(self._unopened.tracking_uri)  # what waits for one store must not be given to another
        return Tracking(
            self.storage / "tracking" / digest, lambda: self.store, lambda text: self.listener(Notice(text))
        )

    @cached_property
    def _unopened(self) -> MlflowStore:
        from rayline.registry.mlflow_store import MlflowStore

        return MlflowStore.at(self.config.registry.tracking_uri, self.config.storage)

    def connect(self) -> None:
        """Connect to Ray, starting a local cluster where none was named. Raises ``ClusterError``."""
        from rayline.serving.http.frontdoor import requests_come_direct
        from rayline.serving.http.ingress import chosen_ingress, ingress_environment

        service = self.config.service
        if service.ingress == "auto" and chosen_ingress("auto") == "proxy":
            self.listener(
                Notice("HAProxy is not available here: Serve's own proxy answers, at about a tenth of the rate")
            )
        if in_job() and service.ingress != "proxy" and not requests_come_direct():
            self.listener(
                Notice(
                    "this cluster's Ray was started without RAY_SERVE_ENABLE_HA_PROXY=1: Serve's own proxy answers, at "
                    "about a tenth of the rate"
                )
            )
        cluster.connect(
            self.storage,
            environment=ingress_environment(service.host, service.port, str(self.storage), service.ingress),
            gcs_storage=self.config.cluster.gcs_storage,
        )
        _place_data(self.config.cluster.train_on)

    @property
    def source_digest(self) -> str:
        """What the content of the source is named by, without reading it as a table."""
        return str(self.because["features"][0])

    @cached_property
    def because(self) -> dict[str, tuple[Any, ...]]:
        """What decides the result of each step, in order: a step's key in the ledger is the digest of it.

        Files of the project count by their place in its folder, so that the folder may be moved, or packed and sent.
        What only the tracking store can tell, such as who the champion is, is given to ``key`` besides.
        """
        home = f"{home_of(self.config)}{os.sep}"
        return self._because(lambda section: _without(plain(section), home))

    @cached_property
    def _because_before(self) -> dict[str, tuple[Any, ...]]:
        """The same as earlier versions had it, with absolute paths: what they have finished stays finished."""
        return self._because(plain)

    def _because(self, told: Callable[[Any], dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
        from rayline.features import prepared
        from rayline.features.kinds.function import sources_of
        from rayline.features.pipeline import input_digest
        from rayline.features.schemas.schema_file import configured_schema

        config = self.config
        kept = (config.registry.tracking_uri, config.registry.experiment)
        schema = configured_schema(config)
        checks = (told(config.validate), schema and schema.fingerprint)
        # Where a service looks rows up changes nothing in what it was trained on.
        features = {key: value for key, value in told(config.features).items() if key != "online"}
        own = sources_of(config.features)
        data = (input_digest(config), told(config.data), features, own, checks, prepared.FORMAT)
        code = (source_digest(config.model), file_digest(config.train.loop) if config.train.loop else None)
        fit = (key_of("features", *data), plain(config.model), *code, plain(config.train), kept)
        search = (*fit, plain(config.tune)) if config.tune is not None else ()
        fitted = key_of("tune", *search) if search else key_of("train", *fit)
        evaluated = plain(config.evaluate)
        gates = {key: evaluated.pop(key) for key in ("gates", "behaviour")}  # what is asked changes nothing measured
        score = (fitted, evaluated)
        served = (key_of("evaluate", *score), SKEW_ROWS)
        asked = (key_of("skew", *served), gates)
        name = (key_of("bless", *asked), config.name)
        return {
            "features": data,
            "train": fit,
            "tune": search,
            "evaluate": score,
            "skew": served,
            "bless": asked,
            "register": name,
        }

    def key(self, step: str, *besides: str | None) -> str:
        """Return the step's key in the ledger; ``besides`` decides its result too, and stands in no configuration."""
        return key_of(step, *self.because[step], *besides)

    def find(self, step: str, *besides: str | None) -> Record | None:
        """Return the finished step where it need not run again."""
        if self.fresh:
            return None
        keys = (key_of(step, *because[step], *besides) for because in (self.because, self._because_before))
        for key in dict.fromkeys(keys):
            record = self.ledger.find(step, key)
            if record is not None and _still_there(record.result):
                return record
        return None

    def step(
        self,
        step: str,
        *,
        do: Callable[[], Result],
        summary: Callable[[Result], str],
        besides: tuple[str | None, ...] = (),
    ) -> Record:
        """Return the finished step, running it only where the ledger does not hold it.

        Args:
            step: its name, one of ``because``.
            do: runs it and gives its result as JSON-ready values.
            summary: one line about a result, for people.
            besides: see ``key``.
        """
        known = self.find(step, *besides)
        if known is not None:
            self.listener(Finished(step, known.seconds, True, summary(known.result)))
            return known
        self.listener(Started(step))
        began = time.perf_counter()
        result = do()
        record = Record(step, self.key(step, *besides), round(time.perf_counter() - began, 3), result)
        self.ledger.write(record)
        self.listener(Finished(step, record.seconds, False, summary(result)))
        return record


_placed: dict[str, str] = {}
"""The labels that Ray Data was last given here: another project of this process has others."""


def _place_data(labels: Mapping[str, str]) -> None:
    """Have Ray Data work on nodes with these labels; what a user has set is left alone where there are none."""
    if dict(labels) == _placed:
        return
    from ray.data import DataContext

    DataContext.get_current().execution_options.label_selector = dict(labels) or None
    _placed.clear()
    _placed.update(labels)


def home_of(config: Config) -> Path:
    """Return the folder that a project's own modules and its git commit are looked for in."""
    if config.home or kept.is_object_store(config.storage):
        return Path(config.home).absolute()
    return Path(config.storage).parent


def _without(value: Any, start: str) -> Any:
    """Return JSON-ready values with the texts that begin with ``start`` shortened by it."""
    if isinstance(value, dict):
        return {key: _without(each, start) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without(each, start) for each in value]
    return value.removeprefix(start) if isinstance(value, str) else value


def _still_there(result: Result) -> bool:
    """Tell whether what a finished step left in the storage is still there."""
    return all(kept.exists(Path(result[kind])) for kind in ("path", "checkpoint", "bundle") if kind in result)


def _open(project: Project, opening: Future[Store]) -> None:
    """Open the store of a project and deliver what waits for it. In a thread that never keeps a process from ending."""
    try:
        store = project._unopened
        store.connect()
        project.tracking.deliver_left(store)
    except BaseException as error:  # noqa: BLE001 - who asks for the result gets it
        opening.set_exception(error)
    else:
        opening.set_result(store)
