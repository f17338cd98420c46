"""The seam of sources, and the choice of the connector for a configured one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rayline.config import DataConfig
from rayline.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


class Connector(Protocol):
    """One source of a table. Making a connector reads nothing."""

    def table(self, head: int | None = None) -> pa.Table:
        """Return the rows, in the order that the source has them.

        Args:
            head: about how many bytes of rows are enough; all rows where None.

        Raises:
            NotFoundError, DataError: there is no such source, or it cannot be read; the message names the thing.
        """
        ...

    def dataset(self, schema: pa.Schema | None, columns: tuple[str, ...] | None = None) -> Any:
        """Return a lazy ``ray.data.Dataset``, checked as far as that needs no values.

        Args:
            schema: physical types of the columns, from the head.
            columns: what to read; all columns where None.
        """
        ...

    def digest(self) -> str:
        """Return 16 hex digits that change when the content does. Needs no Ray, but for a Ray Dataset."""
        ...

    def larger_than(self, limit: int) -> bool:
        """Return whether the rows take more than ``limit`` bytes, or were asked to be read on the cluster."""
        ...


def connector_for(data: DataConfig) -> Connector:
    """Return the connector of a configured source.

    Raises:
        ConfigError: the configuration names no source.
    """
    if data.sql is not None:
        from rayline.features.sources.sql import SqlSource

        return SqlSource(data.sql)
    if data.source.startswith("sklearn:"):
        from rayline.features.sources.bundled import BundledSource

        return BundledSource(data.source.removeprefix("sklearn:"))
    if data.source.startswith("python:"):
        from rayline.features.sources.python import handed

        return handed(data.source)
    if not data.source:
        raise ConfigError(
            "the configuration says nowhere where the table is. Set data.source to a path, glob or URI, or data.sql to "
            "a query, or hand a table over from Python: rayline.run(config, data=table)."
        )
    from rayline.features.sources.files import FileSource

    return FileSource(data)
