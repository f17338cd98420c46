"""The page of a Study: a folder of files that a person opens, here and in MLflow's viewer of artifacts."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from rayline.tuning.best import FILE, best_yaml
from rayline.tuning.page.page_html import overview, single
from rayline.tuning.page.plots import plots_of
from rayline.tuning.page.sheet import Sheet

PAGE = "study.html"
TABLE = "trials.csv"
PLOTS = "plots"


def write_page(sheet: Sheet, folder: Path) -> Path:
    """Write what a person wants to see of a Study; what stood there before is replaced.

    ``study.html`` is the whole in one file; ``trials.csv`` the table; ``best.yaml`` the best configuration, ready for
    ``rayline train``; ``plots`` each plot, as a page of its own and as a picture.

    Returns:
        The overview's path.
    """
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    plots = plots_of(sheet)
    for plot in plots:
        if plot.still is not None:
            plot.still.savefig(folder / PLOTS / f"{plot.name}.png")
            _write(folder / PLOTS / f"{plot.name}.html", single(sheet, plot))
    _write_table(sheet, folder / TABLE)
    _write(folder / FILE, best_yaml(sheet))
    _write(folder / PAGE, overview(sheet, plots))
    return folder / PAGE


def _write_table(sheet: Sheet, file: Path) -> None:
    metrics = list(dict.fromkeys(name for trial in sheet.trials for name in trial.metrics))
    front = {trial.number for trial in sheet.pareto}
    with file.open("w", encoding="utf-8", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["trial", "status", "best", "pareto", "epochs", *metrics, *sheet.keys, "error"])
        for trial in sheet.trials:
            values: list[Any] = [trial.metrics.get(name, "") for name in metrics]
            params = [trial.params.get(key, "") for key in sheet.keys]
            best = trial.number == sheet.best.number
            row = [trial.number + 1, trial.status, best, trial.number in front, len(trial.history)]
            writer.writerow([*row, *values, *params, trial.error or ""])


def _write(file: Path, text: str) -> None:
    draft = file.with_suffix(f"{file.suffix}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, file)
