"""Every error that Rayline raises on purpose, in one tree.

    RaylineError
    ├── UsageError                the command, the configuration or an argument is wrong   (exit 2)
    │   ├── ConfigError           a value in the configuration file
    │   ├── NotFoundError         a service, version, run or file that does not exist
    │   └── DataError             the data cannot be used as asked
    │       ├── SchemaError       a table or a fitted state does not have the expected columns
    │       └── RowError          one row cannot be used: names row, column, value and rule
    ├── BundleError               a bundle is damaged, unknown or not allowed to load      (exit 2)
    ├── CheckFailed               a check, a gate or a rollout said no                     (exit 1)
    │   ├── ValidationFailed      data breaks its schema
    │   ├── TrainingFailed        training ended without a usable model
    │   ├── SkewFound             a bundle serves other numbers than it was trained and measured on
    │   ├── GateRefused           a version did not reach what its gates ask, so it may not meet live traffic
    │   └── RolloutRefused        the rollout's state does not allow what was asked
    └── EnvironmentFailed         what Rayline runs on is missing or broken                (exit 3)
        ├── ClusterError          Ray cannot be reached or started, or a port is taken
        │   └── NeverFits         a cluster can never hold what is asked of it, so that nothing was started
        ├── StorageError          the object store cannot be reached, or refused
        ├── TrackingError         MLflow cannot be reached or refused
        │   └── TrackingRefused   MLflow will never take what it was given
        └── ServiceError          a live service did not answer as it must
            ├── StaleController   a rollout's controller was replaced, and may not change traffic any more
            └── Overloaded        a replica has more requests than it may hold, or could not answer one in time
                └── VersionDown   a version runs in a process of its own, which does not answer

Each message names the thing, the value, the rule and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RaylineError(Exception):
    """Base of every error raised on purpose. ``exit_code`` is what the command line returns."""

    exit_code = 2


class UsageError(RaylineError):
    """The command, the configuration or an argument is wrong."""


class ConfigError(UsageError):
    """A value in the configuration file is wrong."""


class NotFoundError(UsageError):
    """A service, version, run or file that does not exist."""


class DataError(UsageError):
    """The data cannot be used as asked."""


class SchemaError(DataError):
    """A table or a fitted state does not have the expected columns."""


class RowError(DataError):
    """One row cannot be used.

    Attributes:
        row: position in the request or table, from 0.
        column: the column's name, or None where the row as a whole is wrong.
        value: what was found there.
        rule: what would have been accepted.
    """

    def __init__(self, row: int, column: str | None, value: object, rule: str) -> None:
        self.row = row
        self.column = column
        self.value = value
        self.rule = rule
        where = f"row {row}" if column is None else f"row {row}, column '{column}'"
        super().__init__(f"{where}: {shown(value)} {rule}")

    def __reduce__(self) -> tuple[type[RowError], tuple[int, str | None, object, str]]:
        """Cross a process boundary with its four parts."""
        return type(self), (self.row, self.column, self.value, self.rule)


class BundleError(RaylineError):
    """A bundle is damaged, of an unknown format, or not allowed to load."""


class CheckFailed(RaylineError):
    """A check, a gate or a rollout said no."""

    exit_code = 1


class ValidationFailed(CheckFailed):
    """Data breaks its schema."""


class TrainingFailed(CheckFailed):
    """Training ended without a usable model."""


class SkewFound(CheckFailed):
    """A bundle serves other features or predictions than it was trained and measured on."""


class GateRefused(CheckFailed):
    """A version did not reach what its gates ask, so it may not meet live traffic."""


class RolloutRefused(CheckFailed):
    """The rollout's state does not allow what was asked."""


class EnvironmentFailed(RaylineError):
    """What Rayline runs on is missing or broken."""

    exit_code = 3


class ClusterError(EnvironmentFailed):
    """Ray cannot be reached or started, or a port is taken."""


class NeverFits(ClusterError):
    """A cluster, grown as far as it may, can never hold what is asked of it: nothing was started."""


class StorageError(EnvironmentFailed):
    """The object store that a project's state lies in cannot be reached, or refused."""


class TrackingError(EnvironmentFailed):
    """MLflow cannot be reached, or refused."""


class TrackingRefused(TrackingError):
    """MLflow will never take what it was given: trying again cannot help."""


class ServiceError(EnvironmentFailed):
    """A live service did not answer as it must."""


class StaleController(ServiceError):
    """A rollout's controller was replaced by a later one, and may not change traffic any more."""


class Overloaded(ServiceError):
    """A replica has more requests than it may hold, or could not answer one in time; asked again later, it may.

    Attributes:
        retry_after: seconds after which to ask again.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[type[Overloaded], tuple[str, int]]:
        """Cross a process boundary with both parts."""
        return type(self), (str(self), self.retry_after)


class VersionDown(Overloaded):
    """A version runs in a process of its own, which does not answer: its share of the requests fails meanwhile."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a mistyped one, or None where none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the closing words of a message about an unknown name: the nearest, or all of them."""
    names = list(known)
    match = nearest(name, names)
    if match is not None:
        return f"Did you mean '{match}'?"
    return f"Known: {', '.join(sorted(names))}." if names else "There is none yet."


def shown(value: object, limit: int = 60) -> str:
    """Return a value as it may stand in a message: its repr, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
