"""A Study in a few lines of Markdown: what MLflow's pages show as the description of its parent run. Pure."""

from __future__ import annotations

from rayline.tuning.best import FILE
from rayline.tuning.page.sheet import ABSENT, Sheet, params_of

MOST_LETTERS = 4_000


def note(sheet: Sheet, page: str) -> str:
    """Return the best trial and its parameters; ``page`` is where the whole lies among the run's artifacts."""
    best, place = sheet.best, page.rpartition("/")[0]
    scores = ", ".join(
        f"{each.name} **{value:.5g}**" for each in sheet.objectives if (value := each.of(best)) is not None
    )
    counts = ", ".join(f"{number} {status}" for status, number in sheet.counts().items())
    texts = zip(sheet.keys, params_of(best, sheet.keys), strict=True)
    params = ", ".join(f"{_cell(sheet.labels[key])} `{text}`" for key, text in texts if text != ABSENT)
    lines = [
        f"**Best: trial {best.number + 1}** of {len(sheet.trials)} ({counts}): {scores}",
        params,
        f"Plots and the table of trials: Artifacts, `{page}`. Ready for `rayline train`: `{place}/{FILE}`.",
    ]
    return "\n\n".join(lines)[:MOST_LETTERS]


def _cell(text: str) -> str:
    return text.replace("_", "\\_")
