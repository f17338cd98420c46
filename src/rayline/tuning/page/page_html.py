"""The HTML of a Study: one page that a person reads, and one for each plot. Nothing in it needs the network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from rayline.tuning.best import FILE, best_yaml
from rayline.tuning.ledger import Trial
from rayline.tuning.page.page_look import DRAW, SORT, STYLE
from rayline.tuning.page.plots import Plot
from rayline.tuning.page.sheet import ABSENT, Sheet, condition_of, params_of, span_of, text_of, value_at

LONGEST_REASON = 300


def overview(sheet: Sheet, plots: Sequence[Plot]) -> str:
    """Return the page of a Study: what was searched, the best trial, the plots and a table of all trials."""
    parts = [_head(sheet), _best(sheet)]
    parts += [f'<p class="notice">{escape(each)}</p>' for each in sheet.notices]
    parts += [_plot(each) for each in plots]
    parts += [_searched(sheet), _trials(sheet), _file(sheet)]
    return _page(f"{sheet.config.name}: Study", "\n".join(parts), drawn=any(each.interactive for each in plots))


def single(sheet: Sheet, plot: Plot) -> str:
    """Return a page with one plot alone."""
    return _page(f"{sheet.config.name}: {plot.title}", _plot(plot), drawn=plot.interactive is not None)


def _head(sheet: Sheet) -> str:
    tune = sheet.config.tune
    counts = ", ".join(f"{number} {status}" for status, number in sheet.counts().items())
    how = f"Sampler {tune.sampler}, scheduler {tune.scheduler}. " if tune is not None else ""
    ended = f"It ended because {sheet.ended_by}." if sheet.ended_by else ""
    return (
        f"<h1>{escape(sheet.config.name)}: {len(sheet.trials)} trials over {len(sheet.keys)} "
        f"parameter{'s' if len(sheet.keys) != 1 else ''}</h1>"
        f'<p class="soft">{counts}. {escape(how)}{escape(ended)}</p>'
    )


def _best(sheet: Sheet) -> str:
    best = sheet.best
    values = "".join(
        f'<div class="value">{value:.5g}</div><div class="soft">{escape(each.name)}, '
        f"{'less' if each.sign > 0 else 'more'} is better</div>"
        for each in sheet.objectives
        if (value := each.of(best)) is not None
    )
    others = [(name, value) for name, value in best.metrics.items() if name not in {o.name for o in sheet.objectives}]
    more = ", ".join(f"{name} {value:.4g}" for name, value in others)
    rows = [
        [
            f'<span title="{escape(key)}">{escape(sheet.labels[key])}</span>',
            *_best_and_base(sheet, key),
        ]
        for key in sheet.keys
    ]
    epochs = f"after {len(best.history)} epochs" if best.history else ""
    return (
        f'<div class="best"><div><p><b>Best: trial {best.number + 1}</b> <span class="soft">{epochs}</span></p>{values}'
        f'<p class="soft">{escape(more)}</p></div>'
        f"<div>{_table(['parameter', 'best', 'configuration'], rows)}</div></div>"
    )


def _best_and_base(sheet: Sheet, key: str) -> tuple[str, str]:
    """Return the best value of a key, marked where it is another than the configuration's, and the configuration's."""
    value = value_at(sheet.config, key)
    base = "" if value is None else text_of(value)
    if key not in sheet.best.params:
        return ABSENT, f'<span class="soft">{escape(base)}</span>'
    best = text_of(sheet.best.params[key])
    mark = "" if best == base else ' class="changed"'
    return f"<span{mark}>{escape(best)}</span>", f'<span class="soft">{escape(base)}</span>'


def _plot(plot: Plot) -> str:
    words = f'<p class="soft">{escape(plot.words)}</p>'
    if plot.interactive is None:
        return f"<h2>{escape(plot.title)}</h2>{words}"
    figure = _json(plot.interactive)
    return (
        f"<h2>{escape(plot.title)}</h2>{words}"
        f'<div class="plot" id="{escape(plot.name)}"><script type="application/json">{figure}</script></div>'
    )


def _searched(sheet: Sheet) -> str:
    rows = [
        [
            f"<code>{escape(key)}</code>",
            f'<span title="{escape(span_of(each))}">{escape(_cut(span_of(each), 90))}</span>',
            escape(condition_of(each)) or '<span class="soft">always</span>',
        ]
        for key, each in ((key, sheet.space[key]) for key in sheet.keys)
    ]
    return "<h2>What was searched</h2>" + _scroll(_table(["key", "values", "searched when"], rows))


def _trials(sheet: Sheet) -> str:
    objectives = [each.name for each in sheet.objectives]
    names = ["trial", "status", *objectives, "epochs", *(sheet.labels[key] for key in sheet.keys)]
    failed = any(trial.error for trial in sheet.trials)
    body = "".join(_row(sheet, trial, failed) for trial in sheet.trials)
    head = "".join(f"<th>{escape(name)}</th>" for name in [*names, *(["reason"] if failed else [])])
    return '<h2>Trials</h2><p class="soft">Click on a column to sort by it.</p>' + _scroll(
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _row(sheet: Sheet, trial: Trial, reason: bool) -> str:
    front = {each.number for each in sheet.pareto} if len(sheet.objectives) > 1 else set()
    marks = f'<span class="mark {trial.status}">{trial.status}</span>'
    marks += ' <span class="mark front">front</span>' if trial.number in front else ""
    cells = [f'<td class="number" data-key="{trial.number + 1}">{trial.number + 1}</td>', f"<td>{marks}</td>"]
    for each in sheet.objectives:
        value = each.of(trial)
        cells.append(f'<td class="number" data-key="{"" if value is None else value}">{_number(value)}</td>')
    cells.append(f'<td class="number">{len(trial.history)}</td>')
    for key, text in zip(sheet.keys, params_of(trial, sheet.keys), strict=True):
        kind = ' class="number"' if isinstance(trial.params.get(key), int | float) else ""
        sort = trial.params.get(key, "")
        cells.append(f'<td{kind} data-key="{escape(str(sort))}" title="{escape(text)}">{escape(_cut(text, 40))}</td>')
    if reason:
        cells.append(f'<td class="wide">{escape(_cut(trial.error or "", LONGEST_REASON))}</td>')
    winner = "winner" if trial.number == sheet.best.number else trial.status
    return f'<tr class="{winner}">{"".join(cells)}</tr>'


def _file(sheet: Sheet) -> str:
    return (
        f"<h2>The best configuration</h2><p>It lies beside this page as <code>{FILE}</code>. Train it alone, or take "
        f"its values over:</p><pre>{escape(best_yaml(sheet))}</pre>"
    )


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _scroll(table: str) -> str:
    return f'<div class="scroll">{table}</div>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _json(value: Any) -> str:
    return json.dumps(value).replace("</", "<\\/")


def _page(title: str, body: str, *, drawn: bool) -> str:
    scripts = f'<script type="text/plain" id="plotly">{_plotly()}</script><script>{DRAW}</script>' if drawn else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n<script>{SORT}</script>{scripts}</body></html>\n"
    )


@cache
def _plotly() -> str:
    """Return Plotly's script, packed: 2 MB in place of 5."""
    import plotly

    script = resources.files(plotly).joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 6, mtime=0)).decode()
