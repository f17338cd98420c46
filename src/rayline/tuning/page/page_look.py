"""How a Study's page looks and what it does in a browser: styles and scripts that need no network."""

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #5f6b7a; --line: #e1e6ec; --blue: #3465a4; --warm: #cc6600; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; background: #fff; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 40px 0 6px; }
p { margin: 4px 0; } .soft { color: var(--soft); }
.best { display: grid; grid-template-columns: minmax(220px, auto) 1fr; gap: 8px 40px; margin: 22px 0 0;
  border: 1px solid var(--line); border-left: 4px solid var(--warm); border-radius: 6px; padding: 16px 20px; }
.best .value { font-size: 32px; font-weight: 650; letter-spacing: -0.02em; line-height: 1.2; }
.notice { border-left: 4px solid #edd400; background: #fffbe6; padding: 6px 12px; margin: 10px 0; border-radius: 3px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin-top: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13.5px; }
th, td { text-align: left; padding: 5px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th { font-weight: 600; background: #f6f8fa; color: var(--soft); }
table.sortable th { cursor: pointer; }
th[data-way]::after { content: " ▲"; } th[data-way="-1"]::after { content: " ▼"; }
td.number { text-align: right; } td.wide { white-space: normal; min-width: 420px; }
tr.winner td { background: #fdf3e7; font-weight: 600; } tr.failed td { color: #a40000; }
.mark { display: inline-block; border-radius: 9px; padding: 0 8px; font-size: 12px;
  background: #e8eef6; color: #204a87; }
.mark.stopped { background: #eef0f3; color: var(--soft); } .mark.failed { background: #fbe3e3; color: #a40000; }
.mark.front { background: #fdeedd; color: #8f4700; }
code, pre { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; background: #f6f8fa; border-radius: 4px; }
code { padding: 1px 5px; }
pre { padding: 12px 16px; overflow-x: auto; border: 1px solid var(--line); margin: 10px 0 0; }
.changed { color: var(--warm); font-weight: 600; }
.plot { min-height: 120px; overflow-x: auto; }
@media (max-width: 700px) { .best { grid-template-columns: 1fr; } }
@media print { .scroll { overflow: visible; } }
"""

DRAW = """
(async () => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  (0, eval)(await new Response(stream).text());
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const wide = figure.least_width || 0;
    if (wide > place.clientWidth) figure.layout.width = wide;
    await Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false });
  }
  document.body.dataset.drawn = "yes";
})().catch((error) => {
  for (const place of document.querySelectorAll(".plot")) {
    place.textContent = "This browser cannot draw the plot (" + error + "). Its picture lies beside this file.";
  }
});
"""
"""Unpacks Plotly, which the page carries at two fifths of its size, and draws every plot."""

SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
    const way = head.dataset.way === "1" ? -1 : 1;
    table.querySelectorAll("th").forEach((other) => delete other.dataset.way);
    head.dataset.way = way;
    const key = (row) => row.children[column].dataset.key ?? row.children[column].textContent;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const numbers = !isNaN(x) && !isNaN(y);
      return way * (numbers ? x - y : x.localeCompare(y));
    };
    const body = table.tBodies[0];
    [...body.rows].sort(order).forEach((row) => body.append(row));
  }));
}
"""
