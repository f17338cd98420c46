"""How often does a rollout take back a canary that is as good, and how often does it let a worse one through?

Question   At the stated level (`confidence: 0.95` of a whole rollout), how many rollouts of equal canaries are taken
           back by chance, how many of canaries that stand exactly at their limit, and how many worse ones are missed?
           How often does an experiment name a winner where there is none? What does an analysis say of a canary that
           is worse for one slice only, on real data? Does any order of events break a law of the policy? Whose version
           changes as a canary's share grows?
Ceiling    False alarms: 5 % of rollouts, by the stated level. Misses: 5 % where limits must be `proven`; without that
           no level is stated, and the figure says what the sample sizes give. Invariants broken: 0. Keys that change
           version from 10 to 20 to 50 %: 10 and 30 %.
Method     The real pure policy decides every rollout, from its start to its end; only the service is simulated, by
           drawing the counts that it would have: each look finds new requests, divided by the weights of the moment.
           200 rollouts of each kind with seeds of their own. `held` are rollouts that stopped for a person without a
           verdict. elec.csv: logistic regressions of scikit-learn on the first 60 % of the rows; the rest is replayed
           in order of time, each row answered by the version that the router chooses for it. State machine: that of
           the tests.
Command    python benchmarks/verdicts.py [--quick] [--part errors|experiments|elec|machine|stickiness]

Nothing is timed, so that a busy machine changes nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rayline.config import RolloutConfig, parse
from rayline.rollout.plans.plan import Plan
from rayline.rollout.policy.moves import acknowledged, begin
from rayline.rollout.policy.policy import Seen, decide, wants_observation
from rayline.rollout.state import RolloutState, SetWeights
from rayline.serving.records.observation import ArmStats, Observation, SliceStats
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.traffic.router import choose

sys.path.insert(0, str(Path(__file__).parent))

from verdict_cases import CASES, Arm, Case, off, right

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
STABLE, CANARY = 1, 2
ROUNDS, QUICK_ROUNDS = 200, 20
STEPS, QUICK_STEPS = 100_000, 3_000
REQUESTS = 2_000  # that all arms together get between two looks
INTERVAL = 5.0
KEYS = 200_000
PARTS_OF_DAY = ("night", "morning", "afternoon", "evening")
PARTS = ("errors", "experiments", "elec", "machine", "stickiness")

Traffic = Callable[[int, Mapping[int, int]], dict[int, ArmStats]]
"""Gives the counts of the versions between two looks, by the number of the look and the weights."""


def plan_of(**rollout: Any) -> Plan:
    """Compile a plan."""
    raw = {"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "rollout": rollout}
    config: RolloutConfig = parse(raw).rollout
    return Plan.from_config(config)


def rolled_out(plan: Plan, traffic: Traffic) -> RolloutState:
    """Return a rollout once it has ended or waits for a person; every action works at once."""
    now = 1e6
    versions = [LiveVersion(number, "", "") for number in (STABLE, CANARY)]
    live = TrafficPlan.first("x", versions[0]).adding(versions[1])
    totals = {number: ArmStats() for number in (STABLE, CANARY)}
    state = begin(
        id="x",
        kind="rollout",
        plan=plan,
        service="x",
        stable=versions[0],
        canary=versions[1],
        now=now,
        experiment="x",
        tracking_uri=None,
    )
    look = 0
    while not state.settled and not state.waiting:
        if state.actions:
            action = state.actions[0]
            if isinstance(action, SetWeights):
                live = live.weighing(action.stable, action.weights)
            state = acknowledged(state, action, now)
            continue
        seen = Observation(now, live.generation, {"r": dict(totals)}) if wants_observation(state, now) else None
        after = decide(state, Seen(observation=seen), now)
        if after is state:
            now += INTERVAL
            look += 1
            for number, more in traffic(look, live.weights).items():
                totals[number] = totals[number].plus(more)
        state = after
    return state


def drawn(seed: int, stable: Arm, canary: Arm) -> Traffic:
    """Return traffic that is drawn anew for each look."""
    random = np.random.default_rng(seed)

    def between(_: int, weights: Mapping[int, int]) -> dict[int, ArmStats]:
        share = weights.get(CANARY, 0) / 100
        mine = int(random.binomial(REQUESTS, share)) if share else 0
        return {STABLE: stable(random, REQUESTS - mine), CANARY: canary(random, mine)}

    return between


def judged(case: Case, canary: Arm, proven: bool, rounds: int) -> Counter[str]:
    """Return how many rollouts of a canary ended how."""
    metric = {**case.metric, "proven": proven, "minimum_samples": 100}
    analysis = {"interval": INTERVAL, "count": 5, "inconclusive_limit": 60, "metrics": [metric]}
    plan = plan_of(
        steps=[{"set_weight": 10}, {"analysis": True}, {"set_weight": 50}, {"analysis": True}], analysis=analysis
    )
    found: Counter[str] = Counter()
    for seed in range(rounds):
        state = rolled_out(plan, drawn(seed, case.stable, canary))
        found["held" if state.waiting else {"Healthy": "promoted"}.get(state.phase, "taken back")] += 1
    return found


def errors(rounds: int, console: Console) -> dict[str, Any]:
    """Print false alarms and misses of each measure."""
    table = Table(title=f"{rounds} rollouts each, confidence 0.95 a rollout: taken back / promoted / held for a person")
    for heading in ("measure", "limits", "equal", "at the limit", "worse", "worse, proven"):
        table.add_column(heading)
    results: dict[str, Any] = {}
    for case in CASES:
        kinds = {
            "equal": (case.stable, False),
            "at_the_limit": (case.limit, False),
            "worse": (case.worse, False),
            "at_the_limit_proven": (case.limit, True),
            "worse_proven": (case.worse, True),
        }
        found = {name: judged(case, *kind, rounds) for name, kind in kinds.items()}
        results[case.name] = found
        shown = [found[name] for name in ("equal", "at_the_limit", "worse", "worse_proven")]
        cells = [f"{each['taken back']} / {each['promoted']} / {each['held']}" for each in shown]
        table.add_row(case.name, case.said, *cells)
    console.print(table)
    alarms = sum(found["equal"]["taken back"] for found in results.values())
    at_limit = sum(found["at_the_limit"]["taken back"] for found in results.values())
    misses = sum(found["worse"]["promoted"] for found in results.values())
    proven = sum(found["worse_proven"]["promoted"] for found in results.values())
    limit_proven = sum(found["at_the_limit_proven"]["promoted"] for found in results.values())
    total = rounds * len(CASES)
    console.print(
        f"False alarms: {alarms} of {total} equal canaries, {at_limit} of {total} at their limit (stated: at most "
        f"{0.05 * total:g}). Misses: {misses} of {total} worse canaries; with `proven`: {proven} of {total}, and "
        f"{limit_proven} of {total} at their limit (stated: at most {0.05 * total:g})."
    )
    return {
        "cases": results,
        "false_alarm_share": alarms / total,
        "false_alarm_share_at_the_limit": at_limit / total,
        "miss_share": misses / total,
        "miss_share_proven": proven / total,
        "miss_share_at_the_limit_proven": limit_proven / total,
        "stated_level": 0.05,
    }


def experiments(rounds: int, console: Console) -> dict[str, Any]:
    """Print how often an experiment names a winner, rightly and wrongly, and whether its interval holds the truth."""
    kinds: dict[str, tuple[str, Arm, Arm, float]] = {
        "accuracy, equal": ("accuracy", right(0.85), right(0.85), 0.0),
        "accuracy, 0.02 better": ("accuracy", right(0.85), right(0.87), 0.02),
        "accuracy, 0.02 worse": ("accuracy", right(0.85), right(0.83), -0.02),
        "absolute error, equal": ("mean_absolute_error", off(10.0), off(10.0), 0.0),
        "absolute error, 0.3 better": ("mean_absolute_error", off(10.0), off(9.7), 0.3),
    }
    table = Table(title=f"{rounds} experiments each, looked at every 2,000 rows, at most 100,000 rows, confidence 0.95")
    for heading in ("truth", "canary wins", "stable wins", "undecided", "interval missed the truth", "rows, median"):
        table.add_column(heading)
    results: dict[str, Any] = {}
    for name, (measure, stable, canary, truth) in kinds.items():
        plan = plan_of(
            strategy="experiment",
            experiment={"measure": measure, "interval": INTERVAL, "minimum_samples": 500, "max_samples": 100_000},
        )
        found: Counter[str] = Counter()
        rows = []
        for seed in range(rounds):
            last = rolled_out(plan, drawn(seed, stable, canary)).analyses[-1].tallies[0].last
            assert last is not None
            assert last.low is not None
            assert last.high is not None
            found[last.slice or "undecided"] += 1
            found["missed"] += not last.low <= truth <= last.high
            rows.append(sum(last.samples))
        results[name] = {**found, "rows": float(np.median(rows))}
        counts = (found["canary"], found["stable"], found["undecided"], found["missed"], int(np.median(rows)))
        table.add_row(name, *map(str, counts))
    console.print(table)
    return results


def elec(console: Console) -> dict[str, Any]:
    """Print what the analysis says of a canary that is worse for one slice only, and of one that is equal."""
    if not (DATA / "elec.csv").exists():
        console.print("elec.csv is not here: left out.")
        return {}
    table = np.genfromtxt(DATA / "elec.csv", delimiter=",", names=True)
    features = np.column_stack([table[name] for name in ("period", "nswprice", "nswdemand", "vicprice", "vicdemand")])
    truth = table["class"].astype(int)
    slices = np.array(PARTS_OF_DAY)[np.minimum(3, (table["period"] * 4).astype(int))]
    split = int(0.6 * len(truth))
    train, rest = slice(0, split), slice(split, None)
    stable = fitted(features[train], truth[train], np.arange(split) % 2 == 0)
    equal = fitted(features[train], truth[train], np.arange(split) % 2 == 1)
    said = {"stable": stable.predict(features[rest]), "equal": equal.predict(features[rest])}
    broken = np.where(slices[rest] == "evening", 1 - said["equal"], said["equal"])
    plan = plan_of(
        steps=[{"set_weight": 10}, {"analysis": True}, {"set_weight": 50}, {"analysis": True}],
        analysis={
            "interval": INTERVAL,
            "count": 5,
            "inconclusive_limit": 60,
            "metrics": [{"measure": "accuracy", "max_decrease": 0.05, "minimum_samples": 50, "by_slice": True}],
        },
    )
    whole = plan_of(
        steps=[{"set_weight": 10}, {"analysis": True}, {"set_weight": 50}, {"analysis": True}],
        analysis={
            "interval": INTERVAL,
            "count": 5,
            "inconclusive_limit": 60,
            "metrics": [{"measure": "accuracy", "max_decrease": 0.15, "minimum_samples": 50, "by_slice": True}],
        },
    )
    results: dict[str, Any] = {}
    for name, answers, chosen in (
        ("equal", said["equal"], plan),
        ("worse in the evening only", broken, plan),
        ("worse in the evening only, 0.15 less allowed", broken, whole),
    ):
        state = rolled_out(chosen, replayed({STABLE: said["stable"], CANARY: answers}, truth[rest], slices[rest]))
        shares = {
            part: (
                float(np.mean(said["stable"][slices[rest] == part] == truth[rest][slices[rest] == part])),
                float(np.mean(answers[slices[rest] == part] == truth[rest][slices[rest] == part])),
            )
            for part in PARTS_OF_DAY
        }
        overall = (float(np.mean(said["stable"] == truth[rest])), float(np.mean(answers == truth[rest])))
        console.print(
            f"[bold]elec.csv, canary {name}[/bold]: accuracy over all rows {overall[0]:.3f} and {overall[1]:.3f}"
        )
        console.print("  by slice: " + ", ".join(f"{part} {a:.3f} and {b:.3f}" for part, (a, b) in shares.items()))
        for run in state.analyses:
            console.print(f"  at {run.weight} %, {run.rounds} looks: {run.verdict}: {run.reason}", soft_wrap=True)
        console.print(f"  ended {state.phase}")
        verdicts = [[run.weight, run.rounds, run.verdict, run.reason] for run in state.analyses]
        results[name] = {"phase": state.phase, "overall": overall, "slices": shares, "analyses": verdicts}
    return results


def fitted(features: np.ndarray, truth: np.ndarray, chosen: np.ndarray) -> Any:
    """Return a logistic regression on some of the rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features[chosen], truth[chosen])


