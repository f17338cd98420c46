"""How good is each model family on real data, beside scikit-learn's HistGradientBoosting on the same rows?

Question   What do `mlp`, `residual_mlp`, `cnn`, a scikit-learn estimator and `xgboost` score on a test part that no
           choice has seen, each with a sensible configuration and no search?
Ceiling    scikit-learn's HistGradientBoosting on the raw columns of the same training rows, with its own handling of
           categories and gaps, and its own early stopping on the same validation rows.
Method     Three real tables. bike_hour.csv: rentals in an hour, rows divided at random. elec.csv: price up or down, in
           the order of time. scikit-learn's digits: 10 classes of 8 by 8 pixels, divided at random. 70 % of the rows
           train, 15 % choose the epoch, 15 % test. Each family goes through the real flow up to `rayline evaluate`:
           features, training in one process, the Bundle, and the Bundle's answers to the raw test rows. A table whose
           file is absent is left out, and said so.
Command    python benchmarks/scores.py [--quick]

One seed each, so that small differences mean nothing; the 95 % interval beside the score is a bootstrap over test rows.
The last line is one JSON object; its ratios are the best of ours over the baseline: of the error (RMSE) below 1, of the
share that is right above 1 speaks for ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from rayline.config import Config, DataConfig, parse

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PARTS = ("train", "valid", "test")
PART = "part_of_row"
BASELINE = "HistGradientBoosting on raw columns"
ROUNDS = 1_000  # of the bootstrap
QUICK_ROWS = 2_000
TRAIN = {"epochs": 60, "patience": 8, "batch_size": 128, "learning_rate": 0.002, "schedule": "cosine", "warmup": 0.05}
TREES = {"epochs": 60, "patience": 8}

Model = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """A family's configuration: its model, how categories and numbers become its inputs, its training."""

    model: Model
    encode: str
    train: Mapping[str, Any] = field(default_factory=lambda: TRAIN)
    scale: str = "standard"


@dataclass(frozen=True)
class Task:
    """A table, what is asked of it, and how each family is configured for it."""

    name: str
    target: str
    categories: tuple[str, ...]
    booleans: tuple[str, ...]
    metric: str
    families: Mapping[str, Family]
    left_out: tuple[str, ...] = ()
    in_time: bool = False

    @property
    def less_is_better(self) -> bool:
        return self.metric == "rmse"


MLP = Family({"builder": "mlp", "hidden": [128, 64]}, "one_hot")
RESIDUAL = Family({"builder": "residual_mlp", "options": {"width": 128, "blocks": 3, "dropout": 0.1}}, "index")
CNN = Family({"builder": "cnn", "options": {"channels": [16, 32], "hidden": 64, "dropout": 0.2}}, "one_hot")


def trees(kind: str, depth: int = 6, rounds: int = 600) -> dict[str, Family]:
    """Return the two families of boosted trees, on numbers as they are."""
    hist = {"builder": f"sklearn.ensemble:HistGradientBoosting{kind}", "options": {"max_iter": rounds}}
    boosted = {"max_depth": depth, "eta": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "num_boost_round": rounds}
    return {
        "sklearn": Family(hist, "ordinal", TREES, "none"),
        "xgboost": Family({"builder": "xgboost", "options": boosted}, "ordinal", TREES, "none"),
    }


TASKS = (
    Task(
        "bike_hour",
        "cnt",
        ("season", "mnth", "hr", "weekday", "weathersit"),
        ("yr", "holiday", "workingday"),
        "rmse",
        {"mlp": MLP, "residual_mlp": RESIDUAL, **trees("Regressor")},
        left_out=("instant", "dteday", "casual", "registered"),
    ),
    Task(
        "elec",
        "class",
        ("period",),
        (),
        "accuracy",
        {"mlp": MLP, "residual_mlp": RESIDUAL, **trees("Classifier")},
        in_time=True,
    ),
    Task(
        "digits",
        "target",
        (),
        (),
        "accuracy",
        {"mlp": MLP, "residual_mlp": RESIDUAL, "cnn": CNN, **trees("Classifier", depth=4, rounds=300)},
    ),
)


