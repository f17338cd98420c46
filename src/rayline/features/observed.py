"""What was observed of the training rows: one file for each raw column and each feature, addressed by content.

A changed column is looked at again; what is known of the others is read back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline.errors import RaylineError
from rayline.features.feature_set import FeatureSet, Wanted
from rayline.features.state import ColumnState, FitState, sketches_from_json, sketches_to_json


@dataclass(frozen=True, slots=True)
class Observations:
    """The observations of one division of one source, in ``folder``."""

    folder: Path

    def known(self, features: FeatureSet) -> FitState:
        """Return what is known of a FeatureSet's columns and features."""
        columns: dict[str, ColumnState] = {}
        extras: dict[str, Any] = {}
        for name, key in features.column_keys().items():
            raw = self._read(key)
            if raw is not None:
                columns[name] = ColumnState.from_json(raw)
        for name, key in features.feature_keys().items():
            raw = self._read(key)
            if raw is not None:
                extras[name] = sketches_from_json(raw)
        return FitState(columns, extras)

    def keep(self, features: FeatureSet, state: FitState, seen: Wanted) -> None:
        """Keep what was observed; a feature that was looked at and has nothing of its own is kept as that."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, key in features.column_keys().items():
            if name in seen.columns:
                self._write(key, state.columns[name].to_json())
        for name, key in features.feature_keys().items():
            if name in seen.features:
                self._write(key, sketches_to_json(state.extras.get(name, {})))

    def _read(self, key: str) -> Any:
        try:
            return json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RaylineError):  # a cache: what cannot be read is observed again
            return None

    def _write(self, key: str, values: Mapping[str, Any]) -> None:
        draft = self.folder / f"{key}.{os.getpid()}.draft"
        draft.write_text(json.dumps(values, separators=(",", ":")), encoding="utf-8")
        draft.replace(self.folder / f"{key}.json")
