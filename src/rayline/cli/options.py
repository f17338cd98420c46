"""The parameters that several verbs share, and what they stand for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rayline import config
from rayline.config import Config
from rayline.errors import NotFoundError, UsageError, suggestion
from rayline.storage import folder_of

HERE = Path("rayline.yaml")
ConfigFile = Annotated[Path, Parameter(help="The project's YAML file.", env_var="RAYLINE_CONFIG")]
Overrides = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="section.key=value; may be given several times.", negative=(), consume_multiple=False),
]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON object instead of text.", negative=())]
Fresh = Annotated[bool, Parameter(help="Run every step again, whatever is cached.", negative=())]
Force = Annotated[
    str | None,
    Parameter(help="Why a version that is not blessed gets traffic all the same; kept with it, with your name."),
]
Service = Annotated[str, Parameter(help="The service's name.")]
ProjectFile = Annotated[
    Path | None, Parameter(name="--config", help="The project's YAML file; default: rayline.yaml, where there is one.")
]

Address = Annotated[
    str | None, Parameter(help="The cluster to look at, HOST:PORT or auto; default: RAY_ADDRESS, or the project's own.")
]


def name_cluster(address: str | None) -> None:
    """Have everything that connects to Ray connect to this cluster; None leaves that to RAY_ADDRESS."""
    if address is not None:
        os.environ["RAY_ADDRESS"] = address


def project_file(file: Path | None) -> Path:
    """Return the project's file: the named one, RAYLINE_CONFIG, or ``rayline.yaml`` here. Raises ``NotFoundError``."""
    path = file or Path(os.environ.get("RAYLINE_CONFIG", HERE))
    if not path.is_file():
        raise NotFoundError(
            f"which project? There is no '{path}' here: go to the project's folder, or name its file with --config."
        )
    return path


def project_storage(file: Path | None) -> Path:
    """Return the project's state folder: its file's; without any file here, ``.rayline`` where there is one.

    Raises:
        NotFoundError: there is neither.
        ConfigError: the file is not a configuration.
    """
    here = Path(".rayline")
    try:
        path = project_file(file)
    except NotFoundError:
        if file is None and here.is_dir():
            return here
        raise
    return folder_of(config.load(path).storage)


def named_project(name: str, file: Path | None) -> Config:
    """Return the configuration that a service's name belongs to.

    Raises:
        NotFoundError: there is no configuration file, or it describes another service.
    """
    path = project_file(file)
    loaded = config.load(path)
    if loaded.name != name:
        raise NotFoundError(f"unknown service '{name}': '{path}' describes one. {suggestion(name, [loaded.name])}")
    return loaded


@dataclass(frozen=True, slots=True)
class Selected:
    """A service's name, and which of its versions: a number, an ``@alias``, or None."""

    name: str
    selector: str | None


def selected(text: str) -> Selected:
    """Read ``NAME``, ``NAME@3`` or ``NAME@champion``. Raises ``UsageError``."""
    name, at, selector = text.partition("@")
    if not name or (at and not selector):
        raise UsageError(f"'{text}' must read NAME, NAME@VERSION or NAME@ALIAS.")
    if not at:
        return Selected(name, None)
    return Selected(name, selector if selector.isdigit() else f"@{selector}")