@dataclass(frozen=True)
class Scored:
    """One family on one table: its score, the interval of it, every metric, and seconds of features to evaluation."""

    score: float
    low: float
    high: float
    metrics: Mapping[str, float]
    seconds: float


def main() -> int:
    """Run every family on every table that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs: about a minute, and worse scores")
    parser.add_argument("--table", choices=[task.name for task in TASKS], help="this one alone")
    asked = parser.parse_args()
    quick = asked.quick
    found: dict[str, dict[str, Scored]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS if asked.table is None else [task for task in TASKS if task.name == asked.table]:
            table = read(task, quick)
            if table is None:
                print(f"left out: {task.name}, since '{DATA / task.name}.csv' is absent")
                continue
            found[task.name] = dict(compared(task, table, Path(folder), quick))
    report(found)
    return 0


def read(task: Task, quick: bool) -> pa.Table | None:
    """Return a table with the part of each row, or None where its file is absent."""
    from rayline.features.sources import read_table

    if task.name == "digits":
        table = read_table(DataConfig(source="sklearn:digits"))
    elif not (DATA / f"{task.name}.csv").is_file():
        return None
    else:
        table = read_table(DataConfig(source=str(DATA / f"{task.name}.csv")))
    table = table.drop_columns([name for name in task.left_out if name in table.column_names])
    rows = table.num_rows
    order = np.arange(rows) if task.in_time else np.random.default_rng(0).permutation(rows)
    if quick and rows > QUICK_ROWS:
        order = np.sort(order[:: rows // QUICK_ROWS]) if task.in_time else order[:QUICK_ROWS]
    place = np.arange(len(order)) / len(order)
    parts = np.select([place < 0.70, place < 0.85], PARTS[:2], PARTS[2])
    return table.take(pa.array(order)).append_column(PART, pa.array(parts))


def compared(task: Task, table: pa.Table, folder: Path, quick: bool) -> Iterator[tuple[str, Scored]]:
    """Yield the baseline's score, then each family's."""
    yield BASELINE, baseline(task, table)
    for name, family in task.families.items():
        score = through_the_flow(task, family, table, folder / task.name, quick)
        print(f"{task.name}, {name}: {task.metric} {score.score:.4f} in {score.seconds:.0f} s", file=sys.stderr)
        yield name, score


def through_the_flow(task: Task, family: Family, table: pa.Table, folder: Path, quick: bool) -> Scored:
    """Take the table to an evaluated Bundle."""
    from rayline import flow
    from rayline.registry.bundle import Bundle

    config = config_of(task, family, table, folder, quick)
    began = time.perf_counter()
    done = flow.run(config, data=table, until="evaluate").result("evaluate")
    seconds = time.perf_counter() - began
    test = table.filter(pa.compute.equal(table[PART], "test"))
    answers = Bundle.load(done["bundle"]).predictor().predict_table(test)
    truth = test[task.target]
    right = (
        (np.asarray(truth.to_numpy(), dtype=np.float64) - answers.values) ** 2
        if answers.labels is None
        else np.array([answers.labels[at] for at in answers.values])
        == np.array([str(each) for each in truth.to_pylist()])
    )
    score = scored(task, right, done["metrics"], seconds)
    assert abs(score.score - done["metrics"][task.metric]) < 1e-6 * max(1.0, score.score)
    return score


def config_of(task: Task, family: Family, table: pa.Table, folder: Path, quick: bool) -> Config:
    """Return the configuration of one family."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name in task.categories:
            columns[name] = {"kind": "categorical", "encode": family.encode}
        elif name in task.booleans:
            columns[name] = "boolean"
        elif name not in (task.target, PART):
            columns[name] = {"kind": "numeric", "scale": family.scale}
    train = {**family.train, "use_gpu": False, **({"epochs": 10} if quick else {})}
    return parse(
        {
            "name": task.name,
            "data": {"source": "unused", "split": {"by": "column", "column": PART}},
            "features": {
                "target": task.target,
                "task": "regression" if task.less_is_better else "auto",
                "columns": columns,
            },
            "model": dict(family.model),
            "train": train,
            "storage": str(folder / ".rayline"),
        }
    )


