"""A throwaway replica: one bundle, loaded and warmed as a replica does, asked for its example, timed and weighed.

``python -m rayline.serving.versions.tryout BUNDLE RESULT STORAGE`` writes the file RESULT as JSON: ``failure``,
and where it is empty ``seconds``, ``one`` and ``batch`` (``rows, p50_ms, p99_ms``), ``memory_mb`` and ``loaded_mb``
(MiB).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rayline.serving.host import Host
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.versions.memory import resident_mb
from rayline.serving.versions.served import Served
from rayline.serving.wire import protocol

NAME = "tryout"
BATCH = 64
MOST_CALLS = 300
MOST_SECONDS = 3.0  # of timing, for one size


def tryout(bundle: Path, storage: Path | None = None) -> dict[str, Any]:
    """Load a bundle through a replica's host, answer its example and measure.

    Args:
        bundle: its directory.
        storage: the project's state folder, for a bundle that looks columns up in an embedded store.

    Returns:
        What the module's head describes, JSON-ready.
    """
    from threadpoolctl import threadpool_limits

    from rayline.registry.bundle import Bundle

    threadpool_limits(limits=1)  # as a replica does: see rayline.serving.replica
    before = resident_mb()
    began = time.perf_counter()
    host = Host(NAME, lambda: None, partial(Served.load, storage=storage))
    digest = Bundle.load(bundle).digest
    host.apply(TrafficPlan.first(NAME, LiveVersion(1, str(bundle), digest)), wait=True)
    failed = host.report()["failed"]
    if failed:
        return {"failure": f"a replica could not load it: {failed['1']}"}
    served = host.choose(None, None)
    rows = [dict(row) for row in served.bundle.example]
    if not rows:
        return {"failure": "it has no input example to answer."}
    answer = partial(_answer, served)
    answer(rows)
    seconds = time.perf_counter() - began
    one = _timed(answer, rows[:1])
    batch = _timed(answer, (rows * BATCH)[:BATCH])
    memory = resident_mb()
    return {
        "failure": "",
        "seconds": seconds,
        "one": one,
        "batch": batch,
        "memory_mb": memory,
        "loaded_mb": memory - before,
    }


def _answer(served: Served, rows: list[dict[str, Any]]) -> bytes:
    """Do what a replica does for a request, from the rows' JSON to the answer's."""
    decoded = protocol.decode_rows(protocol.encode({"rows": rows}), len(rows))
    return protocol.encode(served.predict(decoded).records)


def _timed(answer: Callable[[list[dict[str, Any]]], bytes], rows: list[dict[str, Any]]) -> dict[str, float]:
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < MOST_CALLS and (len(times) < 3 or time.perf_counter() - began < MOST_SECONDS):
        start = time.perf_counter()
        answer(rows)
        times.append(time.perf_counter() - start)
    times.sort()
    p50, p99 = (1000 * times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99))
    return {"rows": len(rows), "p50_ms": p50, "p99_ms": p99}


def main(arguments: Sequence[str]) -> None:
    """Try a bundle, and write down what was measured or what went wrong."""
    from rayline.errors import RaylineError

    bundle, result, storage = arguments
    try:
        found = tryout(Path(bundle), Path(storage) if storage else None)
    except RaylineError as error:
        found = {"failure": f"{type(error).__name__}: {error}"}
    Path(result).write_bytes(protocol.encode(found))


if __name__ == "__main__":
    main(sys.argv[1:])
