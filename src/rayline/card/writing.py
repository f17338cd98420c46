"""Writes a card as files, Markdown with its pictures and one HTML file, and keeps them with the version's Run."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rayline.card.html import html
from rayline.card.markdown import markdown
from rayline.card.sections import page
from rayline.card.source import CardSource
from rayline.errors import NotFoundError

if TYPE_CHECKING:
    from rayline.registry.store import Store, Version

MARKDOWN = "model_card.md"
HTML = "model_card.html"
ARTIFACTS = "model_card"  # the folder of a run's artifacts that holds it
TAG = "rayline.card"


def write_card(source: CardSource, folder: Path) -> Path:
    """Write the card of a version into a folder, over an earlier one; return the folder."""
    found = page(source)
    folder.mkdir(parents=True, exist_ok=True)
    for picture in found.pictures:
        (folder / picture.file).write_bytes(picture.png)
    (folder / MARKDOWN).write_text(markdown(found), encoding="utf-8")
    (folder / HTML).write_text(html(found), encoding="utf-8")
    return folder


def keep_card(store: Store, source: CardSource) -> None:
    """Write the card of a version, with the plots of its Run, and keep it as files of that Run."""
    version = source.version
    with tempfile.TemporaryDirectory(prefix="rayline-card-") as temporary:
        folder = Path(temporary)
        plots = _plots(store, version.run_id, folder)
        written = write_card(replace(source, plots=plots), folder / ARTIFACTS)
        store.log_files(version.run_id, written, ARTIFACTS)
    store.tag_version(version.name, version.number, {TAG: f"{ARTIFACTS}/{HTML}"})


def fetch_card(store: Store, version: Version, folder: Path) -> Path:
    """Return a folder below ``folder`` with the card of a version. Raises ``NotFoundError`` where it has none."""
    if TAG not in version.tags:
        raise NotFoundError(
            f"version {version.number} of '{version.name}' has no model card: it was registered before cards were "
            "written. Train it again, or read `rayline lineage`."
        )
    return store.fetch_files(version.run_id, ARTIFACTS, folder)


def _plots(store: Store, run_id: str, folder: Path) -> dict[str, bytes]:
    """Return the plots of a Run by name; none where the store does not have them."""
    try:
        found = store.fetch_files(run_id, "plots", folder)
    except NotFoundError:
        return {}
    return {file.stem: file.read_bytes() for file in sorted(found.glob("*.png"))}
