"""What versions take in memory: refused with numbers before and after they are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayline.errors import ServiceError
from rayline.serving.versions import memory
from rayline.serving.versions.memory import Room, Scales, bundle_mb, free_mb, resident_mb


def test_what_would_not_fit_is_refused_with_numbers() -> None:
    Room(held=300, limit=600).refuse(3, 300)
    with pytest.raises(ServiceError, match="version 3 needs 412 MB, replica holds 300 of 600 MB; unload a version"):
        Room(held=300, limit=600).refuse(3, 412)
    with pytest.raises(ServiceError, match="version 3 needs 412 MB, and the machine has 200 MB left"):
        Room(held=300, free=200).refuse(3, 412)
    with pytest.raises(ServiceError, match="version 3 took 412 MB, and replica holds 700 of 600 MB with it"):
        Room(held=700, limit=600).refuse_loaded(3, 412)


def test_a_bundle_weighs_what_its_files_do(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "weights").write_bytes(bytes(3 * memory.MIB))
    (tmp_path / "manifest.json").write_bytes(bytes(memory.MIB))
    assert bundle_mb(tmp_path) == 4
    assert bundle_mb(tmp_path / "nowhere") == 0


def test_what_was_loaded_is_known_by_how_the_process_grew() -> None:
    scales = Scales()
    with scales.weighing(1, 1.0):
        held = bytearray(64 * memory.MIB)
        held[::4096] = b"x" * len(held[::4096])
    report = scales.report([1])
    assert 60 <= report["versions"]["1"] <= 80
    assert report["held"] >= 60
    assert report["limit"] is None


def test_versions_that_load_together_weigh_what_their_files_do() -> None:
    scales = Scales()
    with scales.weighing(1, 5.0), scales.weighing(2, 7.0):
        pass
    assert scales.report([1, 2])["versions"] == {"1": 5.0, "2": 7.0}


def test_a_version_that_fills_the_process_is_refused_after_it_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([100.0, 100.0, 450.0, 450.0])
    monkeypatch.setattr(memory, "resident_mb", lambda: next(held))
    scales = Scales(limit=400)
    with (
        pytest.raises(ServiceError, match="version 1 took 350 MB, and replica holds 450 of 400 MB"),
        scales.weighing(1, 1),
    ):
        pass


def test_a_version_that_failed_leaves_the_scales_even() -> None:
    scales = Scales()
    with pytest.raises(OSError, match="broken"), scales.weighing(1, 1.0):
        raise OSError("broken")
    with scales.weighing(2, 3.0):
        pass
    assert scales.report([2])["versions"]["2"] >= 3.0


def test_a_container_leaves_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{500 * memory.MIB}\n")
    (tmp_path / "memory.current").write_text(f"{400 * memory.MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {50 * memory.MIB}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_mb() == pytest.approx(150)
    (tmp_path / "memory.max").write_text("max\n")
    assert free_mb() != pytest.approx(150)
    assert resident_mb() > 1
