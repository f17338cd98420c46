"""Hands the notes of a rollout to those they are for: the tracking store, or a hook."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from rayline.errors import NotFoundError
from rayline.registry.store import Point
from rayline.rollout.failpoints import reach
from rayline.rollout.hooks import tell
from rayline.rollout.notes import (
    CallHook,
    Decisions,
    DropAlias,
    FinishRun,
    Note,
    OpenRun,
    Points,
    SetAlias,
    TagVersion,
)
from rayline.rollout.ports import Records

ARTIFACT = "rollout/decisions.json"


def deliver(note: Note, model: str, runs: Mapping[str, str], records: Records) -> str | None:
    """Write one note to the tracking store.

    Args:
        note: what to write.
        model: the registered model's name.
        runs: rollout id to run id.
        records: the store.

    Returns:
        The id of the run that was opened, for ``OpenRun``; else None.

    Raises:
        TrackingError: the store cannot be reached now.
        RaylineError: the store will never take it.
    """
    name = type(note).__name__
    reach(f"{name}.before")
    run = _delivered(note, model, runs, records)
    reach(f"{name}.after")
    return run


def call(note: CallHook) -> None:
    """Tell one hook. Raises ``ServiceError`` where it cannot be told, or says that it failed."""
    reach("CallHook.before")
    tell(note.hook, note.body)
    reach("CallHook.after")


def _delivered(note: Note, model: str, runs: Mapping[str, str], records: Records) -> str | None:
    match note:
        case SetAlias(alias=alias, number=number):
            records.set_alias(model, alias, number)
        case DropAlias(alias=alias, number=number):
            with suppress(NotFoundError):
                if records.version(model, f"@{alias}").number == number:
                    records.drop_alias(model, alias)
        case TagVersion(number=number, tags=tags):
            records.tag_version(model, number, tags)
        case OpenRun(experiment=experiment, name=name, tags=tags):
            return records.start_run(experiment, name, tags)
        case Points(points=points, at=at):
            measured = [Point(*point, int(at * 1000)) for point in points]
            records.log_metrics(_run(note.rollout, runs), measured)
        case Decisions(text=text):
            records.log_text(_run(note.rollout, runs), text, ARTIFACT)
        case FinishRun(status=status, tags=tags):
            records.set_tags(_run(note.rollout, runs), tags)
            records.finish_run(_run(note.rollout, runs), status)
    return None


def _run(rollout: str, runs: Mapping[str, str]) -> str:
    if rollout not in runs:
        raise NotFoundError(f"rollout '{rollout}' has no run in the tracking store.")
    return runs[rollout]
