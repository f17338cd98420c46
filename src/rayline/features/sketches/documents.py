"""In how many texts each bucket occurs: what inverse document frequencies are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rayline.errors import SchemaError
from rayline.features.sketches.seam import readable


@readable
@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """Counts that merge exactly.

    Attributes:
        texts: how many there are.
        found: int64 (buckets,), the texts that have an n-gram in each bucket.
    """

    kind: ClassVar[str] = "documents"

    texts: int
    found: NDArray[np.int64]

    def merged(self, other: Documents) -> Documents:
        """Return the counts of both sets of texts together. Raises ``SchemaError`` for another number of buckets."""
        if len(self.found) != len(other.found):
            raise SchemaError(
                f"texts in {len(self.found)} and in {len(other.found)} buckets cannot be merged: "
                "fit with one configuration."
            )
        return Documents(self.texts + other.texts, self.found + other.found)

    def rarity(self) -> NDArray[np.float64]:
        """Return ``ln((1 + texts) / (1 + found)) + 1``: float64 (buckets,), scikit-learn's smoothed inverse."""
        rarity: NDArray[np.float64] = np.log((1 + self.texts) / (1 + self.found)) + 1
        return rarity

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"kind": self.kind, "texts": self.texts, "found": self.found.tolist()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Documents:
        """Return the counts of ``to_json``'s values."""
        return cls(raw["texts"], np.array(raw["found"], dtype=np.int64))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Documents) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]
