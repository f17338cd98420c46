"""Writes a card as files: Markdown with its pictures beside it, and one HTML file that holds everything."""

from __future__ import annotations

from pathlib import Path

from rayline.card.html import html
from rayline.card.markdown import markdown
from rayline.card.sections import page
from rayline.card.source import CardSource

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
