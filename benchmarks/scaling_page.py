"""Write the figures of `cluster/SCALING.md` from what the benchmarks measured.

Command    for name in scale units sqlite_trials; do python benchmarks/$name.py; done | grep '^{' > results.jsonl
           PYTHONPATH=src .venv-services/bin/python benchmarks/team_servers.py | grep '^{' >> results.jsonl
           python benchmarks/scaling_page.py results.jsonl

Each line is the JSON object that a benchmark ends with; of two of one benchmark the later counts. The text between the
marks `<!-- NAME -->` and `<!-- /NAME -->` is replaced, everything else of the page stays as it is written. What is not
among the lines is told as not measured.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "cluster" / "SCALING.md"
NODES, CORES, WANTED, BUSY = 100, 32, 1_000_000, 0.7
"""The cluster on paper: nodes, cores of each, requests/s of one row, and how busy a core may be."""

LOOK_S, POLL_S, INTERVAL_S, BARRIER_S, OBSERVE_S = 2.0, 5.0, 5.0, 10.0, 2.0
"""Rayline's own periods: the controller's look around, an idle poll, an analysis; and how long a plan and an
observation are waited for."""

Found = dict[str, Any]
Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float) -> str:
    """Return a figure with two or three digits that mean something."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def costs(found: Found) -> str:
    """Return the table of what one unit costs."""
    rows: list[Row] = []
    units = found.get("units", {})
    named = {
        "features_rows_per_cpu_s": ("features fitted and applied", "rows/s/core"),
        "training_rows_per_cpu_s": ("training, ready-made network", "rows/s/core"),
        "driver_ms_per_trial": ("a trial, in the Study's driver", "ms"),
    }
    rows += [[words, f"{number(units[key])} {of}", "`units.py`"] for key, (words, of) in named.items() if key in units]
    for part, words in (("replica", "a replica"), ("haproxy", "HAProxy")):
        for rows_of in (1, 32):
            if cost := units.get(f"{part}_ms_{rows_of}"):
                said = f"{number(cost)} ms, {number(1000 / cost)} requests/s/core"
                rows.append([f"a request of {rows_of} row{'s' * (rows_of > 1)}, in {words}", said, "`units.py`"])
    if scale := found.get("scale"):
        fleet = scale["replicas"]["1000"]
        rows += [
            ["a replica's report, in the live state", f"{number(scale['ray']['cpu_ms_per_report'])} ms", "`scale.py`"],
            ["a plan to 1,000 replicas, without Ray's calls", f"{number(fleet['plan_to_all_ms'])} ms", "`scale.py`"],
            ["counts of 1,000 replicas read", f"{number(fleet['read_ms'])} ms", "`scale.py`"],
            ["counts of 1,000 replicas merged", f"{number(fleet['merge_ms'])} ms", "`scale.py`"],
            ["one decision over 1,000 replicas, all of it", f"{number(fleet['decision_ms'])} ms", "`scale.py`"],
            ["a rollout's state on disk, 1,000 replicas", f"{number(fleet['state_bytes'] / 1e6)} MB", "`scale.py`"],
        ]
    if trials := found.get("sqlite_trials"):
        rate = median(trials["ours"]["rate"])
        said = f"{number(rate)} operations/s, {trials['ours']['errors']} errors"
        rows.append(["MLflow on SQLite, 16 writers", said, "`sqlite_trials.py`"])
    if team := found.get("team_servers"):
        for writers, told in team["writers"].items():
            words = f"MLflow on PostgreSQL, {writers} writer{'s' * (writers != '1')}"
            said = f"{number(told['operations_per_s'])} operations/s, {number(told['errors'])} errors"
            rows.append(
                [words, f"{said}; {number(told['server_ms'])} ms of the server's CPU each", "`team_servers.py`"]
            )
        for step, kinds in team["s3_requests"].items():
            said = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
            rows.append([f"step `{step}` on S3", f"{said} requests", "`team_servers.py`"])
    return table(["unit", "cost", "by"], rows)


