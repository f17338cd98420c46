"""A page as one HTML file that needs nothing beside it: styles and pictures are inside. Texts are escaped."""

from __future__ import annotations

import base64
from html import escape

from rayline.card.document import Block, Bullets, Cell, Code, Facts, Page, Part, Picture, Table, Text

_STYLE = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --ground: #ffffff; --panel: #f5f7f9;
  --good: #17693a; --good-ground: #e3f4e9; --bad: #a3211b; --bad-ground: #fbe6e4; --open: #7a5200;
  --open-ground: #fdf1d8; --link: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #343d49; --ground: #14181e;
  --panel: #1d232b; --good: #7fd6a0; --good-ground: #16341f; --bad: #ff9c94; --bad-ground: #43191a; --open: #f0c674;
  --open-ground: #3d3014; --link: #7fb2f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 2.75rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); font-size: 1.3rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.02rem; }
p { margin: .5rem 0; max-width: 48rem; }
.subtitle { color: var(--soft); margin-top: .35rem; }
.lead { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1.1rem 0 0; padding: 0; list-style: none; }
.lead li, .tone { border-radius: 1rem; padding: .1rem .65rem; background: var(--panel); }
.alerts { margin: .9rem 0 0; padding: .6rem 1rem .6rem 2rem; border-radius: .4rem; max-width: none; }
nav { margin: 1.25rem 0 0; font-size: .9rem; line-height: 2; }
nav a { color: var(--link); margin-right: 1rem; text-decoration: none; white-space: nowrap; }
nav a:hover { text-decoration: underline; }
.good { color: var(--good); background: var(--good-ground) !important; }
.bad { color: var(--bad); background: var(--bad-ground) !important; }
.open { color: var(--open); background: var(--open-ground) !important; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .3rem 1.25rem; margin: .75rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
.tone { display: inline-block; white-space: nowrap; line-height: 1.35; padding-block: 0; }
ul { margin: .5rem 0; padding-left: 1.2rem; max-width: 48rem; }
li { margin: .2rem 0; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem 1rem;
  overflow-x: auto; font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; margin: 1rem 0; }
figure { margin: 0; padding: .6rem; background: #ffffff; border: 1px solid var(--line); border-radius: .4rem; }
figure img { display: block; width: 100%; height: auto; }
@media print { nav { display: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def html(page: Page) -> str:
    """Return a page as one HTML file."""
    sections = [(f"s{place}", part) for place, part in enumerate(page.parts)]
    links = "\n".join(f'<a href="#{name}">{escape(part.title)}</a>' for name, part in sections if part.level == 2)
    lead = "".join(f'<li class="{each.tone}">{escape(each.text)}</li>' for each in page.lead)
    alerts = f'<ul class="alerts bad">{"".join(f"<li>{escape(each)}</li>" for each in page.alerts)}</ul>\n'
    body = "\n".join(_part(name, part) for name, part in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(page.title)}</h1>\n<p class="subtitle">{escape(page.subtitle)}</p>\n'
        f'<ul class="lead">{lead}</ul>\n{alerts if page.alerts else ""}<nav>{links}</nav>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _part(name: str, part: Part) -> str:
    blocks = [_block(each) for each in part.blocks if not isinstance(each, Picture)]
    pictures = "".join(_picture(each) for each in part.blocks if isinstance(each, Picture))
    if pictures:
        blocks.append(f'<div class="pictures">{pictures}</div>')
    return "\n".join([f'<h{part.level} id="{name}">{escape(part.title)}</h{part.level}>', *blocks])


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case Facts(pairs):
            return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in pairs)}</dl>"
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)
        case Code(text):
            return f"<pre>{escape(text)}</pre>"


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return f'<figure><img alt="{escape(picture.title)}" src="data:image/png;base64,{data}"></figure>'


def _table(table: Table) -> str:
    header = "".join(f"<th{_class(place, table)}>{escape(name)}</th>" for place, name in enumerate(table.header))
    rows = "".join(
        f"<tr>{''.join(f'<td{_class(place, table)}>{_cell(each)}</td>' for place, each in enumerate(row))}</tr>"
        for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>'


def _class(place: int, table: Table) -> str:
    return ' class="number"' if place in table.numbers else ""


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return f'<span class="tone {cell.tone}">{escape(cell.text)}</span>' if cell.tone else escape(cell.text)
