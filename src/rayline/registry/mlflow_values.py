"""Between MLflow's values and ours; knows how MLflow names things, and imports nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rayline.errors import ConfigError, UsageError
from rayline.registry.store import UsedData, Version, used_data

if TYPE_CHECKING:
    from rayline.features.facts import DataFacts
    from rayline.features.schemas.schema import Schema

PARENT_TAG = "mlflow.parentRunId"
CONTEXT_TAG = "mlflow.data.context"
METRICS_PER_CALL = 800
PARAMS_PER_CALL = 100
TAGS_PER_CALL = 100
# Where the user has not said otherwise: no usage reports, no progress bars or links among our own output, and an
# unreachable server is an error after seconds, not minutes.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def shown_uri(uri: str) -> str:
    """Return a tracking URI as it may stand in a message: without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


def refuse_relative(uri: str) -> None:
    """Raise ``ConfigError`` for a tracking URI that means another place in another folder."""
    parts = urlsplit(uri)
    if not parts.scheme:
        raise ConfigError(
            f"registry.tracking_uri '{uri}' must be a server (http://...) or a database (sqlite:////absolute/path)."
        )
    if parts.scheme == "sqlite" and not parts.path.startswith("//"):
        raise ConfigError(
            f"registry.tracking_uri '{uri}' depends on the current folder. Write sqlite:/// and an absolute path after"
            " it, which makes four slashes."
        )


def version_of(made: Any, aliases: Sequence[str] | None = None) -> Version:
    """Return our value of MLflow's model version; ``aliases`` where the version itself does not carry them."""
    number = int(made.version)
    return Version(
        name=made.name,
        number=number,
        run_id=made.run_id,
        uri=f"models:/{made.name}/{number}",
        aliases=tuple(sorted(made.aliases if aliases is None else aliases)),
        tags=dict(made.tags),
        created=made.creation_timestamp / 1000,
    )


def pages(search: Callable[..., Any], **query: Any) -> list[Any]:
    """Return all results of one of the client's searches."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(page_token=token, **query)
        found += page
        token = page.token
        if not token:
            return found


def batches(
    metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
) -> Iterator[tuple[Sequence[Any], Sequence[Any], Sequence[Any]]]:
    """Divide what is to be logged into calls of a size that MLflow takes: of 1,000 things in all."""
    for place in count():
        some = tuple(
            each[place * most : (place + 1) * most]
            for each, most in ((metrics, METRICS_PER_CALL), (params, PARAMS_PER_CALL), (tags, TAGS_PER_CALL))
        )
        if not any(some):
            return
        yield some[0], some[1], some[2]


def tag_filter(key: str, value: str) -> str:
    """Return what finds runs by a tag. Raises ``UsageError`` for a value with both kinds of quotes."""
    quote = next((mark for mark in "'\"" if mark not in value), None)
    if quote is None:
        raise UsageError(f"tag '{key}': MLflow cannot search for {value!r}, which has both kinds of quotes.")
    return f"tags.`{key}` = {quote}{value}{quote}"


def files_of(client: Any, run_id: str, folder: str | None) -> Iterator[str]:
    """Yield the paths of a run's artifacts, at any depth."""
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from files_of(client, run_id, entry.path)
        else:
            yield entry.path


def dataset_inputs(facts: DataFacts, schema: Schema) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the contexts in which data is used, each with the values of MLflow's data set for it."""
    columns = [{"name": column.name, "type": column.kind, "required": True} for column in schema.columns]
    described = {"mlflow_colspec": columns, "target": schema.target, "fingerprint": schema.fingerprint}
    for context, used in used_data(facts).items():
        yield (
            context,
            {
                "name": facts.source.rpartition("/")[2] or facts.source,
                "digest": used.digest,
                "source_type": "rayline",
                "source": json.dumps({"uri": facts.source, "digest": facts.digest}),
                "schema": json.dumps(described),
                "profile": json.dumps({"num_rows": used.rows}),
            },
        )


def used_dataset(used: Any) -> tuple[str, UsedData]:
    """Return what a run used a data set for, and which it was."""
    context = next((str(tag.value) for tag in used.tags if tag.key == CONTEXT_TAG), "")
    return context, UsedData(used.dataset.digest, int(json.loads(used.dataset.profile or "{}").get("num_rows", 0)))
