"""One job as its server tells of it, and what its end means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

End = Literal["done", "refused", "wrong", "died", "environment", "stopped"]

PROJECT_KEY = "rayline.project"
_ENVIRONMENT = 3
_NOT_FOUND = (126, 127)


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job.

    Attributes:
        status: in Ray's words: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED.
        code: what its driver left with: 0 to 255, or minus the signal that killed it; None before.
        error: Ray's name for what went wrong around the driver; empty where nothing did.
        began: seconds since 1970, or None where it has not begun.
        finished: the same, of its end.
    """

    id: str
    status: str
    code: int | None
    error: str
    message: str
    began: float | None
    finished: float | None
    entrypoint: str
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Job:
        """Read what the job server says of one."""
        return cls(
            id=str(values["submission_id"]),
            status=str(values["status"]),
            code=values.get("driver_exit_code"),
            error=str(values.get("error_type") or ""),
            message=str(values.get("message") or ""),
            began=_seconds(values.get("start_time")),
            finished=_seconds(values.get("end_time")),
            entrypoint=str(values.get("entrypoint") or ""),
            metadata=values.get("metadata") or {},
        )

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def end(self) -> End:
        """What its end means. Only of a job that has ended."""
        if self.status == "SUCCEEDED":
            return "done"
        if self.status == "STOPPED":
            return "stopped"
        if self.code is None:  # it never began, or what watched over it died
            return "died" if self.error in ("JOB_SUPERVISOR_ACTOR_DIED", "") else "environment"
        if self.code < 0 or self.code > 128:
            return "died"
        if self.code == _ENVIRONMENT or self.code in _NOT_FOUND:
            return "environment"
        return "refused" if self.code == 1 else "wrong"

    @property
    def exit_code(self) -> int:
        """What a command that followed it leaves with: the driver's own code, where it had one that says something."""
        end = self.end
        if self.code is not None and 0 <= self.code <= 128 and self.code not in _NOT_FOUND:
            return self.code
        return 1 if end == "stopped" else _ENVIRONMENT

    @property
    def why(self) -> str:
        """Say in a few words what it ended in."""
        match self.end:
            case "done":
                return "done"
            case "stopped":
                return "stopped"
            case "refused":
                return "a check, gate or rollout said no (exit code 1)"
            case "wrong":
                return f"ended with exit code {self.code}"
            case "died":
                signal = _signal(self.code)
                return f"its driver was killed by signal {signal}" if signal else "its driver died"
            case "environment":
                return self._environment()

    def _environment(self) -> str:
        if self.code in _NOT_FOUND:
            return f"the program of its entry point was not found on the head (exit code {self.code})"
        if self.code is not None:
            return f"its environment failed (exit code {self.code})"
        return f"it could not start: {self.error.lower().replace('_', ' ')}"


def may_help(end: End) -> bool:
    """Tell whether the same job again may end otherwise: after a death or a broken environment, never after a no."""
    return end in ("died", "environment")


def _signal(code: int | None) -> int:
    if code is None:
        return 0
    return -code if code < 0 else max(code - 128, 0)


def _seconds(milliseconds: Any) -> float | None:
    return float(milliseconds) / 1000 if milliseconds is not None else None
