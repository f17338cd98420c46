"""What of a Run or a Study goes to the tracking store, once, however often its driver was stopped on the way."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from rayline import experiment
from rayline.config import Config, DataConfig, FeaturesConfig, TuneConfig
from rayline.errors import DataError, TrainingFailed
from rayline.features.prepared import DataFacts, Prepared
from rayline.features.splits.identity import PartFacts
from rayline.registry.memory import MemoryStore
from rayline.registry.spool import Tracking
from rayline.registry.store import UsedData
from rayline.training.spec import EpochReport, TrainResult
from rayline.tuning.ledger import Trial
from rayline.tuning.study import StudyResult
from registry_examples import fitted, mixed_table

PARTS = {"train": PartFacts(80, "a" * 32), "valid": PartFacts(20, "b" * 32), "test": PartFacts(20, "c" * 32)}


class Case:
    """A project in a folder, and a store in memory."""

    def __init__(self, folder: Path) -> None:
        features = fitted(mixed_table())
        rows = {part: each.rows for part, each in PARTS.items()}
        counts = {"allowed_missing": 12, "at most 3 %": 1}
        facts = DataFacts("/data/table.csv", "d" * 32, rows, features.schema.fingerprint, (), PARTS, counts)
        self.store = MemoryStore()
        self.heard: list[str] = []
        self.tracking = Tracking(folder / "tracking", lambda: self.store, self.heard.append)
        self.prepared = Prepared(folder, features, facts)
        self.folder = folder / "runs" / "key"
        self.config = Config(
            name="table",
            data=DataConfig(source="/data/table.csv"),
            features=FeaturesConfig(target="target"),
            tune=TuneConfig(trials=3),
            storage=str(folder / ".rayline"),
        )

    def train(self, last: int, error: BaseException | None = None, *, at: float = 0.0, fresh: bool = False) -> str:
        """Train epochs 1 to ``last``, telling those of an earlier attempt again, and end so."""
        reports = [EpochReport(each, {"valid_loss": 1.0 / each}, at + 1_000.0 + each) for each in range(1, last + 1)]
        with experiment.open_run(self.tracking, self.config, self.prepared, self.folder, fresh=fresh) as run:
            for report in reports:
                run.epoch(report)
            if error is not None:
                raise error
            best = reports[-1]
            run.trained(TrainResult(self.folder, best.epoch, dict(best.metrics), tuple(reports), "finished", 1.0))
        return run.run_id

    def runs(self) -> list[str]:
        """Return the status of all runs, oldest first."""
        return [self.store.run(run).status for run in self.store.find_runs("table", {})]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_run_keeps_its_data_by_part_and_what_validation_counted(case: Case) -> None:
    record = case.store.run(case.train(2))

    assert record.datasets == {
        "training": UsedData("a" * 32, 80),
        "validation": UsedData("b" * 32, 20),
        "evaluation": UsedData("c" * 32, 20),
    }
    counted = {name: value for name, value in record.metrics.items() if name.startswith("data_")}
    assert counted == {"data_allowed_missing": 12, "data_at_most_3": 1}
    assert record.tags["rayline.data"] == "d" * 32
    assert record.files == ("config.yaml", "plots/loss_curve.png")
    assert record.params["train.epochs"] == str(case.config.train.epochs)


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED"), (DataError("a worker is gone"), "FAILED")],
)
def test_a_run_that_was_stopped_goes_on_as_the_same_run(case: Case, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)):
        case.train(3, error)
    assert case.runs() == [status]

    run_id = case.train(5)

    assert case.runs() == ["FINISHED"]
    assert case.store.history(run_id, "valid_loss") == tuple((step, 1.0 / step) for step in range(1, 6))
    assert case.store.history(run_id, "best_valid_loss") == ((5, 0.2),)
    assert json.loads((case.folder / "run.json").read_text())["run_id"] == run_id


def test_an_epoch_that_is_trained_again_is_logged_once(case: Case) -> None:
    with pytest.raises(KeyboardInterrupt):
        case.train(3, KeyboardInterrupt())

    run_id = case.train(4, at=500.0)  # its last checkpoint was damaged: other times, for the same epochs

    assert [step for step, _ in case.store.history(run_id, "valid_loss")] == [1, 2, 3, 4]


def test_a_finished_run_that_is_told_again_stays_as_it_is(case: Case) -> None:
    run_id = case.train(3)

    assert case.train(3) == run_id
    assert case.runs() == ["FINISHED"]
    assert [step for step, _ in case.store.history(run_id, "valid_loss")] == [1, 2, 3]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_new_run_begins_where_the_first_diverged_or_everything_is_to_be_fresh(case: Case, fresh: bool) -> None:
    error = KeyboardInterrupt() if fresh else TrainingFailed("the loss is nan")
    with pytest.raises(type(error)):
        case.train(3, error)
    (case.folder / "checkpoints").mkdir()

    case.train(2, fresh=fresh)

    assert case.runs() == ["KILLED" if fresh else "FAILED", "FINISHED"]
    assert not (case.folder / "checkpoints").exists()


def test_termination_ends_a_run_as_ctrl_c_does(case: Case) -> None:
    with (
        pytest.raises(SystemExit) as left,
        experiment.open_run(case.tracking, case.config, case.prepared, case.folder),
    ):
        os.kill(os.getpid(), signal.SIGTERM)

    assert left.value.code == 128 + signal.SIGTERM
    assert case.runs() == ["KILLED"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def trial(number: int, status: str = "finished") -> Trial:
    history = tuple(EpochReport(each, {"valid_loss": 1.0 / (each + number)}) for each in range(1, 4))
    metrics = dict(history[-1].metrics) if status != "failed" else {}
    error = "it broke" if status == "failed" else None
    params = {"train.learning_rate": 0.1 / (number + 1)}
    return Trial(number, params, metrics, history, status, None, error)  # type: ignore[arg-type]


def test_a_study_that_was_stopped_goes_on_with_no_trial_lost_or_doubled(case: Case) -> None:
    trials = [trial(0), trial(1, "failed"), trial(2)]
    folder = case.folder.parent.parent / "studies" / "key"
    stopped = experiment.open_study(case.tracking, case.config, case.prepared, folder)
    study = stopped.__enter__()
    assert [study.trial(each) for each in trials[:2]] == [True, True]
    assert not stopped.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert case.runs() == ["KILLED", "FINISHED", "FAILED"]

    with experiment.open_study(case.tracking, case.config, case.prepared, folder) as study:
        assert study.resumed
        assert [study.trial(each) for each in trials] == [False, False, True]
        study.artifacts({"a.html": "<p>", "b.png": b"image", "c.yaml": folder / "study.json"})
        study.finished(StudyResult(tuple(trials), trials[2], (trials[2],), "trials", None))

    parent = case.store.run(study.run_id)
    nested = [case.store.run(each) for each in case.store.children(study.run_id)]
    assert (parent.status, parent.tags["rayline.kind"]) == ("FINISHED", "study")
    assert [each.tags["rayline.trial"] for each in nested] == ["1", "2", "3"]
    assert [each.status for each in nested] == ["FINISHED", "FAILED", "FINISHED"]
    assert nested[1].tags["rayline.trial_error"] == "it broke"
    assert float(nested[2].params["train.learning_rate"]) == pytest.approx(0.1 / 3)
    assert all(len(case.store.history(each.run_id, "valid_loss")) == 3 for each in nested)
    assert all(set(each.datasets) == {"training", "validation", "evaluation"} for each in nested)
    assert parent.tags["rayline.best_run"] == nested[2].run_id == study.run_of(2)
    assert {"a.html", "b.png", "c.yaml", "config.yaml"} == set(parent.files)
    assert nested[0].files == ()
