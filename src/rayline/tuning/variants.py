"""Trials that share features share the transformed data: computed once, kept in the object store once.

A variant is one configuration of the features. Its data is prepared when the first trial asks for it, in this process:
the workers of other trials hold the cluster's processors, so that a task of Ray Data might wait for ever. Where the
table is large and the variants are few, all are prepared on the cluster before the workers start.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from rayline.config import READ_KINDS, Config, FeaturesConfig, Space, column_config, kind_of, plain, with_values
from rayline.errors import DataError, RaylineError
from rayline.features.schemas.schema import digest_of
from rayline.features.threads import is_large
from rayline.training.spec import TrainData, TrainSpec
from rayline.tuning.space.space import feature_points, settings_of

if TYPE_CHECKING:
    from rayline.features.prepared import Prepared

SHARE = 0.3  # of the object store that data may take which no trial holds at the moment


@dataclass
class Variants:
    """The prepared data of every features configuration that the trials of one Study have. Threads may share it.

    Attributes:
        base: the features step's own, which trials of the base configuration's features use.
        config: the base configuration.
        key: gives the key of a configuration's features step; the folder of its data is called by it.
        put: keeps data in the object store and gives the reference to it.
        budget: bytes that are kept there at most, beside what running trials hold; the data used last always is.
    """

    base: Prepared
    config: Config
    key: Callable[[Config], str]
    put: Callable[[TrainData], Any]
    budget: float
    _known: dict[str, Prepared] = field(default_factory=dict, init=False)
    _kept: OrderedDict[str, tuple[int, Any]] = field(default_factory=OrderedDict, init=False)
    _locks: dict[str, threading.Lock] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    transforms: int = field(default=0, init=False)

    def data_for(self, config: Config) -> tuple[TrainSpec, Any]:
        """Return what a trial trains, and the reference to its data in the object store.

        The reference keeps the data: what is not held by the driver here is read anew, and never computed anew.

        Raises:
            RaylineError: as ``rayline.features.variation.vary``.
        """
        key, shortest = self._key(config)
        with self._lock_of(key):
            prepared = self._prepared(key, shortest, here=True)
            return TrainSpec.of(config, prepared.features), self._reference(key, prepared)

    def prepared_for(self, config: Config) -> Prepared:
        """Return the prepared data of a configuration, for its Bundle. Raises as ``data_for``."""
        key, shortest = self._key(config)
        with self._lock_of(key):
            return self._prepared(key, shortest, here=True)

    def prepare_ahead(self, space: Mapping[str, Space], most: int, notice: Callable[[str], None]) -> None:
        """Prepare every variant on the cluster, where the table is large and there are no more than ``most``.

        Call it before any trial's worker starts. A variant that cannot be prepared is left to the trial that asks for
        it, which fails.
        """
        found = feature_points(space)
        rows = sum(self.base.facts.rows.values())
        if found is None or not 1 < len(found) <= most or not is_large(rows, len(self.base.features.columns)):
            return
        for number, point in enumerate(found, start=1):
            notice(f"features {number} of {len(found)} are computed for all trials that share them")
            try:
                self._prepared(*self._key(with_values(self.config, settings_of(point))), here=False)
            except RaylineError as error:
                notice(f"features {number} cannot be computed: {error}")

    def close(self) -> None:
        """Let go of all data in the object store; what a trial still holds stays until it ends."""
        with self._lock:
            self._kept.clear()

    def _key(self, config: Config) -> tuple[str, Config]:
        """Return what tells the variant from others, and the configuration with its shortest declaration."""
        shortest = replace(config, features=shortest_features(config.features))
        return digest_of(plain(shortest.features)), shortest

    def _lock_of(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _prepared(self, key: str, config: Config, *, here: bool) -> Prepared:
        if key == self._key(self.config)[0]:
            return self.base
        if key not in self._known:
            self._known[key] = self._made(self.base.path.parent / self.key(config), config, here=here)
        return self._known[key]

    def _made(self, folder: Path, config: Config, *, here: bool) -> Prepared:
        from rayline.features.prepared import Prepared
        from rayline.features.variation import vary

        try:
            found = Prepared.load(folder)  # of an earlier Study, or of this one before it was stopped
        except RaylineError:
            self.transforms += 1
            found = vary(config, self.base, folder, here=here)
        if found.facts.parts != self.base.facts.parts:
            raise DataError(f"'{folder}' has other rows than '{self.base.path}': the trials could not be compared.")
        return found

    def _reference(self, key: str, prepared: Prepared) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        data = TrainData(train=prepared.train(), valid=prepared.valid())
        size = sum(array.nbytes for part in (data.train, data.valid) for array in part)
        reference = self.put(data)
        with self._lock:
            self._kept[key] = size, reference
            while len(self._kept) > 1 and sum(size for size, _ in self._kept.values()) > self.budget:
                self._kept.popitem(last=False)
        return reference


def shortest_features(features: FeaturesConfig) -> FeaturesConfig:
    """Return the features with each column that has no setting of its own declared by its kind alone."""
    columns: dict[str, Any] = {}
    for name, declared in features.columns.items():
        section = column_config(declared)
        kind = kind_of(section)
        columns[name] = kind if kind in READ_KINDS and section == column_config(kind) else section
    return replace(features, columns=columns)


def store_budget() -> float:
    """Return the bytes of the connected cluster's object store that a Study may keep filled."""
    import ray

    return SHARE * float(ray.cluster_resources().get("object_store_memory", 0.0))
