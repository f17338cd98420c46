"""The trial of a bundle in a process of its own: what it measures, and how a process that ends badly is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayline.config import LimitsConfig
from rayline.evaluation.infrastructure import infrastructure_of
from registry_examples import make_bundle, real_table

TRYOUT = "rayline.serving.versions.tryout"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), real_table("binary")).path


def test_a_good_bundle_is_timed_and_weighed(bundle: Path) -> None:
    limits = LimitsConfig(latency_ms=60_000, memory_mb=1, size_mb=1_000)

    found = infrastructure_of(bundle, TRYOUT, limits)

    assert found.failure == ""
    assert found.one is not None
    assert found.batch is not None
    assert (found.one.rows, found.batch.rows) == (1, 64)
    assert 0 < found.one.p50_ms <= found.one.p99_ms
    size = sum(each.stat().st_size for each in bundle.iterdir())
    assert found.size_mb == pytest.approx(size / 1024**2)
    assert {each.quantity: each.ok for each in found.verdicts} == {
        "latency_ms": True,
        "memory_mb": False,  # no Python process is so small
        "size_mb": True,
    }
    assert not found.ok
    assert "evaluate.limits.memory_mb is 1" in next(each.message for each in found.verdicts if not each.ok)


def test_a_bundle_that_was_changed_does_not_load(tmp_path: Path) -> None:
    changed = make_bundle(tmp_path, real_table("regression")).path
    (changed / "reference.json").write_text("{}", encoding="utf-8")

    found = infrastructure_of(changed, TRYOUT, LimitsConfig(latency_ms=10))

    assert "reference.json" in found.failure
    assert not found.ok
    assert found.verdicts[0].value is None
    assert not found.verdicts[0].ok


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "took its process down with SIGKILL"),
        ("import os; os.abort()", "took its process down with SIGABRT"),
        ("raise MemoryError('no room')", "exit code 1: MemoryError: no room"),
        ("import time; time.sleep(60)", "did not load and answer within 2 s"),
    ],
)
def test_a_process_that_ends_badly_is_told_as_such(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    (tmp_path / "harmful.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    found = infrastructure_of(bundle, "harmful", LimitsConfig(), seconds=2.0 if "sleep" in code else 60.0)

    assert told in found.failure
    assert not found.ok
    assert found.one is None
