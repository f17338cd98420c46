"""Run one function over every block of a Ray Dataset, in one execution, and get its results in the blocks' order."""

from __future__ import annotations

import logging
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rayline.errors import DataError, RaylineError, RowError

if TYPE_CHECKING:
    import pyarrow as pa

Item = TypeVar("Item")
Result = TypeVar("Result")

RESULT = "result"
ROWS_PER_BLOCK = 100_000


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An error of ours as plain values: it crosses processes without Ray's wrapping."""

    kind: type[RaylineError]
    message: str


def fold(dataset: Any, look: Callable[[pa.Table], Result]) -> Iterator[Result]:
    """Yield ``look(block)`` for every block of a Dataset, in order.

    Args:
        dataset: a ``ray.data.Dataset``.
        look: gets each block as a ``pyarrow.Table``; the function and its results are pickled.

    Raises:
        RaylineError: what ``look`` raised (a ``RowError`` as ``DataError``: its row counts from the block's start).
        DataError: the blocks could not be read.
    """
    with quiet():
        mapped = dataset.map_batches(_Look(look), batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
        for block in _read(mapped):
            for packed in block.column(RESULT):
                result = pickle.loads(packed.as_buffer())
                if isinstance(result, _Refusal):
                    raise result.kind(result.message)
                yield result


def over(items: Sequence[Item], look: Callable[[Item], Result], *, here: bool = False) -> Iterator[Result]:
    """Yield ``look(item)`` for every item, in order: one task of Ray Data for each, or all in this process.

    Raises:
        RaylineError: what ``look`` raised (a ``RowError`` as ``DataError``).
    """
    if here:
        yield from _one_by_one(items, look)
        return
    import pyarrow as pa
    import ray.data

    if items:
        with quiet():
            packed = [pa.table({RESULT: pa.array([pickle.dumps(item)], pa.large_binary())}) for item in items]
            yield from fold(ray.data.from_arrow(packed), _OnItem(look))


def _one_by_one(items: Sequence[Item], look: Callable[[Item], Result]) -> Iterator[Result]:
    for item in items:
        try:
            yield look(item)
        except RowError as error:
            raise DataError(str(error)) from error


def in_blocks(table: pa.Table, rows: int = ROWS_PER_BLOCK) -> Any:
    """Return a ``ray.data.Dataset`` of an Arrow table, cut into blocks of about ``rows`` rows."""
    import ray.data

    parts = max(1, round(table.num_rows / rows))
    edges = [table.num_rows * part // parts for part in range(parts + 1)]
    with quiet():
        slices = [table.slice(edges[part], edges[part + 1] - edges[part]) for part in range(parts)]
        return ray.data.from_arrow(slices)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray Data's bars and progress lines off the terminal, and blocks in order, for what is made inside."""
    from ray.data import DataContext

    with warnings.catch_warnings():
        # Ray sets deprecated options of its own when it makes its first context.
        warnings.filterwarnings("ignore", message="`use_", category=DeprecationWarning)
        context = DataContext.get_current()
    before = context.enable_progress_bars, context.execution_options.preserve_order, context.use_datasource_v2
    logger = logging.getLogger("ray.data")
    level = logger.level
    # Ray 2.60's new Parquet reader deals row groups out to tasks in turn, and their order is lost whatever is asked.
    context.enable_progress_bars, context.execution_options.preserve_order, context.use_datasource_v2 = (
        False,
        True,
        False,
    )
    logger.setLevel(logging.CRITICAL)  # what fails is raised, in one sentence
    try:
        yield
    finally:
        context.enable_progress_bars, context.execution_options.preserve_order, context.use_datasource_v2 = before
        logger.setLevel(level)


@dataclass(frozen=True, slots=True)
class _OnItem:
    look: Callable[[Any], Any]

    def __call__(self, block: pa.Table) -> Any:
        return self.look(pickle.loads(block.column(RESULT)[0].as_buffer()))


@dataclass(frozen=True, slots=True)
class _Look:
    look: Callable[[pa.Table], Any]
    folders: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def __call__(self, block: pa.Table) -> pa.Table:
        import pyarrow as pa

        # Ray tells its workers of the driver's script and folder alone; a user's function may lie beside its config.
        sys.path += [folder for folder in self.folders if folder not in sys.path]
        try:
            result: Any = self.look(block)
        except RowError as error:
            result = _Refusal(DataError, str(error))
        except RaylineError as error:
            result = _Refusal(type(error), str(error))
        return pa.table({RESULT: pa.array([pickle.dumps(result, protocol=5)], pa.large_binary())})


def _read(mapped: Any) -> Iterator[pa.Table]:
    from ray.exceptions import RayError

    from rayline.features.sources.failures import sentence_of

    try:
        yield from mapped.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    except (RayError, OSError, ValueError) as error:
        raise DataError(sentence_of(error)) from error
