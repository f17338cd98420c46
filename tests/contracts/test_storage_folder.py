"""The storage seam over a folder that every node sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayline import storage as seam
from storage_suite import Node, StorageSuite


class TestFolder(StorageSuite):
    """A plain folder: nothing is copied anywhere."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> Node:
        return lambda name: seam.folder_of(tmp_path / "shared")
