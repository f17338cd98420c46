"""The Bundle: all that crosses from training to serving, as a directory that loads without pickle or user code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rayline import storage
from rayline.config import ModelConfig, Task, plain
from rayline.errors import BundleError, SchemaError
from rayline.features import packing
from rayline.features.declared_sizes import refuse_absurd_sizes
from rayline.features.online.declared import HistoryNeed
from rayline.features.schemas.schema import digest_of
from rayline.features.transform import FittedFeatureSet
from rayline.registry import manifest as laws
from rayline.registry.manifest import Manifest
from rayline.registry.networks import read_network, write_network
from rayline.registry.predictor import Predictor

DAMAGED = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""What code raises that is given a state which no fit has made."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle on disk.

    Attributes:
        path: its directory.
        manifest: what it says about itself; every file was found to match it.
        digest: SHA-256 that names the whole content.
        features: the fitted FeatureSet, with the schema.
        reference: statistics of the training part, per column.
        example: a few raw input rows.
        lineage: what it was made from.
        history: what it looks up in the online store; None where it looks nothing up.
    """

    path: Path
    manifest: Manifest
    digest: str
    features: FittedFeatureSet
    reference: Mapping[str, Any]
    example: tuple[Mapping[str, Any], ...]
    lineage: Mapping[str, Any]
    history: HistoryNeed | None = None

    @property
    def name(self) -> str:
        """The model's name in the registry."""
        return self.manifest.name

    @property
    def task(self) -> Task:
        """What the network answers."""
        return self.manifest.task

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Check a bundle and read its state; the network is read by ``predictor``.

        Raises:
            NotFoundError: there is no such directory.
            BundleError: its format is unknown, a file is changed, missing or not allowed, or its parts do not fit.
        """
        folder = storage.fetch(Path(path))
        manifest, digest = laws.verified(folder)
        state = {
            name: _decoded(laws.checked(folder, manifest, name), folder / name)
            for name in (laws.FEATURES, laws.REFERENCE, laws.EXAMPLE, laws.LINEAGE)
        }
        content = laws.checked(folder, manifest, laws.ARRAYS) if laws.ARRAYS in manifest.files else None
        _refuse_other_kinds(state, folder)
        features = _features(state[laws.FEATURES], content, folder, manifest)
        example = tuple(state[laws.EXAMPLE])
        history = _history(folder, manifest)
        return cls(folder, manifest, digest, features, state[laws.REFERENCE], example, state[laws.LINEAGE], history)

    def predictor(self) -> Predictor:
        """Return what answers rows. Its memory is its own: the directory may go away afterwards.

        Raises:
            BundleError: the network was changed since ``load``, holds code, or does not fit the features.
            EnvironmentFailed: a package that it needs is not installed.
        """
        name = self.manifest.network
        content = laws.checked(self.path, self.manifest, name)
        try:
            network = read_network(name, content, self.features, f"bundle '{self.path}': {name}")
        except DAMAGED as error:
            raise BundleError(f"bundle '{self.path}': {name} does not fit {laws.FEATURES}: {error!r}.") from error
        return Predictor(self.features, network)


def write_bundle(
    out: Path,
    *,
    name: str,
    features: FittedFeatureSet,
    model: ModelConfig,
    checkpoint: Path,
    lineage: Mapping[str, Any],
    reference: Mapping[str, Any],
    example: Sequence[Mapping[str, Any]],
    history: HistoryNeed | None = None,
) -> Bundle:
    """Write a bundle in full or not at all; one that stands at ``out`` is replaced.

    Args:
        out: the directory to write.
        name: the model's name in the registry.
        features: fitted on the training part.
        model: what was trained. The user's module is built once more here, and never by whoever loads the bundle.
        checkpoint: directory with what the model's family keeps: see ``networks.CHECKPOINT_FILES``.
        lineage: what it was made from, as JSON-ready values.
        reference: statistics of the training part, as JSON-ready values.
        example: a few raw rows with the input columns; they must be answered.
        history: what it looks up in the online store, if anything.

    Returns:
        The bundle, loaded and tried on its example.

    Raises:
        NotFoundError: the checkpoint has no file of the model's family.
        BundleError: the parts do not fit, or the module cannot be exported.
        ConfigError: the module's builder cannot be imported.
    """
    if out.exists() and not (out / laws.MANIFEST).is_file():
        raise BundleError(f"'{out}' exists and is no bundle. Remove it, or write the bundle elsewhere.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        _write_features(folder, features)
        _write_json(folder / laws.REFERENCE, reference)
        _write_json(folder / laws.EXAMPLE, example)
        _write_json(folder / laws.LINEAGE, lineage)
        if history is not None:
            _write_json(folder / laws.HISTORY, history.to_json())
        write_network(folder, features, model, checkpoint)
        laws.written(folder, name=name, task=features.task, features=features.fingerprint, model=plain(model))
        made = Bundle.load(folder)
        made.predictor().predict(made.example)
        if out.exists():
            os.rename(out, Path(temporary) / "replaced")
        os.rename(folder, out)
    storage.keep(out)
    return Bundle.load(out)


def _write_features(folder: Path, features: FittedFeatureSet) -> None:
    left, table = packing.packed(features.to_json())
    _write_json(folder / laws.FEATURES, left)
    if table is not None:
        (folder / laws.ARRAYS).write_bytes(packing.to_bytes(table))


def _refuse_other_kinds(state: Mapping[str, Any], folder: Path) -> None:
    rows = state[laws.EXAMPLE]
    for name in (laws.FEATURES, laws.REFERENCE, laws.LINEAGE):
        if not isinstance(state[name], dict):
            raise BundleError(f"bundle '{folder}': {name} must hold an object.")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BundleError(f"bundle '{folder}': {laws.EXAMPLE} must hold a list of rows.")


def _features(raw: Any, arrays: bytes | None, folder: Path, manifest: Manifest) -> FittedFeatureSet:
    try:
        raw = packing.unpacked(raw, None if arrays is None else packing.from_bytes(arrays))
        refuse_absurd_sizes(raw)
        features = FittedFeatureSet.from_json(raw)
        found = digest_of(raw)  # of what was written: an older format, once upgraded, has another fingerprint
    except (SchemaError, BundleError, *DAMAGED) as error:
        raise BundleError(f"bundle '{folder}': {laws.FEATURES} cannot be used: {error}") from error
    if found != manifest.features:
        raise BundleError(
            f"bundle '{folder}': {laws.FEATURES} has the fingerprint {found}, and the network was"
            f" trained on {manifest.features}. Make a new version with `rayline run --fresh`."
        )
    if features.task != manifest.task:
        raise BundleError(
            f"bundle '{folder}': {laws.FEATURES} is for {features.task}, and {laws.MANIFEST} says {manifest.task}."
        )
    return features


def _history(folder: Path, manifest: Manifest) -> HistoryNeed | None:
    if laws.HISTORY not in manifest.files:
        return None
    try:
        return HistoryNeed.from_json(_decoded(laws.checked(folder, manifest, laws.HISTORY), folder / laws.HISTORY))
    except (SchemaError, *DAMAGED) as error:
        raise BundleError(f"bundle '{folder}': {laws.HISTORY} cannot be used: {error}") from error


def _write_json(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2))


def _decoded(content: bytes, path: Path) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"bundle '{path.parent}': {path.name} is not JSON: {error}.") from error
