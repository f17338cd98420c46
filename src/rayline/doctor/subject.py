"""What `rayline doctor` was asked about: a project, a cluster, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rayline import cluster, config
from rayline.doctor.seam import Subject
from rayline.errors import RaylineError
from rayline.readiness import named_cluster

USUAL_FILE = Path("rayline.yaml")


def subject_of(file: Path | None = None, manifests: Sequence[Path] = ()) -> Subject:
    """Return what to look at; a configuration that is wrong is a finding, no error.

    Args:
        file: of the configuration; None takes ``rayline.yaml`` where there is one.
        manifests: files and folders that describe a cluster.
    """
    chosen = file or (USUAL_FILE if USUAL_FILE.is_file() else None)
    loaded, wrong = None, ""
    if chosen is not None:
        try:
            loaded = config.load(chosen)
        except RaylineError as error:
            wrong = str(error)
    own = cluster.alive(loaded.storage) if loaded is not None and named_cluster() is None else None
    return Subject(
        loaded,
        chosen,
        wrong,
        own.address if own is not None else named_cluster(),
        Path(own.token_path) if own is not None else None,
        tuple(manifests),
    )
