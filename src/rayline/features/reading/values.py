"""One column's values, as every reader gives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Values:
    """One column's values, with the rows that have none and the rows whose value is not of the kind.

    ``data`` is float64 (numbers; booleans as 0 and 1), int64 microseconds (instants), integer codes into ``texts``
    (levels and texts; -1 where missing, -2 where wrong), or float64 or float32 (n, width) for arrays, in C order. What
    stands elsewhere in a missing or wrong row means nothing.
    """

    data: NDArray[Any]
    missing: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    texts: tuple[str, ...] = ()

    @cached_property
    def gap_count(self) -> int:
        """How many rows have no value."""
        return int(np.count_nonzero(self.missing))

    @property
    def gaps(self) -> bool:
        """Whether any row has no value."""
        return self.gap_count > 0

    @cached_property
    def present(self) -> NDArray[Any]:
        """The values of the rows that have one."""
        return self.data[~self.missing] if self.gaps else self.data

    @property
    def codes(self) -> NDArray[Any]:
        """Levels and texts: places in ``texts``, -1 where missing, -2 where wrong."""
        return self.data
