"""`rayline doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rayline.cli import show
from rayline.cli.options import Address, Json, name_cluster

Manifests = Annotated[
    tuple[Path, ...],
    Parameter(help="Files or folders whose CHANGE-ME values are listed; may be given several times.", negative=()),
]


def doctor(
    config: Annotated[
        Path | None, Parameter(help="The project's YAML file; default: rayline.yaml here.", env_var="RAYLINE_CONFIG")
    ] = None,
    /,
    *,
    address: Address = None,
    manifests: Manifests = (),
    json: Json = False,
) -> int:
    """Look at all that a run needs, and change nothing; exit code 3 where something of it is broken."""
    from rayline.doctor import examine
    from rayline.doctor.family import FAMILY
    from rayline.doctor.subject import subject_of

    name_cluster(address)
    return show.examined(examine(subject_of(config, manifests), FAMILY), as_json=json)
