"""``data``: where the table is and how its rows are divided."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from rayline.config.section import NonNegative, Positive, Section, Share

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET_KEY = re.compile(r"(pass(word|wd|phrase)?|pwd|secret|token|api_?key|private_?key)$", re.IGNORECASE)
SECRET_TEXT = re.compile(r"://[^/@:\s]*:(?!\$\{)[^/@\s]+@|\b(password|pwd)\s*=\s*(?!\$\{)[^\s;]", re.IGNORECASE)
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d|w)")
SECONDS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


class SplitConfig(Section, frozen=True, kw_only=True):
    """How rows are divided.

    ``hash``: by the row's content, or by ``key``: rows that agree in it stay together.
    ``time``: the earliest rows train and the latest test, in the order of ``column``, or in the order of the file where
    no column is named. ``gap`` leaves out the rows just before each border: seconds, or text such as ``7d``, ``12h``,
    ``30min``; in the units of ``column`` where that holds numbers; rows where no column is named.
    ``stratified``: by the row's content, with the same share of every class of the target (of every tenth, where the
    target is a number) in each part.
    ``column``: ``column`` says ``train``, ``valid`` or ``test`` in each row. It is no input.
    ``files``: ``valid`` and ``test`` are files of their own, as ``source``; where one of them is a share instead, it
    comes out of the source by hash.
    """

    by: Literal["hash", "time", "stratified", "column", "files"] = "hash"
    key: str | None = None
    column: str | None = None
    gap: NonNegative | str = 0.0
    valid: Share | str = 0.15
    test: Share | str = 0.15

    def __post_init__(self) -> None:
        if self.valid_share + self.test_share >= 1:
            raise ValueError(f"valid ({self.valid}) and test ({self.test}) leave nothing to train on")
        self._refuse_strays()
        if self.by == "column" and self.column is None:
            raise ValueError("'by: column' needs 'column', the one that says train, valid or test")
        if isinstance(self.gap, str) and not DURATION.fullmatch(self.gap):
            raise ValueError(f"gap ('{self.gap}') is neither seconds nor a text such as 7d, 12h, 30min or 90s")

    @property
    def valid_share(self) -> float:
        """The share of the source's rows that validate; 0 where a file gives them."""
        return 0.0 if isinstance(self.valid, str) else self.valid

    @property
    def test_share(self) -> float:
        """The share of the source's rows that test; 0 where a file gives them."""
        return 0.0 if isinstance(self.test, str) else self.test

    @property
    def gap_seconds(self) -> float:
        """The gap in seconds; a plain number is returned as it is."""
        if not isinstance(self.gap, str):
            return self.gap
        found = DURATION.fullmatch(self.gap)
        assert found is not None
        return float(found[1]) * SECONDS[found[2]]

    def _refuse_strays(self) -> None:
        if self.key is not None and self.by not in ("hash", "files"):
            raise ValueError("'key' belongs to 'by: hash'")
        if self.column is not None and self.by not in ("time", "column"):
            raise ValueError("'column' belongs to 'by: time' or 'by: column'")
        if self.gap and self.by != "time":
            raise ValueError("'gap' belongs to 'by: time'")
        named = [name for name in ("valid", "test") if isinstance(getattr(self, name), str)]
        if named and self.by != "files":
            raise ValueError(f"'{named[0]}' is a share of the rows, such as 0.15; a file belongs to 'by: files'")
        if self.by == "files" and not named:
            raise ValueError("'by: files' needs a file for 'valid', for 'test' or for both")


class SqlConfig(Section, frozen=True, kw_only=True):
    """A query over a DB-API connection (PEP 249).

    ``module`` has a ``connect`` function that takes the values of ``connect``. ``${NAME}`` in a value stands for that
    environment variable, so that no secret is in the file; a secret in the file is refused.
    With a ``shard_key``, a whole number that no row lacks, the query runs in ``parallelism`` shards on the cluster; the
    database needs ``MOD`` and ``ABS``. ``shard_hash`` names a function of the database that makes such a number of
    another key. Without one the rows pass through the driver.
    ``version`` is a small query whose answer changes whenever the rows do, such as ``SELECT max(updated_at) FROM t``:
    it saves reading all rows only to see whether they changed.
    """

    query: str
    module: str = "sqlite3"
    connect: dict[str, Any] = {}
    shard_key: str | None = None
    shard_hash: str = ""
    parallelism: Positive = 8
    version: str | None = None

    def __post_init__(self) -> None:
        if not self.query.strip():
            raise ValueError("'query' is empty: write a SELECT")
        for key, value in _texts(self.connect):
            secret = SECRET_KEY.search(key) and not VARIABLE.search(value)
            if value and (secret or SECRET_TEXT.search(value)):
                raise ValueError(
                    f"'connect.{key}' holds a secret, which the run would keep for all to read: write '${{NAME}}' in "
                    "its place and set that environment variable"
                )


class DataConfig(Section, frozen=True, kw_only=True):
    """Where the table is: either ``source`` or ``sql``; neither, where it is handed over from Python.

    ``source`` is a path, glob, folder or URI of CSV, Parquet or JSON lines, or ``sklearn:NAME``. ``delimiter`` is for
    CSV; without it a tab for ``.tsv`` and a comma otherwise.
    """

    source: str = ""
    sql: SqlConfig | None = None
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    split: SplitConfig = SplitConfig()

    def __post_init__(self) -> None:
        if self.source and self.sql is not None:
            raise ValueError("'source' and 'sql' both say where the table is: leave one out")

    @property
    def label(self) -> str:
        """What messages and records call the source; it holds no secret."""
        if self.sql is None:
            return self.source
        query = " ".join(self.sql.query.split())
        return f"{self.sql.module}: {query if len(query) <= 80 else query[:79] + '…'}"


def _texts(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{place}{key}.")
        elif isinstance(value, str):
            yield f"{place}{key}", value
        elif SECRET_KEY.search(key) and value is not None:
            yield f"{place}{key}", str(value)
