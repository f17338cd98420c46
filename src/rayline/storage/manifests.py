"""How a folder lies in an object store: its files under keys of their own, and one object that names them.

``KEY.kept`` is the folder: a reader who finds it finds all of it, and who does not finds nothing. It is written last,
in one request. Files lie below ``KEY/.MARK/``, with a mark of their own for each time that the folder is kept, so that
whoever still reads the state before finds that one whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

SUFFIX = ".kept"
FORMAT = 1


class Manifest(msgspec.Struct, frozen=True):
    """A whole folder.

    Attributes:
        files: the key of each file, by its path in the folder, with ``/`` between.
        format: of this object.
    """

    files: Mapping[str, str]
    format: int = FORMAT


def manifest_key(key: str) -> str:
    """Return the key of the object that is a folder."""
    return f"{key}{SUFFIX}"


def encoded(manifest: Manifest) -> bytes:
    """Return a manifest as an object's content."""
    return msgspec.json.encode(manifest)


def decoded(content: bytes) -> Manifest:
    """Return the manifest that an object holds. Raises ``ValueError`` where it holds none, or one of a later format."""
    found = msgspec.json.decode(content, type=Manifest)
    if found.format != FORMAT:
        raise ValueError(f"it has format {found.format}; this version of Rayline reads {FORMAT}")
    return found


def hidden(name: str) -> bool:
    """Tell whether a path below a folder is nothing to keep: drafts, and what stands for a folder's files."""
    return any(part.startswith(".") for part in name.split("/")) or name.endswith((".draft", SUFFIX))
