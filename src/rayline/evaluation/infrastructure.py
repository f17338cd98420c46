"""What a bundle takes when it serves: it is loaded in a process of its own by the code of a replica, and tried.

The process has only what serving needs on its path, no training code and no code of the user, and may die without harm.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rayline.config import LimitsConfig

SECONDS = 120.0
MIB = 1024**2
RESULT = "result.json"
Quantity = Literal["latency_ms", "memory_mb", "size_mb"]
WORDS: dict[Quantity, str] = {
    "latency_ms": "to answer one row (99 of 100 answers) in ms",
    "memory_mb": "memory of its process in MiB",
    "size_mb": "size on disk in MiB",
}

# The folder of this package comes last on the path, so that it hides nothing there.
_START = "import sys, runpy; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit, and whether it holds. ``value`` is None where it could not be measured; that is no success."""

    quantity: Quantity
    value: float | None
    limit: float

    @property
    def ok(self) -> bool:
        """Whether the value was measured and is within the limit."""
        return self.value is not None and self.value <= self.limit

    @property
    def message(self) -> str:
        """The verdict for people."""
        found = "was not measured" if self.value is None else f"{self.value:.3g}"
        return f"{WORDS[self.quantity]}: {found}; evaluate.limits.{self.quantity} is {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a call with so many rows: the median and the slowest but one of a hundred."""

    rows: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Infrastructure:
    """What a bundle did in a process of its own.

    Attributes:
        failure: why it did not load or answer its example; empty where it did.
        seconds: from loading to the first answers, warm-up included; None where it failed.
        one, batch: how long answers take; None where it failed.
        memory_mb: what the process held after answering, in MiB, and ``loaded_mb`` how much of it came with the bundle.
        size_mb: of the bundle's files, in MiB.
        verdicts: one for each limit of the configuration.
    """

    failure: str
    size_mb: float
    seconds: float | None = None
    one: Latency | None = None
    batch: Latency | None = None
    memory_mb: float | None = None
    loaded_mb: float | None = None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it loads, answers its example and keeps within every limit."""
        return not self.failure and all(each.ok for each in self.verdicts)


def infrastructure_of(
    bundle: Path, program: str, limits: LimitsConfig, storage: Path | None = None, seconds: float = SECONDS
) -> Infrastructure:
    """Try a bundle in a fresh interpreter.

    Args:
        bundle: its directory.
        program: the module to run there, with the bundle, the file for its result and the state folder as arguments:
            ``rayline.serving.versions.tryout``.
        limits: become verdicts.
        storage: the project's state folder, for a bundle that looks columns up in an embedded store.
        seconds: the process is killed after so many.

    Returns:
        What was measured, or in ``failure`` how the process ended: nothing that a bundle does there is raised here.
    """
    size = sum(each.stat().st_size for each in bundle.rglob("*") if each.is_file()) / MIB
    found = _in_a_fresh_process(bundle, program, storage, seconds)
    if isinstance(found, str):
        return Infrastructure(found, size, verdicts=_verdicts(limits, {"size_mb": size}))
    one, batch = (Latency(**found[each]) for each in ("one", "batch"))
    memory = found["memory_mb"]
    measured = {"latency_ms": one.p99_ms, "memory_mb": memory, "size_mb": size}
    verdicts = _verdicts(limits, measured)
    return Infrastructure("", size, found["seconds"], one, batch, memory, found["loaded_mb"], verdicts)


def _verdicts(limits: LimitsConfig, measured: dict[str, float]) -> tuple[Verdict, ...]:
    asked = {quantity: getattr(limits, quantity) for quantity in WORDS}
    return tuple(Verdict(each, measured.get(each), limit) for each, limit in asked.items() if limit is not None)


def _in_a_fresh_process(bundle: Path, program: str, storage: Path | None, seconds: float) -> dict[str, Any] | str:
    import rayline

    home = Path(rayline.__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="rayline-tryout-") as temporary:
        out = Path(temporary) / RESULT
        given = [str(home), program, str(bundle.resolve()), str(out), str(storage.resolve()) if storage else ""]
        try:
            # -P keeps the current folder, where a user's code may lie, off the path.
            done = subprocess.run(
                [sys.executable, "-P", "-c", _START, *given],
                cwd=temporary,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it did not load and answer within {seconds:g} s, and its process was ended."
        if done.returncode < 0:
            return _killed(-done.returncode)
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return f"its process ended with exit code {done.returncode}: {last}"
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return str(found["failure"]) if found.get("failure") else found


def _killed(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " The system ends a process so that takes more memory than there is." if name == "SIGKILL" else ""
    return f"it took its process down with {name} while it loaded or answered.{hint}"
