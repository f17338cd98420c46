"""Every family of models trains, reports, checkpoints, resumes, bundles and serves the same way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from family_cases import CHANCE, OWN_MODULE, Case, bundle_parts, cases, fitted, table
from rayline.registry.bundle import Bundle, write_bundle
from rayline.registry.networks import CHECKPOINT_FILES
from rayline.training import checkpoint
from rayline.training.metrics import DIRECTIONS, measure
from rayline.training.spec import EpochReport, TrainData, TrainResult
from training_examples import fit_here, made_data

CASES = cases("users_family:build")
STEPWISE = [case for case in CASES if case.steps]
BUNDLED = [case for case in CASES if case.bundled]
KILLED_AFTER = 2


@pytest.fixture(scope="module", autouse=True)
def users_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a user's own builder be importable here; it is nowhere to be found where a bundle is loaded."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "users_family.py").write_text(OWN_MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@dataclass
class Trained:
    """A finished training, what it told, and where it lies."""

    case: Case
    out: Path
    told: list[EpochReport]
    result: TrainResult


@pytest.fixture(scope="module")
def trained_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the training of a case; the same one for each test that looks at it."""
    known: dict[str, Trained] = {}

    def give(case: Case) -> Trained:
        if str(case) not in known:
            out, told = tmp_path_factory.mktemp("trained"), []
            result = fit_here(case.spec(patience=0), case.data(), out, told.append)
            known[str(case)] = Trained(case, out, told, result)
        return known[str(case)]

    return give


@pytest.fixture
def trained(request: pytest.FixtureRequest, trained_of: Any) -> Trained:
    return trained_of(request.param)


def each(which: list[Case]) -> Any:
    return pytest.mark.parametrize("trained", which, ids=str, indirect=True)


def series(result: TrainResult) -> list[dict[str, float]]:
    return [dict(report.metrics) for report in result.history]


@each(CASES)
def test_it_learns(trained: Trained) -> None:
    assert trained.result.metrics["valid_loss"] < 0.75 * CHANCE[trained.case.task]


@each(CASES)
def test_it_tells_each_epoch_once_with_the_metrics_of_the_task(trained: Trained) -> None:
    epochs = 6 if trained.case.steps else 1
    assert [report.epoch for report in trained.told] == list(range(1, epochs + 1))
    assert tuple(trained.told) == trained.result.history
    expected = {"train_loss", *(f"valid_{name}" for name in DIRECTIONS[trained.case.task])}
    assert all(report.metrics.keys() == expected for report in trained.told)
    assert trained.result.stopped == "finished"


@each(CASES)
def test_its_checkpoint_is_whole_and_a_changed_one_is_passed_over(trained: Trained, tmp_path: Path) -> None:
    last = checkpoint.latest(trained.out)
    assert last is not None
    assert last.epoch == len(trained.told)
    kept = CHECKPOINT_FILES[trained.case.family]
    assert {kept, "state.json", "manifest.json"} <= {file.name for file in trained.result.checkpoint.iterdir()}

    copy = Path(shutil.copytree(trained.out, tmp_path / "copy"))
    with (checkpoint.folder_of(copy, last.epoch) / kept).open("ab") as file:
        file.write(b" ")
    notices: list[str] = []
    before = checkpoint.latest(copy, notices.append)
    assert before is None or before.epoch < last.epoch
    assert "is damaged or half written" in notices[0]


class Killed(Exception):
    """Stands for the end of the process."""


