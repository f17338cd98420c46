"""Which journal SQLite keeps beside a file: write-ahead on a disk of this machine, rollback on a shared one.

The write-ahead log coordinates its readers and writers through memory that they map together, which works on one
machine alone (https://sqlite.org/wal.html, "All processes using a database must be on the same host computer"). On a
network file system the rollback journal works across machines, as far as that system's locks do: NFS from version 4
on, CIFS, Lustre with ``flock``. A reader then waits for a writer, a few milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

NETWORK = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "beegfs",
        "gpfs",
        "ocfs2",
        "gfs2",
        "virtiofs",
    )
)
NETWORK_FUSE = ("fuse.",)  # sshfs, s3fs, glusterfs, juicefs: none of them maps memory across machines
MOUNTS = Path("/proc/self/mounts")

Mode = Literal["WAL", "DELETE"]


def mode_for(folder: Path, mounts: Path = MOUNTS) -> Mode:
    """Return the journal mode for a file in ``folder``; ``WAL`` where it cannot be told what lies below (macOS)."""
    kind = _kind(folder.resolve(), mounts)
    shared = kind in NETWORK or kind.startswith(NETWORK_FUSE)
    return "DELETE" if shared else "WAL"


def _kind(folder: Path, mounts: Path) -> str:
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        depth = len(point.parts)
        if depth >= best and folder.is_relative_to(point):  # of two mounts on one point the later one is on top
            best, kind = depth, fields[2]
    return kind
