"""A page as values: sections of texts, tables, lists, pictures and code, which Markdown and HTML are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "open"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table whose tone shows; a plain text has none."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values; one without a value is left out when it is made by ``facts``."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a header. ``numbers`` are the places of columns that are set to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG, and the file name that it has beside a Markdown page."""

    title: str
    file: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Code:
    """Text that is shown as it stands."""

    text: str


Block = Text | Bullets | Facts | Table | Picture | Code


@dataclass(frozen=True, slots=True)
class Part:
    """A heading with what is below it; ``level`` 2 is a section, 3 a part of the section before it."""

    title: str
    blocks: tuple[Block, ...]
    level: Literal[2, 3] = 2


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page.

    Attributes:
        lead: badges below the title.
        alerts: what one must see before all else.
    """

    title: str
    subtitle: str
    lead: tuple[Cell, ...]
    alerts: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in order."""
        return tuple(block for part in self.parts for block in part.blocks if isinstance(block, Picture))


def facts(pairs: Sequence[tuple[str, str | None]]) -> tuple[Facts, ...]:
    """Return the pairs that have a value as one block; none where none has."""
    kept = tuple((name, value) for name, value in pairs if value)
    return (Facts(kept),) if kept else ()


def part(title: str, *blocks: Block, level: Literal[2, 3] = 2) -> tuple[Part, ...]:
    """Return a part; none where it has no content."""
    return (Part(title, blocks, level),) if blocks else ()


def section(title: str, *parts: tuple[Part, ...], blocks: tuple[Block, ...] = ()) -> tuple[Part, ...]:
    """Return a section with the parts below it; none where neither it nor any of them has content."""
    below = tuple(each for several in parts for each in several)
    return (Part(title, blocks), *below) if blocks or below else ()