def limits(found: Found) -> str:
    """Return the table of what breaks at which load, the first to break first."""
    units, scale = found.get("units", {}), found.get("scale")
    if "replica_ms_1" not in units or not scale:
        return "Not measured."
    per_replica = BUSY * 1000 / units["replica_ms_1"]
    replicas = WANTED / per_replica
    report, fleet = scale["ray"]["cpu_ms_per_report"], scale["replicas"]["1000"]
    one_look = (fleet["read_ms"] + fleet["merge_ms"]) / 1000  # ms of one replica
    one = fleet["decision_ms"] / 1000
    rolling = 1 / LOOK_S + 1 / INTERVAL_S
    entries = [
        (
            BUSY * 1000 / (one_look / LOOK_S + one / INTERVAL_S),
            "the rollout controller: one Python process",
            f"{BUSY:.0%} of a core / ({number(one_look)} ms / {LOOK_S:g} s + {number(one)} ms / {INTERVAL_S:g} s)",
            "a rollout decides late; traffic stays as it is",
        ),
        (
            BUSY * 1000 / report / rolling,
            "the live state during a rollout: one actor",
            f"{BUSY:.0%} of a core / {number(report)} ms / ({rolling:g} reports/s of each replica)",
            "plans and counts come late",
        ),
        (
            OBSERVE_S * 1000 / report,
            "one observation, waited for 2 s",
            f"{OBSERVE_S:g} s / {number(report)} ms",
            "the counts of some replicas are those of their last report",
        ),
        (
            BARRIER_S * 1000 / report,
            "one change of weights, acknowledged by all within 10 s",
            f"{BARRIER_S:g} s / {number(report)} ms",
            "the step is tried again, the plan holds",
        ),
        (
            BUSY * 1000 / report * POLL_S,
            "the live state at rest",
            f"{BUSY:.0%} of a core / {number(report)} ms * {POLL_S:g} s",
            "replicas hear of a new plan late",
        ),
        (
            NODES * CORES * BUSY / (1 + units["haproxy_ms_1"] / units["replica_ms_1"]),
            f"cores: {NODES} nodes of {CORES}",
            f"{NODES * CORES:,} * {BUSY:.0%} / (1 + {number(units['haproxy_ms_1'])} / {number(units['replica_ms_1'])})",
            "requests queue, then 503",
        ),
    ]
    rows = [
        [what, number(most), how, number(most * per_replica), "**no**" if most < replicas else "yes", effect]
        for most, what, how, effect in sorted(entries)
    ]
    head = ["what", "replicas", "the arithmetic", "requests/s then", f"holds {WANTED:,}?", "what happens beyond"]
    return (
        f"{WANTED:,} requests/s of one row need {number(replicas)} replicas of one core: a request takes"
        f" {number(units['replica_ms_1'])} ms, so a core that is {BUSY:.0%} busy answers {number(per_replica)}/s."
        f" HAProxy takes {number(WANTED * units['haproxy_ms_1'] / 1000 / BUSY)} cores more,"
        f" {number(WANTED * units['haproxy_ms_1'] / 1000 / BUSY / NODES)} on each of {NODES} nodes.\n\n"
        + table(head, rows)
    )


def studies(found: Found) -> str:
    """Return what the figures imply for training and tuning."""
    units, rows = found.get("units"), list[Row]()
    if units and "driver_ms_per_trial" in units:
        driver = units["driver_ms_per_trial"]
        shortest = NODES * CORES * driver / 1000
        rows.append(
            [
                "trials of one core that a Study's driver keeps busy",
                f"{NODES * CORES:,} at once where a trial takes {number(shortest)} s or more",
                f"{NODES * CORES:,} * {number(driver)} ms",
            ]
        )
    if units:
        rows.append(
            [
                "features of a thousand million rows, 30 columns",
                f"{number(1e9 / (units['features_rows_per_cpu_s'] * NODES * CORES))} s of computing on all cores",
                f"1e9 / ({number(units['features_rows_per_cpu_s'])} * {NODES * CORES:,})",
            ]
        )
    if trials := found.get("sqlite_trials"):
        rate = median(trials["ours"]["rate"])
        rows.append(["trials/s into MLflow on SQLite", number(rate / 3), f"{number(rate)} / 3 operations"])
    if team := found.get("team_servers"):
        told = list(team["writers"].values())[-1]
        rate, cost = told["operations_per_s"], told["server_ms"]
        rows.append(
            [
                "trials/s into MLflow on PostgreSQL",
                f"{number(rate / 3)} here; {number(1000 / cost / 3)} for each core of the server",
                f"{number(rate)} / 3; 1 s / {number(cost)} ms / 3",
            ]
        )
    return table(["what", "limit", "the arithmetic"], rows)


def machine(found: Found) -> str:
    """Return where it was measured."""
    told = [f"`{name}.py`" for name in found]
    first = next(iter(found.values()))["_machine"]
    return (
        f"Measured by {', '.join(told)} on {first['processor']} with {first['cores']} cores, Python {first['python']}."
    )


def main(files: Sequence[str]) -> int:
    """Rewrite the page. Returns the process's exit status."""
    found: Found = {}
    for file in files:
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                told = json.loads(line)
                found[told["benchmark"]] = {**told["results"], "_machine": told["machine"]}
    if not found:
        print("usage: python benchmarks/scaling_page.py RESULTS...", file=sys.stderr)
        return 2
    text = PAGE.read_text(encoding="utf-8")
    for name, part in (("machine", machine), ("costs", costs), ("limits", limits), ("studies", studies)):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        assert marks.search(text), f"{PAGE} has no part '{name}'"
        body = part(found)
        text = marks.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
