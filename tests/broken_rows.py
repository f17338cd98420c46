"""Row paths that were broken on purpose, for the fresh process of the skew test alone: the batch path stays right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

OFF_BY_A_THOUSANDTH = """
from rayline.features.kinds import numeric

right = numeric.NumericColumn.filler


def filler(self, offset):
    fill = right(self, offset)

    def broken(row, out):
        fill(row, out)
        if self.name == "size":
            out[offset] += 1e-3

    return broken


numeric.NumericColumn.filler = filler
"""

UNKNOWN_TAKEN_FOR_MISSING = """
from rayline.features.kinds import kind_named

raw = {"kind": "categorical", "encode": "one_hot", "name": "x", "source": "x", "levels": ["a"]}
one_hot = type(kind_named("categorical").restore(raw))
right = one_hot.filler


def filler(self, offset):
    fill = right(self, offset)
    unknown = offset + len(self.levels)

    def broken(row, out):
        fill(row, out)
        if out[unknown]:
            out[unknown], out[unknown + 1] = 0.0, 1.0

    return broken


one_hot.filler = filler
"""

DOES_NOT_START = """
import sys

sys.modules["rayline.registry.predictor"] = None
"""


def break_rows(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Make every Python process that starts from now on run ``code`` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