def replayed(answers: Mapping[int, np.ndarray], truth: np.ndarray, slices: np.ndarray, rows: int = 400) -> Traffic:
    """Return the traffic of rows in order of time, ``rows`` between two looks, each by whom the router says."""

    def between(look: int, weights: Mapping[int, int]) -> dict[int, ArmStats]:
        places = np.arange(look * rows, min((look + 1) * rows, len(truth)))
        chosen = np.array([choose(str(place), weights) for place in places])
        return {number: counted(number, places[chosen == number]) for number in answers}

    def counted(number: int, places: np.ndarray) -> ArmStats:
        hits = answers[number][places] == truth[places]
        parts = {}
        for name in PARTS_OF_DAY:
            inside = slices[places] == name
            parts[name] = SliceStats(int(inside.sum()), int(inside.sum()), int(hits[inside].sum()))
        return ArmStats(requests=len(places), feedback=len(places), correct=int(hits.sum()), slices=parts)

    return between


def machine(steps: int, console: Console) -> dict[str, Any]:
    """Print how many steps of the state machine were run, and whether an invariant broke."""
    sys.path.insert(0, str(ROOT / "tests"))
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test

    from rollout_simulation import PolicyMachine

    broken = 0
    while not broken and PolicyMachine.steps < steps:
        chosen = settings(
            max_examples=50,
            stateful_step_count=100,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        try:
            run_state_machine_as_test(PolicyMachine, settings=chosen)
        except (AssertionError, ExceptionGroup) as error:
            console.print(error)
            broken += 1
        print(f"  {PolicyMachine.steps:,} steps, {broken} broken", file=sys.stderr, flush=True)
    ends = {f"{strategy} {phase}": count for (strategy, phase), count in sorted(PolicyMachine.ends.items())}
    console.print(
        f"State machine: {PolicyMachine.steps:,} steps with all invariants checked after each "
        f"({PolicyMachine.done['look']:,} looks, {PolicyMachine.done['act']:,} actions, "
        f"{PolicyMachine.done['restart']:,} restarts, {PolicyMachine.done['jump']:,} clock jumps), {broken} broken."
    )
    console.print("Rollouts that ended: " + ", ".join(f"{name} {count}" for name, count in ends.items()))
    return {"steps": PolicyMachine.steps, "broken": broken, "done": dict(PolicyMachine.done), "ends": ends}


def stickiness(console: Console) -> dict[str, Any]:
    """Print whose version changes when the canary's share grows."""
    keys = [f"user-{place}" for place in range(KEYS)]
    before = {key: choose(key, {STABLE: 90, CANARY: 10}) for key in keys}
    results = {}
    for share in (20, 50):
        after = {key: choose(key, {STABLE: 100 - share, CANARY: share}) for key in keys}
        moved = sum(before[key] != after[key] for key in keys) / KEYS
        back = sum(before[key] == CANARY and after[key] == STABLE for key in keys)
        results[f"to_{share}"] = {"moved": moved, "back": back}
        console.print(
            f"Stickiness: to {share} %, {moved:.2%} of {KEYS:,} keys change version, {back} away from the canary."
        )
        before = after
    return results


def main() -> None:
    """Run what was asked for, and print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rollouts, fewer steps")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given more than once")
    chosen = parser.parse_args()
    parts = chosen.part or PARTS
    rounds = QUICK_ROUNDS if chosen.quick else ROUNDS
    console = Console()
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "errors": lambda: errors(rounds, console),
        "experiments": lambda: experiments(rounds, console),
        "elec": lambda: elec(console),
        "machine": lambda: machine(QUICK_STEPS if chosen.quick else STEPS, console),
        "stickiness": lambda: stickiness(console),
    }
    results = {part: work[part]() for part in parts}
    ratios = {
        key: results["errors"][key]
        for key in ("false_alarm_share", "false_alarm_share_at_the_limit", "miss_share", "miss_share_proven")
        if "errors" in results
    }
    machine_of = {"host": socket.gethostname(), "cpus": os.cpu_count(), "python": platform.python_version()}
    packages = {name: version(name) for name in ("numpy", "scikit-learn", "hypothesis", "rayline")}
    print(
        json.dumps(
            {
                "benchmark": "verdicts",
                "machine": machine_of,
                "versions": packages,
                "rounds": rounds,
                "results": results,
                "ratios": ratios,
            }
        )
    )


if __name__ == "__main__":
    main()