@each(CASES)
def test_killed_and_called_again_it_ends_as_if_nothing_had_been(trained: Trained, tmp_path: Path) -> None:
    case, after = trained.case, KILLED_AFTER if trained.case.steps else 1

    def dies(report: EpochReport) -> None:
        if report.epoch == after:
            raise Killed

    with pytest.raises(Killed):
        fit_here(case.spec(patience=0), case.data(), tmp_path, dies)
    told: list[EpochReport] = []
    result = fit_here(case.spec(patience=0), case.data(), tmp_path, told.append)

    assert [report.epoch for report in told] == [report.epoch for report in trained.told]
    assert series(result) == series(trained.result)
    assert result.best_epoch == trained.result.best_epoch
    kept = CHECKPOINT_FILES[case.family]
    if kept != "model.skops":  # skops writes the places of objects in memory
        assert (result.checkpoint / kept).read_bytes() == (trained.result.checkpoint / kept).read_bytes()


@each(CASES)
def test_the_same_seed_gives_the_same_numbers(trained: Trained, tmp_path: Path) -> None:
    np.random.default_rng().random(10)
    np.random.seed(5)
    again = fit_here(trained.case.spec(patience=0), trained.case.data(), tmp_path)
    assert series(again) == series(trained.result)


@pytest.mark.parametrize("case", STEPWISE, ids=str)
def test_it_stops_early_where_nothing_gets_better(case: Case, tmp_path: Path) -> None:
    data = case.data()
    shuffled = np.random.default_rng(0).permutation(data.valid[1])
    unlearnable = TrainData(data.train, (data.valid[0], shuffled))
    trees = {name: 120 for name in ("max_iter", "n_estimators", "num_boost_round") if name in case.model.options}
    spec = case.spec(epochs=60, patience=2)
    options = {**spec.model.options, **trees}
    spec = replace(spec, model=structs.replace(spec.model, options=options))

    result = fit_here(spec, unlearnable, tmp_path)

    assert result.stopped == "early"
    assert len(result.history) == result.best_epoch + 2 < 60
    assert result.checkpoint.is_dir()


