"""One run as a job: what is sent, and why it is refused before anything is.

State must outlive the job's working directory, which Ray removes. So a project whose storage lies on this machine is
sent only to a cluster on this machine, or with another storage.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from rayline import config as configuration
from rayline.config import Config, plain
from rayline.errors import UsageError
from rayline.jobs import packing
from rayline.jobs.address import LOOPBACK
from rayline.jobs.job import PROJECT_KEY
from rayline.jobs.lock import find_lock, read_lock

FOLDER = ".rayline-job"
START = f"{FOLDER}/start.sh"
HEAD = {"node:__internal_head__": 0.001}
"""Ray's own resource of the head node. A driver that asks for nothing runs there anyway."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a user asks for, as the command line gives it.

    Attributes:
        config: the configuration's file.
        overrides: ``section.key=value``.
        working_dir: the folder that goes along; None for this one, or the configuration's where that is not below.
        storage: instead of the configuration's.
        env: ``auto``, ``image``, or a lock file.
        limit_mb: how large the working directory may be.
        num_cpus, num_gpus, memory, labels: what the driver itself takes, and where; memory in bytes.
        fresh: run every step again.
        wait: follow it to its end.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    working_dir: Path | None = None
    storage: str | None = None
    env: str = "auto"
    limit_mb: float = packing.LIMIT_MB
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    fresh: bool = False
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """What goes along, whichever cluster it goes to.

    Attributes:
        config: as it is read here.
        folder: the working directory.
        file: the configuration's path in it.
        package: its archive.
        lock: the lock file's path in it, or ``-``.
        seconds: how long it took to pack.
    """

    wishes: Wishes
    config: Config
    folder: Path
    file: str
    package: packing.Package
    lock: str
    seconds: float

    def addressed(self, *, same_machine: bool) -> Submission:
        """Return the job for a cluster on this machine, or for one elsewhere.

        Raises:
            UsageError: its state would be lost there.
        """
        moved, notes = _moved(self.config, self.wishes, self.folder, same_machine)
        words = ["run", self.file, *(["--fresh"] if self.wishes.fresh else [])]
        for each in (*self.wishes.overrides, *moved):
            words += ["--set", each]
        return Submission(self.wishes, self.config, self.package, self.lock, tuple(words), tuple(notes))


@dataclass(frozen=True, slots=True)
class Submission:
    """What is sent.

    Attributes:
        config: as it is read here.
        package: the working directory's archive.
        lock: the lock file's path in it, or ``-``.
        command: what the driver runs, after ``rayline``.
        notes: what the user should know.
    """

    wishes: Wishes
    config: Config
    package: packing.Package
    lock: str
    command: tuple[str, ...]
    notes: tuple[str, ...]

    def request(self, variables: Mapping[str, str], install: Sequence[str] = ()) -> dict[str, Any]:
        """Return the job server's request.

        Args:
            variables: go along with it.
            install: requirements that the cluster's image lacks.
        """
        environment: dict[str, Any] = {"working_dir": self.package.uri}
        if variables:
            environment["env_vars"] = dict(variables)
        if install:
            environment["pip"] = {"packages": list(install), "pip_check": False}
        wishes = self.wishes
        asked: dict[str, Any] = {
            "entrypoint_num_cpus": wishes.num_cpus,
            "entrypoint_num_gpus": wishes.num_gpus,
            "entrypoint_memory": wishes.memory,
            "entrypoint_label_selector": dict(wishes.labels),
        }
        if any(asked.values()) and not wishes.labels and self.config.service.host in LOOPBACK:
            asked["entrypoint_resources"] = HEAD  # where a service on loopback can be asked
        return {
            "entrypoint": self.entrypoint(bool(install)),
            "runtime_env": environment,
            "metadata": {"job_name": self.config.name, PROJECT_KEY: self.config.name},
            **{name: value for name, value in asked.items() if value},
        }

    def entrypoint(self, installed: bool) -> str:
        """Return the shell command; ``installed`` where Ray makes an environment for the job."""
        install = self.wishes.env != "image" and self.wishes.wait and not installed
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        words = [
            "exec",
            "sh",
            START,
            "path" if installed else "image",
            self.lock,
            "install" if install else "tell",
            python,
        ]
        return shlex.join([*words, "--", *self.command])


