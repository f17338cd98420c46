"""What differs between two fitted feature states, in sentences that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rayline.features.transform import FittedFeatureSet

MOST_NAMED = 3


def changes(old: FittedFeatureSet, new: FittedFeatureSet) -> tuple[str, ...]:
    """Return what changed from one fitted state to another: target, columns, kinds, levels, fitted numbers."""
    before = {column.name: column.to_json() for column in old.columns}
    after = {column.name: column.to_json() for column in new.columns}
    kept = [name for name in after if name in before]
    moved = [name for name in kept if before[name] != after[name]]
    return (
        *_of_target(old, new),
        *(f"column '{name}' ({after[name]['kind']}) was added" for name in after if name not in before),
        *(f"column '{name}' ({before[name]['kind']}) was removed" for name in before if name not in after),
        *(sentence for name in moved for sentence in _of_column(name, before[name], after[name])),
        *_of_numbers([name for name in moved if not any(_of_column(name, before[name], after[name]))]),
    )


def _of_target(old: FittedFeatureSet, new: FittedFeatureSet) -> Iterator[str]:
    for what, before, after in (("target", old.schema.target, new.schema.target), ("task", old.task, new.task)):
        if before != after:
            yield f"the {what} was '{before}' and is '{after}'"
    if old.task == new.task and old.classes != new.classes:
        yield _of_texts("the target", "classes", old.classes, new.classes)


def _of_column(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before["kind"] != after["kind"]:
        yield f"column '{name}' was {before['kind']} and is {after['kind']}"
        return
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        if _texts(was) and _texts(now):
            yield _of_texts(f"column '{name}'", key, was or (), now or ())
        elif isinstance(was, str | bool) or isinstance(now, str | bool):
            yield f"column '{name}' had {key} {was!r} and has {now!r}"


def _of_numbers(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"the fitted numbers of {_named(names)} changed"


def _of_texts(owner: str, key: str, before: Sequence[str], after: Sequence[str]) -> str:
    gained, lost = (
        [each for each in after if each not in set(before)],
        [each for each in before if each not in set(after)],
    )
    if not gained and not lost:
        return f"{owner} has its {key} in another order"
    parts = [f"{verb} {len(some):,} ({_named(some)})" for verb, some in (("gained", gained), ("lost", lost)) if some]
    return f"{owner} {' and '.join(parts)} of its {key}"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED:,} more"


def _texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))
