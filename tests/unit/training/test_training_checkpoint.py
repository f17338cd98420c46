"""A checkpoint is there whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from rayline.training.checkpoint import STATE, WEIGHTS, save


def weight(value: float) -> dict[str, torch.Tensor]:
    return {"layers.0.weight": torch.full((2, 3), value)}


def held(folder: Path) -> float:
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, STATE}
    value = float(load_file(folder / WEIGHTS)["layers.0.weight"][0, 0])
    assert json.loads((folder / STATE).read_text())["value"] == value
    return value


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    folder = save(tmp_path / "deep" / "best", weight(1.5), {"value": 1.5})
    assert folder == tmp_path / "deep" / "best"
    assert held(folder) == 1.5
    assert [each.name for each in folder.parent.iterdir()] == ["best"]


def test_a_better_one_takes_its_place_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for value in (1.0, 2.0, 3.0):
        save(tmp_path / "best", weight(value), {"value": value})
    assert held(tmp_path / "best") == 3.0
    assert [each.name for each in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("state", [{"value": object()}, {"value": {1, 2}}])
def test_a_writer_that_fails_leaves_the_old_one_whole(tmp_path: Path, state: dict[str, object]) -> None:
    save(tmp_path / "best", weight(1.0), {"value": 1.0})
    with pytest.raises(TypeError):
        save(tmp_path / "best", weight(2.0), state)
    assert held(tmp_path / "best") == 1.0
    assert [each.name for each in tmp_path.iterdir()] == ["best"]


def test_a_draft_of_a_killed_writer_is_no_part_of_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4242)  # process ids come round again
    left = tmp_path / ".best.4242.draft"
    left.mkdir()
    (left / "half.safetensors").write_bytes(b"half")
    save(tmp_path / "best", weight(1.0), {"value": 1.0})
    assert held(tmp_path / "best") == 1.0


def test_views_and_graphs_are_written_as_their_values(tmp_path: Path) -> None:
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T
    save(tmp_path / "best", {"w": tensor}, {})
    assert load_file(tmp_path / "best" / WEIGHTS)["w"].tolist() == [[0, 3], [1, 4], [2, 5]]
