"""The rows of a source, checked and divided once: raw Parquet files by part, which later looks read in its place.

They are a cache beside the prepared data, addressed by the content of the source and by how it is divided. It may be
deleted whenever no run is at work.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.errors import RaylineError
from rayline.features.facts import DataFacts
from rayline.features.schemas.schema import digest_of
from rayline.features.splits.split import PARTS

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
MANIFEST = "parts.json"
SAMPLE = "sample.parquet"
OBSERVED = "observed"


@dataclass(frozen=True, slots=True)
class PartFile:
    """One file of rows of one part, in the order of the source. ``name`` is relative to the folder of the parts."""

    part: str
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Finished parts.

    Attributes:
        path: their folder.
        files: every file, those of each part in the order of the source.
        facts: what the data is.
        judged: digest of the schema and the policies that set rows aside; the rows depend on it where any were.
    """

    path: Path
    files: tuple[PartFile, ...]
    facts: DataFacts
    judged: str

    @classmethod
    def find(cls, path: Path, judged: str | None) -> Parts | None:
        """Return the parts at ``path``, or None where there are none, or others, or they were made by other rules.

        ``judged`` of None takes them whatever they were made by.
        """
        path = storage.folder_of(path)
        known = frozenset[str]()
        try:
            if storage.is_object_store(path):
                known = storage.fetch_parts(path, lambda name: name.partition("/")[0] not in PARTS)
            raw = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            files = tuple(PartFile(**each) for each in raw["files"])
            found = cls(path, files, DataFacts.from_json(raw["facts"]), raw["judged"])
            complete = raw["format"] == FORMAT and all(
                each.name in known or (path / each.name).is_file() for each in files
            )
        except (OSError, ValueError, KeyError, TypeError, RaylineError):  # a cache: what cannot be read is made anew
            return None
        fits = judged in (None, found.judged) or not found.facts.quarantined
        return found if complete and fits else None

    @property
    def identity(self) -> str:
        """16 hex digits over the rows and how they lie in the files: what matrices are made of."""
        rows = {name: each.digest for name, each in self.facts.parts.items()}
        return digest_of({"rows": rows, "files": [asdict(each) for each in self.files]})

    def of(self, part: str) -> tuple[PartFile, ...]:
        """Return the files of one part."""
        return tuple(each for each in self.files if each.part == part)

    def place_of(self, file: PartFile) -> Path:
        """Return where a file lies, brought here where another node wrote it."""
        return storage.fetch_part(self.path, file.name)

    def read(self, file: PartFile, columns: Iterable[str]) -> pa.Table:
        """Return some columns of one file; those that it lacks are left out."""
        from pyarrow import parquet

        path = self.place_of(file)
        there = set(parquet.read_schema(path).names)
        return parquet.read_table(path, columns=[name for name in columns if name in there])


def write_piece(folder: Path, part: str, table: pa.Table) -> PartFile | None:
    """Write rows of one part under a name of their own, on the worker that has them; None where there are none."""
    folder = storage.folder_of(folder)
    import pyarrow as pa
    from pyarrow import parquet

    if not table.num_rows:
        return None
    (folder / part).mkdir(parents=True, exist_ok=True)
    name = f"{part}/{uuid.uuid4().hex}.parquet"
    texts = [field.name for field in table.schema if not pa.types.is_primitive(field.type)]
    parquet.write_table(table, folder / name, compression="lz4", use_dictionary=texts)
    storage.keep(folder / name)
    return PartFile(part, name, table.num_rows)


def settled(folder: Path, pieces: Iterable[PartFile]) -> tuple[tuple[PartFile, ...], dict[str, Path]]:
    """Give the pieces, which come in the order of the source, the names that they keep; others are removed.

    Returns:
        The files, and by their names where those lie that an object store has already: see ``storage.keep``.
    """
    files: list[PartFile] = []
    stored: dict[str, Path] = {}
    counts = dict.fromkeys(PARTS, 0)
    for piece in pieces:
        name = f"{piece.part}/{counts[piece.part]:06d}.parquet"
        if storage.is_object_store(folder):
            stored[name] = folder / piece.name
        if not stored or (folder / piece.name).exists():  # one that another node wrote is not here
            os.replace(folder / piece.name, folder / name)
        files.append(PartFile(piece.part, name, piece.rows))
        counts[piece.part] += 1
    known = {folder / each.name for each in files}
    for part in PARTS:
        for stray in set((folder / part).glob("*.parquet")) - known:  # of tasks that Ray ran twice
            stray.unlink()
    return tuple(files), stored


def write_manifest(folder: Path, parts: Parts) -> None:
    """Write what ``find`` reads; the parts count as finished with it."""
    raw: Mapping[str, Any] = {
        "format": FORMAT,
        "judged": parts.judged,
        "facts": parts.facts.to_json(),
        "files": [asdict(each) for each in parts.files],
    }
    (folder / MANIFEST).write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
