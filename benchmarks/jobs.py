"""What does it cost to send a run to a cluster as a job, and what does a killed driver lose?

Question   How large is the package and how long does it take to make? How long from the command to the first line that
           the run prints, beside Ray's own `ray job submit`? A driver is killed with SIGKILL after its training and the
           same command is given again: which steps were cached, and how much time did that save?
Ceiling    Ray's own command for the first line; a resumed run costs what its unfinished steps cost.
Method     A private head with job server and token on loopback. Packing is timed on this repository. First lines are
           timed as a user sees them, the two commands in turn. The whole flow (features, training, evaluation, skew,
           gates, registration, a live service) runs unbroken in one project, and killed and resumed in another.
Command    python benchmarks/jobs.py [--quick]

The last line is one JSON object. Times are only as good as the machine is quiet; ratios within one run count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rayline.jobs.packing import chosen, packed
from rayline.processes import descendants

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from job_cluster import JobCluster, job_cluster  # noqa: E402

RAYLINE = (sys.executable, "-m", "rayline.cli.app")
RAY = (sys.executable, "-m", "ray.scripts.scripts")
DEADLINE_S = 600.0
CONFIG = """name: {name}
data: {{source: "sklearn:digits"}}
features: {{target: target}}
train: {{epochs: {epochs}, batch_size: 32, learning_rate: 0.003}}
service: {{port: {port}}}
"""


def packing(rounds: int) -> dict[str, Any]:
    """Pack this repository."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        package = packed(*chosen(ROOT), {})
        seconds.append(time.perf_counter() - began)
    return {
        "files": package.files,
        "mb": round(package.size / 1e6, 2),
        "packed_mb": round(len(package.content) / 1e6, 2),
        "seconds": round(statistics.median(seconds), 3),
    }


def project(folder: Path, cluster: JobCluster, name: str, epochs: int) -> Path:
    """Write a project of its own."""
    place = folder / name
    place.mkdir()
    (place / "rayline.yaml").write_text(CONFIG.format(name=name, epochs=epochs, port=cluster.service_port))
    return place


def until_line(command: list[str], folder: Path, cluster: JobCluster, wanted: str) -> float:
    """Return the seconds from a command to the line that its driver prints first, and let it end."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.strip() == wanted:
                took = time.perf_counter() - began
                process.stdout.read()
                return took
    raise SystemExit(f"'{wanted}' was never printed:\n{''.join(said)}")


def first_lines(folder: Path, cluster: JobCluster, rounds: int) -> dict[str, list[float]]:
    """Time both commands in turn. What Rayline is asked for ends at once: its service is refused for its address."""
    place = project(folder, cluster, "line", 1)
    ours = [*RAYLINE, "submit", "rayline.yaml", "--address", cluster.url, "--set", "features.target=none"]
    theirs = [*RAY, "job", "submit", "--address", cluster.url, "--working-dir", ".", "--", "echo", "hello"]
    found: dict[str, list[float]] = {"rayline": [], "ray": []}
    for _ in range(rounds):
        found["ray"].append(until_line(theirs, place, cluster, "hello"))
        found["rayline"].append(until_line(ours, place, cluster, "line"))
    return found


def whole(folder: Path, cluster: JobCluster, name: str, epochs: int, kill_after: str | None) -> dict[str, Any]:
    """Run the flow to a live service, killed once after a step where one is named; return what it took."""
    place = project(folder, cluster, name, epochs)
    command = [*RAYLINE, "submit", "rayline.yaml", "--address", cluster.url, "--json"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=place, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if kill_after is not None:
        ledger, deadline = place / ".rayline" / "ledger" / name, time.monotonic() + DEADLINE_S
        while not any(ledger.glob(f"{kill_after}-*.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        [pid] = [pid for pid, words in descendants(cluster.pid).items() if "rayline.cli.job_driver" in words]
        os.kill(pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=DEADLINE_S)
    first = time.perf_counter() - began
    if kill_after is None:
        return {"seconds": round(first, 1), "exit_code": process.returncode}
    began = time.perf_counter()
    again = subprocess.run(
        command, cwd=place, env=cluster.environment, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False
    )
    progress = json.loads(again.stdout)["progress"]
    return {
        "killed_after_s": round(first, 1),
        "killed_exit_code": process.returncode,
        "why": json.loads(said)["why"],
        "resumed_s": round(time.perf_counter() - began, 1),
        "exit_code": again.returncode,
        "cached": progress["cached"],
        "saved_s": progress["saved_s"],
    }


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="one round, a short training")
    quick = options.parse_args().quick
    rounds, epochs = (1, 10) if quick else (5, 80)
    with tempfile.TemporaryDirectory(prefix="rl-jobs-bench-") as name:
        folder = Path(name)
        with job_cluster(folder) as cluster:
            pack = packing(rounds)
            lines = first_lines(folder, cluster, rounds)
            unbroken = whole(folder, cluster, "unbroken", epochs, None)
            resumed = whole(folder, cluster, "resumed", epochs, "train")
    report(pack, lines, unbroken, resumed, rounds)


def report(
    pack: dict[str, Any], lines: dict[str, list[float]], unbroken: dict[str, Any], resumed: dict[str, Any], rounds: int
) -> None:
    """Print the tables, then one JSON line."""
    console = Console(stderr=True)
    ours, theirs = statistics.median(lines["rayline"]), statistics.median(lines["ray"])
    table = Table("what", "found", title="A run as a job")
    table.add_row("package", f"{pack['files']} files, {pack['mb']} MB, {pack['packed_mb']} MB packed")
    table.add_row("packing", f"{pack['seconds']} s")
    for middle, (name, seconds) in zip((ours, theirs), lines.items(), strict=True):
        table.add_row(f"first line, {name}", f"{middle:.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    table.add_row("unbroken to a live service", f"{unbroken['seconds']} s, exit {unbroken['exit_code']}")
    why = f"{resumed['why']}, exit {resumed['killed_exit_code']}"
    table.add_row("killed", f"after {resumed['killed_after_s']} s: {why}")
    table.add_row("the same command again", f"{resumed['resumed_s']} s, exit {resumed['exit_code']}")
    table.add_row("cached", f"{', '.join(resumed['cached'])}: {resumed['saved_s']} s saved")
    console.print(table)
    print(
        json.dumps(
            {
                "benchmark": "jobs",
                "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
                "versions": {each: version(each) for each in ("ray", "mlflow", "torch", "rayline")},
                "rounds": rounds,
                "results": {"packing": pack, "first_line_s": lines, "unbroken": unbroken, "resumed": resumed},
                "ratios": {
                    "first_line_vs_ray": round(ours / theirs, 3),
                    "resumed_vs_unbroken": round(resumed["resumed_s"] / unbroken["seconds"], 3),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