@pytest.fixture(scope="module")
def bundle_of(trained_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the Bundle of a case's best checkpoint."""
    known: dict[str, Bundle] = {}

    def give(case: Case) -> Bundle:
        if str(case) not in known:
            out = tmp_path_factory.mktemp("bundles") / "bundle"
            known[str(case)] = write_bundle(out, **bundle_parts(case, trained_of(case).result.checkpoint))
        return known[str(case)]

    return give


def outputs(found: Any) -> np.ndarray:
    return found.values if found.probabilities is None else found.probabilities


@each(BUNDLED)
def test_its_bundle_answers_as_it_was_measured_in_training(trained: Trained, bundle_of: Any) -> None:
    case, bundle = trained.case, bundle_of(trained.case)
    x, y = case.data().valid
    features = fitted(case.task, case.image)
    predictor = bundle.predictor()
    found = measure(case.task, predictor.network(x), y, features.target_std)
    for name, value in found.items():
        assert value == pytest.approx(trained.result.metrics[f"valid_{name}"], rel=1e-5, abs=1e-6)


@each(BUNDLED)
def test_its_bundle_answers_a_row_alone_as_in_a_batch(trained: Trained, bundle_of: Any) -> None:
    case, predictor = trained.case, bundle_of(trained.case).predictor()
    raw = table(case.task, case.image).slice(0, 50)
    rows = raw.to_pylist()
    alone = np.concatenate([outputs(predictor.predict([row])) for row in rows])
    np.testing.assert_allclose(alone, outputs(predictor.predict(rows)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone, outputs(predictor.predict_table(raw)), rtol=1e-5, atol=1e-6)


ASK = """
import json, sys
unpickled = []
sys.addaudithook(lambda event, arguments: unpickled.append(arguments) if event == "pickle.find_class" else None)
from rayline.registry.bundle import Bundle
answers = {}
for name, path, rows in json.load(sys.stdin):
    found = Bundle.load(path).predictor().predict(rows)
    answers[name] = (found.values if found.probabilities is None else found.probabilities).tolist()
known = ("users_family", "rayline.training", "rayline.tuning", "ray", "mlflow")
loaded = [name for name in known if name in sys.modules]
print(json.dumps({"answers": answers, "loaded": loaded, "unpickled": repr(unpickled)}))
"""


def test_every_bundle_is_answered_in_a_fresh_interpreter_without_training_code(bundle_of: Any, tmp_path: Path) -> None:
    asked = []
    for case in BUNDLED:
        rows = table(case.task, case.image).slice(0, 20).drop_columns(["y"]).to_pylist()
        asked.append((str(case), str(bundle_of(case).path), rows))
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=json.dumps(asked), capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loaded"] == []
    assert found["unpickled"] == "[]"
    for (name, _, rows), case in zip(asked, BUNDLED, strict=True):
        here = outputs(bundle_of(case).predictor().predict(rows))
        np.testing.assert_allclose(found["answers"][name], here, rtol=1e-6, atol=1e-7, err_msg=name)


ONE_OF_EACH = [
    case
    for case in BUNDLED
    if str(case) in {"residual_mlp-regression", "HistGradientBoostingClassifier-multiclass", "xgboost-multiclass"}
]


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_mlflow_loads_its_bundle_and_gets_the_same_answers(case: Case, bundle_of: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow about its own types, as it is imported
        import mlflow.pyfunc
        from mlflow.models import Model

    from rayline.registry.pyfunc import save

    bundle = bundle_of(case)
    save(bundle, tmp_path / "model", Model())
    needs = (tmp_path / "model" / "requirements.txt").read_text()
    package = {"torch": "torch", "sklearn": "skops", "xgboost": "xgboost"}[case.family]
    assert f"\n{package}==" in needs
    frame = table(case.task, case.image).slice(0, 20).drop_columns(["y"]).to_pandas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scored = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(frame)
    expected = bundle.predictor().predict(frame.to_dict("records"))
    if expected.labels is None:
        np.testing.assert_allclose(scored["prediction"], expected.values, rtol=1e-6)
    else:
        columns = [f"probability_{label}" for label in expected.labels]
        np.testing.assert_allclose(scored[columns].to_numpy(), expected.probabilities, atol=1e-6)


WORKER = """
import json, sys
from pathlib import Path
rank, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
sys.path.insert(0, sys.argv[4])
from xgboost.collective import CommunicatorContext
from rayline.config import ModelConfig
from rayline.training.context import Place
from training_examples import fit_here, made_data, made_data, spec_of
model = ModelConfig(builder="xgboost", options={"num_boost_round": 12, "max_depth": 3})
spec = spec_of("multiclass", model=model, epochs=4, patience=0, num_workers=2)
with CommunicatorContext(**arguments):
    result = fit_here(spec, made_data("multiclass"), Path(sys.argv[3]), place=Place(rank, 2))
print(json.dumps([dict(report.metrics) for report in result.history]))
"""


def test_two_workers_learn_one_booster_from_all_rows(tmp_path: Path) -> None:
    from xgboost import RabitTracker

    from rayline.registry.networks.booster import BoosterNetwork

    tracker = RabitTracker(n_workers=2, host_ip="127.0.0.1")
    tracker.start()
    arguments = json.dumps(tracker.worker_args())
    here = str(Path(__file__).resolve().parents[1])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), arguments, str(tmp_path), here], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    told = [json.loads(worker.communicate(timeout=120)[0].splitlines()[-1]) for worker in workers]
    tracker.wait_for(10)

    assert told[0] == told[1]  # the same trees and one loss, so that both stop together
    data = made_data("multiclass")
    content = (tmp_path / "checkpoints" / "epoch-00004" / "model.json").read_bytes()
    network = BoosterNetwork.from_json(content, 4, 3, "multiclass", "kept")
    for part, name in ((data.train, "train_loss"), (data.valid, "valid_loss")):
        assert measure("multiclass", network(part[0]), part[1], 1.0)["loss"] == pytest.approx(told[0][-1][name], 1e-5)
    assert told[0][-1]["valid_loss"] < 0.8
