"""The verbs of features that a service looks up."""

from __future__ import annotations

import cyclopts

from rayline import config as configuration
from rayline.cli import show
from rayline.cli.options import HERE, ConfigFile, Fresh, Json, Overrides

PLACE = 7.5  # before deploy in the list of verbs
features = cyclopts.App(name="features", help="What a live service looks up by key.", sort_key=PLACE)


@features.command(sort_key=0)
def materialize(config: ConfigFile = HERE, /, *, fresh: Fresh = False, set_: Overrides = (), json: Json = False) -> int:
    """Write the latest row of each key to the online store; again writes what has changed."""
    from rayline.features.online import materialize as work
    from rayline.features.online.opening import open_store
    from rayline.project import Project

    loaded = configuration.load(config, set_)
    project = Project(loaded)
    if work.needs_ray(loaded):
        project.connect()
    store = open_store(loaded.features.online.store, project.storage)
    try:
        with show.reading(quiet=json):
            done = work.materialize(loaded, store, fresh=fresh, each=(lambda _: None) if json else show.materialized)
    finally:
        store.close()
    if json:
        show.materialized_json(done)
    return 0