def prepare(wishes: Wishes) -> Draft:
    """Read the configuration and pack the working directory. No cluster is asked.

    Raises:
        ConfigError, NotFoundError: the configuration is wrong.
        UsageError: the working directory, or the lock file, cannot be used.
    """
    loaded = configuration.load(wishes.config, wishes.overrides)
    folder = _folder(wishes).resolve()
    packing.refuse_whole_home(folder)
    file = _under(wishes.config, folder)
    if file is None:
        raise UsageError(f"'{wishes.config}' does not lie in the working directory '{folder}': --working-dir names it.")
    lock = _lock(wishes, folder)
    began = time.perf_counter()
    keep = [file, *([] if lock is None else [lock]), *_named_files(loaded, folder)]
    state = _under(Path(loaded.storage), folder) if "://" not in loaded.storage else None
    files, secrets = packing.chosen(folder, keep=tuple(keep), without=() if state is None else (state,))
    packing.refuse_too_large(files, folder, wishes.limit_mb)
    package = packing.packed(files, secrets, {START: Path(__file__).with_name("start.sh").read_text(encoding="utf-8")})
    return Draft(wishes, loaded, folder, file, package, lock or "-", time.perf_counter() - began)


def _folder(wishes: Wishes) -> Path:
    if wishes.working_dir is not None:
        return wishes.working_dir
    here = Path.cwd()
    return here if _under(wishes.config, here) is not None else wishes.config.parent


def _moved(config: Config, wishes: Wishes, folder: Path, same_machine: bool) -> tuple[list[str], list[str]]:
    """Return overrides that make paths hold on the cluster, and notes. Raises ``UsageError`` where none can."""
    moved: list[str] = []
    notes: list[str] = []
    if wishes.storage is not None:
        moved.append(f"storage={wishes.storage}")
    elif "://" not in config.storage:
        if same_machine:
            moved.append(f"storage={config.storage}")
        elif _under(Path(config.storage), _project(wishes, folder)) is not None:
            raise UsageError(
                f"storage '{config.storage}' lies on this machine, and the cluster's nodes do not see it: what a job "
                "writes beside its configuration is lost with it. Set 'storage' to s3://BUCKET/PREFIX, "
                "gs://BUCKET/PREFIX or a folder that all nodes share, or give --storage."
            )
        else:
            notes.append(f"storage '{config.storage}' must be a folder that all nodes of the cluster share")
    tracking = config.registry.tracking_uri
    if tracking and "://" not in tracking.replace("sqlite:///", "") and same_machine:
        moved.append(f"registry.tracking_uri={tracking}")
    source = config.data.source
    if source.startswith("/") and _under(Path(source), folder) is None:
        if same_machine:
            moved.append(f"data.source={source}")
        else:
            notes.append(f"data.source '{source}' does not go along: the cluster's nodes must see it under that path")
    return moved, notes


def _project(wishes: Wishes, folder: Path) -> Path:
    """Return the wider of the working directory and the configuration's folder."""
    beside = wishes.config.resolve().parent
    return folder if _under(beside, folder) is not None else beside


def _lock(wishes: Wishes, folder: Path) -> str | None:
    """Return the lock file's path in the working directory. Raises where it cannot be read or does not lie there."""
    if wishes.env == "image":
        return None
    file = find_lock(wishes.config.resolve().parent, folder) if wishes.env == "auto" else Path(wishes.env).resolve()
    if file is None:
        return None
    read_lock(file)
    name = _under(file, folder)
    if name is None and wishes.env != "auto":
        raise UsageError(f"lock file '{file}' does not lie in the working directory '{folder}'.")
    return name


def _named_files(config: Config, folder: Path) -> list[str]:
    """Return the files here that the configuration names: they go along, ignored by git or not."""
    found: list[str] = []
    for each in _texts(plain(replace(config, storage="", home=""))):
        relative = _under(Path(each), folder) if each.startswith("/") else None
        if relative is None:
            continue
        matching = [folder / relative] if (folder / relative).exists() else sorted(folder.glob(relative))
        for path in matching:
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            found += [file.relative_to(folder).as_posix() for file in inside if file.is_file()]
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _under(path: Path, folder: Path) -> str | None:
    """Return a path as seen from a folder that it lies in, by its name or through links; else None."""
    for named in (Path(os.path.abspath(path)), path.resolve()):
        with suppress(ValueError):
            return named.relative_to(folder.resolve()).as_posix()
    return None
