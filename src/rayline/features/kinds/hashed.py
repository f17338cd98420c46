"""A level as one of a fixed number of buckets, by a hash of its text: nothing is fitted and no level is unknown."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.seam import Feature, Filler, Kind, Observed, read
from rayline.features.kinds.vocabulary import setting_of
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.batch import Batch


@dataclass(frozen=True, slots=True)
class HashedColumn:
    """One output per bucket, 1 in the level's own; a missing value is zeros."""

    name: str
    source: str
    buckets: int
    kind: str = "categorical"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name[bucket]`` from 0."""
        return tuple(f"{self.name}[{bucket}]" for bucket in range(self.buckets))

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        values = batch.values(self.source, "categorical")
        places = np.array([*(bucket_of(text, self.buckets) for text in values.texts), 0], dtype=np.int64)
        out[np.arange(len(out)), places[values.codes]] = ~values.missing

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        source, buckets = self.source, self.buckets

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            text = read(canonical.level_text, row[source], source, RULES["categorical"])
            if text is not None:
                out[offset + bucket_of(text, buckets)] = 1.0

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "encode": "hashing",
            "name": self.name,
            "source": self.source,
            "buckets": self.buckets,
        }


def bucket_of(text: str, buckets: int) -> int:
    """Return a text's bucket, the same in every process and on every machine.

    CRC-32 of its UTF-8 bytes, spread by a multiplication with the golden ratio (Knuth, TAOCP 3, 6.4), whose leading
    bits choose: CRC-32 alone is linear, and texts that differ in one place would fall into few buckets.
    """
    word = zlib.crc32(text.encode("utf-8", "surrogatepass")) * 0x9E3779B1 & 0xFFFFFFFF
    return word * buckets >> 32


def _finish(feature: Feature, observed: Observed) -> HashedColumn:
    return HashedColumn(feature.name, feature.input.name, setting_of(feature).buckets)


def _restore(raw: Mapping[str, Any]) -> HashedColumn:
    return HashedColumn(raw["name"], raw["source"], raw["buckets"])


ENCODING = Kind("hashing", _finish, _restore)
