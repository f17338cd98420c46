"""The page of a Study: it tells the truth, needs no network, and few, failed or odd trials break nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline import config
from rayline.config import Config, DataConfig, FeaturesConfig, Space, TuneConfig, column_config, parse, with_values
from rayline.config.writing import shortest
from rayline.training.spec import EpochReport
from rayline.tuning.best import best_config, best_yaml
from rayline.tuning.importance import importances
from rayline.tuning.ledger import Trial
from rayline.tuning.page.page import write_page
from rayline.tuning.page.page_html import overview
from rayline.tuning.page.page_note import note
from rayline.tuning.page.plots import plots_of
from rayline.tuning.page.sheet import ABSENT, Objective, Sheet, value_at
from rayline.tuning.space.space import check

LOSS, SCORE = Objective("valid_loss", "min"), Objective("valid_r2", "max")
SPACE = {
    "train.learning_rate": Space(low=1e-4, high=1e-1, log=True),
    "model.builder": Space(choose=("mlp", "residual_mlp")),
    "model.options.width": Space(low=8, high=64, integer=True, when={"model.builder": "residual_mlp"}),
    "features.columns.hour.scale": Space(choose=("none", "minmax")),
}


def base_of(space: Mapping[str, Space] = SPACE) -> Config:
    return Config(
        name="bike",
        data=DataConfig(source="/data/bike.csv"),
        features=FeaturesConfig(target="cnt", columns={"hour": "numeric", "town": "categorical"}),
        tune=TuneConfig(space=dict(space)),
        storage="/data/.rayline",
        home="/data",
    )


def trial_of(number: int, loss: float | None, r2: float = 0.5, error: str | None = None, **params: Any) -> Trial:
    values = {"train.learning_rate": 0.01 * (number + 1) / 2, "model.builder": "mlp", **params}
    metrics = {} if loss is None else {"valid_loss": loss, "valid_r2": r2}
    history = (EpochReport(1, metrics),) if metrics else ()
    return Trial(number, values, metrics, history, "failed" if error else "finished", Path("/c"), error)


def sheet_of(*trials: Trial, objectives: tuple[Objective, ...] = (LOSS,), space: Any = SPACE) -> Sheet:
    base = base_of(space)
    ok = [trial for trial in trials if trial.metrics]
    best = min(ok, key=lambda trial: objectives[0].sign * (objectives[0].of(trial) or 0.0))
    return Sheet(base, check(base), objectives, tuple(trials), best, tuple(ok[:2]), "all trials are done")


class Links(HTMLParser):
    """Gathers what a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_folder_has_the_page_the_table_the_plots_and_the_best_configuration(tmp_path: Path) -> None:
    wide = {"model.builder": "residual_mlp", "model.options.width": 16, "features.columns.hour.scale": "minmax"}
    sheet = sheet_of(
        trial_of(0, 0.5),
        trial_of(1, 0.25, **wide),
        trial_of(2, 0.4),
        trial_of(3, None, error="<b>nan</b>"),
        trial_of(4, 0.3),
    )
    page = write_page(sheet, tmp_path)
    assert page == tmp_path / "study.html"
    names = {"study.html", "trials.csv", "best.yaml"}
    names |= {f"plots/{name}.{kind}" for name in ("history", "parallel", "importance") for kind in ("html", "png")}
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")} == names
    text = page.read_text()
    assert Links(text).found == []
    assert page.stat().st_size < 2_500_000
    assert "<b>nan</b>" not in text
    assert "&lt;b&gt;nan&lt;/b&gt;" in text
    assert "Best: trial 2" in text
    with (tmp_path / "trials.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["valid_loss"] for row in rows] == ["0.5", "0.25", "0.4", "", "0.3"]
    assert [row["model.options.width"] for row in rows] == ["", "16", "", "", ""]
    assert [row["best"] for row in rows] == ["False", "True", "False", "False", "False"]
    assert "**Best: trial 2** of 5 (4 finished, 1 failed): valid_loss **0.25**" in note(sheet, "study/study.html")


def test_the_best_configuration_is_read_back_as_what_the_best_trial_was(tmp_path: Path) -> None:
    params = {"model.builder": "residual_mlp", "model.options.width": 16, "features.columns.hour.scale": "minmax"}
    sheet = sheet_of(trial_of(0, 0.5), trial_of(1, 0.25, **params))
    file = tmp_path / "elsewhere" / "best.yaml"
    file.parent.mkdir()
    file.write_text(best_yaml(sheet))
    assert config.load(file) == best_config(sheet)
    assert config.load(file).model.options == {"width": 16}
    assert file.read_text().startswith("# The best of 2 trials of 'bike': trial 2, valid_loss 0.25\n# rayline train")


FEW = {
    "one trial": [trial_of(0, 0.5)],
    "all failed but one": [trial_of(0, None, error="x"), trial_of(1, 0.5), trial_of(2, None, error="y")],
    "all alike": [trial_of(number, 0.5) for number in range(5)],
    "not finite": [trial_of(0, float("nan")), trial_of(1, float("inf")), trial_of(2, 0.5)],
    "a long choice": [
        trial_of(number, 0.5 + number / 10, **{"features.columns.hour.scale": "none"}) for number in range(6)
    ],
}


CASES = [(trials, (LOSS,)) for trials in FEW.values()]
CASES += [
    (FEW["all failed but one"], (LOSS, SCORE)),
    (FEW["a long choice"], (LOSS, SCORE, Objective("valid_x", "min"))),
]


@pytest.mark.parametrize(("trials", "objectives"), CASES, ids=[*FEW, "two objectives", "three objectives, one unknown"])
def test_few_and_odd_trials_break_nothing(trials: list[Trial], objectives: tuple[Objective, ...]) -> None:
    ok = [trial for trial in trials if trial.metrics and LOSS.of(trial) is not None]
    base = base_of()
    sheet = Sheet(base, check(base), objectives, tuple(trials), ok[0], tuple(ok), "")
    plots = plots_of(sheet)
    names = [plot.name for plot in plots]
    assert ("pareto" in names) == (len(objectives) > 1)
    for plot in plots:
        if plot.interactive is not None:
            assert "NaN" not in json.dumps(plot.interactive)
            assert plot.still is not None
            plot.still.savefig(io.BytesIO(), format="png", dpi=20)
        else:
            assert plot.words.startswith("No ")
    assert "</html>" in overview(sheet, plots)


def test_one_parameter_is_a_page_too() -> None:
    space = {"train.learning_rate": SPACE["train.learning_rate"]}
    trials = [
        Trial(each, {"train.learning_rate": 0.01 * 2**-each}, {"valid_loss": 0.1 * each}, (), "finished", Path("/c"))
        for each in range(5)
    ]
    sheet = Sheet(base_of(space), space, (LOSS,), tuple(trials), trials[0])
    assert importances(sheet, LOSS) == {"train.learning_rate": 1.0}
    assert "5 trials over 1 parameter<" in overview(sheet, plots_of(sheet))


def test_importance_finds_what_decides() -> None:
    trials = [
        trial_of(
            number,
            0.1 + 0.5 * (number % 2) + 0.001 * number,
            **{"features.columns.hour.scale": ("none", "minmax")[number % 2]},
        )
        for number in range(12)
    ]
    found = importances(sheet_of(*trials), LOSS)
    assert isinstance(found, dict)
    assert next(iter(found)) == "features.columns.hour.scale"
    assert found["features.columns.hour.scale"] > 0.8
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_page_says_what_the_configuration_had() -> None:
    base = base_of()
    assert value_at(base, "features.columns.hour.scale") == "standard"
    assert value_at(base, "features.columns.hour.use") is True
    assert value_at(base, "features.columns.hour.kind") == "numeric"
    assert value_at(base, "features.columns.nothing.scale") is None
    assert value_at(base, "model.hidden") == [64, 32]
    assert value_at(base, "model.options.width") is None
    cells = re.findall(r"<td>(.*?)</td>", overview(sheet_of(trial_of(0, 0.5)), ()))
    assert ABSENT in cells


@settings(max_examples=30, deadline=None)
@given(
    st.floats(1e-5, 1.0),
    st.sampled_from(["standard", "none"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.booleans(),
)
def test_a_shortest_configuration_is_the_same(rate: float, scale: str, hidden: list[int], use: bool) -> None:
    chosen = with_values(
        base_of(),
        {
            "train.learning_rate": rate,
            "features.columns.hour.scale": scale,
            "features.columns.town.use": use,
            "model.hidden": hidden,
        },
    )
    short = shortest(chosen)
    again = parse(short)
    assert (again.train, again.model, again.data, again.tune) == (chosen.train, chosen.model, chosen.data, chosen.tune)
    columns = {name: column_config(each) for name, each in chosen.features.columns.items()}
    assert {name: column_config(each) for name, each in again.features.columns.items()} == columns
    assert shortest(again) == short
    assert "rollout" not in short
