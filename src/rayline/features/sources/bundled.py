"""The real data sets that scikit-learn brings along: ``sklearn:NAME``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayline.errors import NotFoundError, suggestion

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
TARGET = "target"


@dataclass(frozen=True, slots=True)
class BundledSource:
    """One set: its measures, and the column ``target`` with the name of the class (a number for ``diabetes``)."""

    name: str

    def table(self, head: int | None = None) -> pa.Table:
        """Return the whole set. Raises ``NotFoundError`` with the nearest name."""
        import pyarrow as pa

        if self.name not in NAMES:
            raise NotFoundError(f"there is no bundled data set 'sklearn:{self.name}'. {suggestion(self.name, NAMES)}")
        from sklearn import datasets

        loaded = getattr(datasets, f"load_{self.name}")()
        classes = [str(name) for name in getattr(loaded, "target_names", ())]
        target = [classes[index] for index in loaded.target] if self.name != "diabetes" else loaded.target
        columns = {str(column): loaded.data[:, index] for index, column in enumerate(loaded.feature_names)}
        return pa.table({**columns, TARGET: pa.array(target)})

    def dataset(self, schema: pa.Schema | None, columns: tuple[str, ...] | None = None) -> Any:
        """Return the set as a Dataset."""
        from rayline.features.blocks import in_blocks

        table = self.table()
        return in_blocks(table.select(list(columns)) if columns else table)

    def digest(self) -> str:
        """Return a digest of the name and of scikit-learn's version."""
        import sklearn

        return hashlib.blake2b(f"sklearn:{self.name} {sklearn.__version__}".encode(), digest_size=8).hexdigest()

    def larger_than(self, limit: int) -> bool:
        """No set is large."""
        return False
