"""No evil bundle loads, none runs a line of its own, and none takes much memory to refuse; see ``evil_bundles``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from evil_bundles import EVIL, signed_again
from rayline.errors import BundleError
from rayline.registry.bundle import Bundle
from registry_examples import make_bundle, mixed_table

MOST_MEMORY = 400 * 2**20


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle; the formats' own libraries are loaded, so that none counts as an evil one's memory."""
    import skops.io
    import torch  # noqa: F401
    import xgboost  # noqa: F401

    assert skops.io
    bundle = make_bundle(tmp_path_factory.mktemp("good"), mixed_table())
    bundle.predictor()
    return bundle.path


def memory(key: str) -> int:
    """Return a figure of this process in bytes: ``VmRSS`` as of now, ``VmHWM`` the most since ``forget_peak``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


measured = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux alone tells peak memory")


@measured
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", EVIL)
def test_an_evil_bundle_is_refused(good: Path, tmp_path: Path, name: str, signed: bool) -> None:
    folder, canary = Path(shutil.copytree(good, tmp_path / "bundle")), tmp_path / "canary"
    EVIL[name](folder, canary)
    if signed:
        signed_again(folder)
    forget_peak()
    before = memory("VmRSS")
    with pytest.raises(BundleError) as refused:
        Bundle.load(folder).predictor()
    assert memory("VmHWM") - before < MOST_MEMORY
    assert not canary.exists()
    assert str(folder) in str(refused.value)
    assert len(str(refused.value)) < 2_000


def test_signing_again_alone_changes_nothing(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "bundle"))
    signed_again(folder)
    bundle = Bundle.load(folder)
    assert bundle.predictor().predict(bundle.example).finite.all()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    import pickle

    from evil_bundles import Payload

    pickle.loads(pickle.dumps(Payload(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()
