"""What a submitted job runs on the cluster: it looks at its environment, then becomes the command that was sent.

``python -m rayline.cli.job_driver LOCK MODE PYTHON -- VERB ...``: LOCK is a file in the working directory or ``-``;
MODE is ``install`` where the sender waits to hear what is lacking, ``tell`` where it only wants to know; PYTHON is the
version of the sender's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from rayline.jobs.lock import LACKS, lacking, read_lock, told

SHOWN = 8


def main(arguments: Sequence[str]) -> int:
    """Check the environment and run the command; return its exit code."""
    lock, mode, python, _, *command = arguments
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != python:
        print(f"note: this job runs on Python {here}, and was sent from Python {python}.", flush=True)
    lacks = lacking(read_lock(Path(lock)), version_of) if lock != "-" else []
    if lacks and mode == "install":
        print(told(lacks), flush=True)
        return LACKS
    if lacks:
        more = f" and {len(lacks) - SHOWN} more" if len(lacks) > SHOWN else ""
        print(f"note: this image differs from {lock}: it lacks {', '.join(lacks[:SHOWN])}{more}.", flush=True)
    from rayline.cli.app import run

    return run(command)


def version_of(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
