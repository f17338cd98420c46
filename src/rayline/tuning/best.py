"""The best configuration as a file that ``rayline train`` takes as it stands."""

from __future__ import annotations

import yaml
from msgspec.structs import replace

from rayline.config import Config, with_values
from rayline.config.writing import shortest
from rayline.tuning.page.sheet import Sheet
from rayline.tuning.space.space import settings_of

FILE = "best.yaml"


def best_config(sheet: Sheet) -> Config:
    """Return the configuration of the best trial, with nothing left to search."""
    return replace(with_values(sheet.config, settings_of(sheet.best.params)), tune=None)


def best_yaml(sheet: Sheet) -> str:
    """Return the best configuration as YAML: what differs from the defaults, under a comment that says whose it is.

    Its paths are absolute, so that the file may lie anywhere: in the Study's folder, or where MLflow downloads it to.
    """
    values = "  ".join(
        f"{each.name} {value:.6g}" for each in sheet.objectives if (value := each.of(sheet.best)) is not None
    )
    head = [
        f"The best of {len(sheet.trials)} trials of '{sheet.config.name}': trial {sheet.best.number + 1}, {values}",
        f"rayline train {FILE}",
        "Paths are absolute: this file may lie anywhere on this machine.",
    ]
    body = yaml.safe_dump(shortest(best_config(sheet)), sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(f"# {' '.join(line.split())}" for line in head) + f"\n{body}"
