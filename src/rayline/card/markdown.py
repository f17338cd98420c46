"""A page as Markdown. Texts are escaped: a column's or a class's name cannot become markup."""

from __future__ import annotations

import re

from rayline.card.document import Block, Bullets, Cell, Code, Facts, Page, Picture, Table, Text

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~])")
_SIGNS = {"good": "✅ ", "bad": "❌ ", "open": "❔ ", "": ""}


def markdown(page: Page) -> str:
    """Return a page as GitHub's Markdown; its pictures are files beside it."""
    lines = [f"# {escaped(page.title)}", "", escaped(page.subtitle), ""]
    if page.lead:
        lines += [" · ".join(f"{_SIGNS[each.tone]}{escaped(each.text)}" for each in page.lead), ""]
    if page.alerts:
        lines += [*(f"> {escaped(each)}  " for each in page.alerts), ""]
    for part in page.parts:
        lines += [f"{'#' * part.level} {escaped(part.title)}", ""]
        for block in part.blocks:
            lines += [*_lines(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Return a text on one line that Markdown shows as it stands."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _lines(block: Block) -> list[str]:
    match block:
        case Text(text):
            return [escaped(text)]
        case Bullets(items):
            return [f"- {escaped(item)}" for item in items]
        case Facts(pairs):
            return [f"- **{escaped(name)}**: {escaped(value)}" for name, value in pairs]
        case Table():
            return _table(block)
        case Picture(title, file, _):
            return [f"![{escaped(title)}]({file})"]
        case Code(text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            return [fence, text, fence]


def _table(table: Table) -> list[str]:
    rule = ["---:" if place in table.numbers else "---" for place in range(len(table.header))]
    return [_row(table.header), f"| {' | '.join(rule)} |", *(_row(row) for row in table.rows)]


def _row(cells: tuple[str | Cell, ...]) -> str:
    shown = [escaped(each) if isinstance(each, str) else f"{_SIGNS[each.tone]}{escaped(each.text)}" for each in cells]
    return f"| {' | '.join(shown)} |"