def baseline(task: Task, table: pa.Table) -> Scored:
    """Fit scikit-learn's HistGradientBoosting on the raw columns, categories as such, and stop it by the same rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    frame = table.drop_columns([task.target, PART]).to_pandas()
    for name in task.categories:
        frame[name] = frame[name].astype("category")
    truth, part = table[task.target].to_numpy(zero_copy_only=False), np.array(table[PART])
    kind = HistGradientBoostingRegressor if task.less_is_better else HistGradientBoostingClassifier
    model = kind(
        max_iter=600, early_stopping=True, n_iter_no_change=10, random_state=0, categorical_features="from_dtype"
    )
    began = time.perf_counter()
    rows = {name: part == name for name in PARTS}
    with threadpool_limits(
        1
    ):  # on a busy machine its threads wait for one another a hundred times as long as they work
        model.fit(frame[rows["train"]], truth[rows["train"]], X_val=frame[rows["valid"]], y_val=truth[rows["valid"]])
    answers, expected = model.predict(frame[rows["test"]]), truth[rows["test"]]
    seconds = time.perf_counter() - began
    return scored(task, (answers - expected) ** 2 if task.less_is_better else answers == expected, {}, seconds)


def scored(task: Task, each: np.ndarray, metrics: Mapping[str, float], seconds: float) -> Scored:
    """Return the score of what each row contributes to it, with a 95 % interval."""
    values = each.astype(np.float64)
    chance = np.random.default_rng(1)
    means = np.array([values[chance.integers(0, len(values), len(values))].mean() for _ in range(ROUNDS)])
    low, high = np.quantile(means, [0.025, 0.975])
    if task.less_is_better:
        return Scored(float(np.sqrt(values.mean())), float(np.sqrt(low)), float(np.sqrt(high)), metrics, seconds)
    return Scored(float(values.mean()), float(low), float(high), metrics, seconds)


def report(found: Mapping[str, Mapping[str, Scored]]) -> None:
    """Print the table, who wins, and the one line of JSON."""
    shown = Table(title="scores on the test part, with 95 % intervals")
    for column in ("table", "model", "metric", "score", "interval", "seconds"):
        shown.add_column(column, justify="left" if column in ("table", "model", "metric") else "right")
    ratios, words = {}, []
    for task in (task for task in TASKS if task.name in found):
        ranked = sorted(found[task.name].items(), key=lambda item: item[1].score, reverse=not task.less_is_better)
        for name, each in ranked:
            interval = f"{each.low:.4g} to {each.high:.4g}"
            shown.add_row(task.name, name, task.metric, f"{each.score:.4f}", interval, f"{each.seconds:.1f}")
        best, score = next((name, each.score) for name, each in ranked if name != BASELINE)
        base = found[task.name][BASELINE].score
        ratios[f"{task.name}_{task.metric}_best_of_ours"] = round(score / base, 4)
        ours_lose = [name for name, _ in ranked][[name for name, _ in ranked].index(BASELINE) + 1 :]
        words.append(
            f"{task.name}: {'ours wins' if ranked[0][0] != BASELINE else 'ours LOSES'}; best of ours is {best} with "
            f"{score:.4f}, the baseline {base:.4f}; behind it: {', '.join(ours_lose) or 'none'}"
        )
    Console(width=120).print(shown)
    print("\n".join(words))
    results = {
        name: {
            model: {"score": each.score, "interval": [each.low, each.high], **each.metrics}
            for model, each in task.items()
        }
        for name, task in found.items()
    }
    print(
        json.dumps(
            {
                "benchmark": "scores",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "scikit-learn", "torch", "xgboost-cpu")},
                "rounds": 1,
                "results": results,
                "ratios": ratios,
            }
        )
    )


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.exit(main())
