"""The rollouts of a service in a folder: one SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from rayline.rollout.storage.files import RolloutStore, rollout_files
from rayline.rollout.storage.storage import RolloutFiles
from rollout_doubles import SERVICE
from rollout_files_suite import Open, RolloutFilesSuite


class TestFile(RolloutFilesSuite):
    """``RolloutFiles``."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Open]:
        with ExitStack() as stack:

            def another() -> RolloutStore:
                files = rollout_files(tmp_path, SERVICE)
                assert isinstance(files, RolloutFiles)
                return stack.enter_context(closing(files))

            yield another
