"""The files of ``cluster/`` for tests, and what ``CHANGE-ME`` stands for while they are parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CLUSTER = Path(__file__).parents[1] / "cluster"
CHANGE_ME = "CHANGE-ME"


def text(path: str) -> str:
    return (CLUSTER / path).read_text(encoding="utf-8")


def documents(path: str) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return list(yaml.safe_load_all(text(path)))


def document(path: str) -> dict[str, Any]:
    found, *others = documents(path)
    assert not others, f"{path} holds several documents"
    return found


def all_files() -> list[Path]:
    """Every file that a user may have to change."""
    kinds = {".yaml", ".py", ".json", ".sh", ""}
    return sorted(each for each in CLUSTER.rglob("*") if each.is_file() and each.suffix in kinds)
