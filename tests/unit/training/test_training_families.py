"""What the families beside the ready MLP may be asked for, and what is said where they cannot do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayline.config import ModelConfig, Task
from rayline.errors import ConfigError, DataError, TrainingFailed
from rayline.libraries import refuse_options
from rayline.model import InputGroup, InputLayout, build_module
from rayline.modules.residual_mlp import ResidualMlp
from rayline.registry.networks.program import export
from rayline.training.families import refuse_unfit
from rayline.training.spec import TrainData
from training_examples import broken_data, fit_here, made_data, spec_of

MIXED = InputLayout(
    (
        InputGroup("a", "number", 0, 2),
        InputGroup("town", "index", 2, 1, levels=5),
        InputGroup("pixels", "image", 3, 12, shape=(2, 2, 3)),
        InputGroup("hour", "index", 15, 1, levels=120),
        InputGroup("b", "number", 16, 1),
    )
)
HIST = "sklearn.ensemble:HistGradientBoosting"


def built(builder: str, layout: InputLayout, outputs: int = 2, **options: Any) -> torch.nn.Module:
    return build_module(ModelConfig(builder=builder, options=options), layout, outputs).eval()


def test_residual_mlp_embeds_each_index_column_and_takes_the_numbers_beside_them() -> None:
    module = built("residual_mlp", MIXED, width=8, blocks=3)
    assert isinstance(module, ResidualMlp)
    assert [tuple(each.weight.shape) for each in module.columns.embeddings] == [(5, 3), (120, 50)]
    assert module.first.in_features == 2 + 12 + 1 + 3 + 50
    assert len(module.blocks) == 3
    assert [each.embedding_dim for each in built("residual_mlp", MIXED, embedding=4).columns.embeddings] == [4, 4]


@pytest.mark.parametrize("place", [-1.0, 5.0, 1e30, -1e30, float("nan"), float("inf")])
def test_residual_mlp_takes_a_place_that_is_none_for_an_unknown_level(place: float) -> None:
    module = built("residual_mlp", MIXED)
    rows = torch.zeros(2, 17)
    rows[:, 2] = torch.tensor([1.0, place])
    with torch.no_grad():
        known, odd = module(rows)
    assert torch.equal(known, odd)


def test_residual_mlp_tells_its_levels_apart() -> None:
    rows = torch.zeros(5, 17)
    rows[:, 2] = torch.arange(5)
    with torch.no_grad():
        found = built("residual_mlp", MIXED)(rows)
    assert len({tuple(row) for row in found.tolist()}) == 5


def test_residual_mlp_without_index_columns_takes_numbers_alone() -> None:
    assert built("residual_mlp", InputLayout.plain(4))(torch.ones(3, 4)).shape == (3, 2)


def test_cnn_sees_the_image_and_lets_the_other_columns_join() -> None:
    module = built("cnn", MIXED, channels=[4, 8])
    rows = torch.randn(3, 17, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = module(rows)
        for column in (0, 7, 15, 16):
            changed = rows.clone()
            changed[:, column] = 3
            assert not torch.allclose(module(changed), before), column


@pytest.mark.parametrize(
    ("width", "shape", "expected"),
    [(64, None, (8, 8, 1)), (64, [4, 16], (4, 16, 1)), (48, [4, 4, 3], (4, 4, 3)), (2500, None, (50, 50, 1))],
)
def test_cnn_takes_numbers_for_an_image(width: int, shape: Any, expected: tuple[int, ...]) -> None:
    module = built("cnn", InputLayout.plain(width), **({"shape": shape} if shape else {}))
    assert module.shape == expected
    assert module(torch.zeros(2, width)).shape == (2, 2)


def test_cnn_convolves_rows_and_columns_of_the_image_itself() -> None:
    """The image's elements lie row by row, channels last."""
    module = built("cnn", InputLayout.plain(48), shape=[4, 4, 3], channels=[1])
    seen: list[torch.Tensor] = []
    module.convolutions[0].register_forward_hook(lambda *parts: seen.append(parts[1][0]))
    x = torch.arange(48.0)[None]
    module(x)
    assert torch.equal(seen[0][0].permute(1, 2, 0), x.reshape(4, 4, 3))


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        (InputLayout.plain(30), {}, "needs an image, and the 30 numbers of the inputs fill no square"),
        (InputLayout.plain(1), {}, "fill no square"),
        (InputLayout.plain(64), {"shape": [9, 9]}, r"shape \[9, 9\] has 81 elements, and the inputs' numbers 64"),
        (InputLayout.plain(64), {"shape": [64]}, r"must be \[height, width\]"),
        (InputLayout((InputGroup("t", "index", 0, 1, levels=4),)), {}, "the inputs hold no such numbers"),
        (
            InputLayout(tuple(InputGroup(name, "image", at, 4, shape=(2, 2)) for at, name in ((0, "a"), (4, "b")))),
            {},
            r"the inputs hold 2 \('a', 'b'\)",
        ),
    ],
)
def test_cnn_without_an_image_says_what_it_needs(layout: InputLayout, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built("cnn", layout, **options)


@pytest.mark.parametrize("builder", ["residual_mlp", "cnn"])
def test_a_ready_made_module_is_exported(builder: str, tmp_path: Path) -> None:
    export(built(builder, MIXED), 17, 2, tmp_path / "model.pt2")


def test_a_users_builder_gets_the_layout_where_it_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asks_layout.py").write_text(
        "from torch import nn\n"
        "def build(inputs, outputs, *, layout, scale=1):\n"
        "    assert [group.feature for group in layout.groups][1] == 'town'\n"
        "    return nn.Linear(inputs, outputs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert built("asks_layout:build", MIXED, scale=2).in_features == 17


@pytest.mark.parametrize(
    ("builder", "task", "options", "words"),
    [
        (f"{HIST}Classifier", "binary", {"max_itr": 3}, "has no 'max_itr'. Did you mean 'max_iter'"),
        (f"{HIST}Classifier", "binary", {"max_iter": -3}, "'max_iter' parameter"),
        (f"{HIST}Classifier", "binary", {"random_state": 3}, "random_state .* cannot be set: train.seed"),
        (f"{HIST}Regressor", "binary", {}, f"is a regressor, and a binary task needs a classifier. Use {HIST}Classif"),
        ("sklearn.linear_model:Ridge", "multiclass", {}, f"Use {HIST}Classifier"),
        ("sklearn.ensemble:RandomForestClassifier", "regression", {}, "Use sklearn.ensemble:RandomForestRegressor"),
        ("sklearn.preprocessing:StandardScaler", "binary", {}, "cannot be kept without pickle"),
        ("sklearn.svm:SVC", "binary", {}, "cannot be kept without pickle in a way that is safe"),
        ("sklearn.ensemble:HistGradientBoostingClasifier", "binary", {}, "Did you mean 'HistGradientBoostingClassif"),
        ("sklearn.nothing:X", "binary", {}, "module 'sklearn.nothing' cannot be imported"),
        ("sklearn.linear_model:SGDClassifier", "binary", {}, "gives no probabilities with these options.*log_loss"),
        ("sklearn.linear_model:lasso_path", "regression", {}, "no class with fit"),
        ("sklearn.ensemble:VotingClassifier", "binary", {}, "missing 1 required positional argument: 'estimators'"),
        ("xgboost", "binary", {"max_dept": 3}, "xgboost has no 'max_dept'. Did you mean 'max_depth'"),
        ("xgboost", "binary", {"n_estimators": 3}, "its name here is num_boost_round"),
        ("xgboost", "binary", {"num_boost_round": 0}, "whole number of at least 1, not 0"),
        ("xgboost", "regression", {"objective": "count:poisson"}, "does not fit a regression task"),
        ("xgboost", None, {"objective": "count:poisson"}, "does not fit any task"),
        (f"{HIST}Classifier", None, {"max_itr": 3}, "Did you mean 'max_iter'"),
    ],
)
def test_options_are_refused_before_anything_starts(
    builder: str, task: Task | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse_options(ModelConfig(builder=builder, options=options), task)


@pytest.mark.parametrize(
    ("builder", "train", "words"),
    [
        (f"{HIST}Classifier", {"num_workers": 2}, "trains in one process; set train.num_workers to 1"),
        (f"{HIST}Classifier", {"loop": "mine:loop"}, "train.loop is for a PyTorch module"),
        ("xgboost", {"feed": "ray_data"}, "takes the training part whole"),
    ],
)
def test_settings_that_are_for_pytorch_are_refused(builder: str, train: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse_unfit(spec_of(model=ModelConfig(builder=builder), **train))


BOTH = [ModelConfig(builder="xgboost"), ModelConfig(builder=f"{HIST}Classifier")]


@pytest.mark.parametrize("model", BOTH, ids=lambda model: model.builder)
def test_data_that_cannot_be_learnt_from_is_told(model: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="row 17 of the training part holds a number that is not finite"):
        fit_here(spec_of(model=model), broken_data(), tmp_path)
    data = made_data()
    with pytest.raises(DataError, match="validation part has no rows"):
        fit_here(spec_of(model=model), TrainData(data.train, (data.valid[0][:0], data.valid[1][:0])), tmp_path)
    with pytest.raises(DataError, match="training part has no rows"):
        fit_here(spec_of(model=model), TrainData((data.train[0][:0], data.train[1][:0]), data.valid), tmp_path)


@pytest.mark.parametrize("model", BOTH, ids=lambda model: model.builder)
def test_class_weights_move_the_answers(model: ModelConfig, tmp_path: Path) -> None:
    results = [
        fit_here(spec_of(model=model, class_weights=weights), made_data(), tmp_path / str(at)).metrics["valid_loss"]
        for at, weights in enumerate((None, {"yes": 20.0}, {"yes": 1.0}))
    ]
    assert results[0] == pytest.approx(results[2], rel=0.02)
    assert results[1] > results[0]
    with pytest.raises(ConfigError, match=r"has no class 'yess'\. Did you mean 'yes'"):
        fit_here(spec_of(model=model, class_weights={"yess": 2.0}), made_data(), tmp_path / "wrong")
    regressor = ModelConfig(builder=model.builder.replace("Classifier", "Regressor"))
    spec = spec_of("regression", model=regressor, class_weights="balanced")
    with pytest.raises(ConfigError, match="is for classifications"):
        fit_here(spec, made_data("regression"), tmp_path / "number")


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from rayline.training.families.measuring import class_weights

    truth = np.array([0, 0, 0, 1, 2, 2])
    found = class_weights(spec_of("multiclass", class_weights="balanced"), truth)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=truth)
    assert found == pytest.approx(dict(enumerate(expected)))


def test_an_estimator_without_weights_says_so(tmp_path: Path) -> None:
    model = ModelConfig(builder="sklearn.discriminant_analysis:LinearDiscriminantAnalysis")
    with pytest.raises(ConfigError, match="knows no weights"):
        fit_here(spec_of(model=model, class_weights="balanced"), made_data(), tmp_path)


def test_xgboost_tells_a_value_that_it_refuses_in_its_words(tmp_path: Path) -> None:
    spec = spec_of(model=ModelConfig(builder="xgboost", options={"max_depth": "deep"}))
    with pytest.raises(ConfigError, match=r"xgboost cannot train with model\.options: .*max_depth"):
        fit_here(spec, made_data(), tmp_path)


@pytest.mark.parametrize(
    ("options", "epochs", "expected"), [({}, 110, 110), ({}, 7, 7), ({"num_boost_round": 5}, 20, 5)]
)
def test_rounds_are_shared_out_over_the_epochs(
    options: dict[str, Any], epochs: int, expected: int, tmp_path: Path
) -> None:
    import xgboost

    spec = spec_of(model=ModelConfig(builder="xgboost", options={"max_depth": 1, **options}), epochs=epochs, patience=0)
    result = fit_here(spec, made_data(rows=60), tmp_path)
    assert len(result.history) == expected
    last = xgboost.Booster(model_file=tmp_path / "checkpoints" / f"epoch-{expected:05d}" / "model.json")
    assert last.num_boosted_rounds() == options.get("num_boost_round", max(100, epochs))
