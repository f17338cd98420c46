"""What levels and texts become, and that no training row is told its own target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import CategoricalConfig, FeaturesConfig, Task, TextConfig
from rayline.errors import DataError, SchemaError
from rayline.features.feature_set import FeatureSet
from rayline.features.kinds.hashed import bucket_of
from rayline.features.kinds.text import Grams
from rayline.features.reading.batch import Batch
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.features.transform import FittedFeatureSet

CLASSES: dict[Task, tuple[str, ...]] = {"binary": ("a", "b"), "multiclass": ("a", "b", "c"), "regression": ()}
ANSWERS: dict[Task, st.SearchStrategy[Any]] = {
    "binary": st.sampled_from("ab"),
    "multiclass": st.sampled_from("abc"),
    "regression": st.floats(-1e6, 1e6),
}
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


def chosen(task: Task, setting: Any = None, kind: Any = "categorical", numbers: int = 1) -> FeatureSet:
    names = [f"x{number}" for number in range(numbers)]
    schema = Schema(
        (ColumnSchema("c", kind), *(ColumnSchema(name, "numeric") for name in names)), "y", task, CLASSES[task]
    )
    setting = setting or CategoricalConfig(encode="target", max_levels=100_000)
    return FeatureSet.from_config(FeaturesConfig(target="y", columns={"c": setting}), schema)


def folds_of(features: FeatureSet, table: pa.Table, number: int = 5) -> np.ndarray:
    return Batch(table, features.schema).folds % np.uint64(number)


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_targets_of_a_fold_change_nothing_in_its_own_encoding(task: Task, data: st.DataObject) -> None:
    rows = data.draw(st.integers(2, 40))
    levels = data.draw(st.lists(st.sampled_from(["u", "v", "w", None]), min_size=rows, max_size=rows))
    before, after = (data.draw(st.lists(ANSWERS[task], min_size=rows, max_size=rows)) for _ in range(2))
    before[:2] = after[:2] = [0.0, 1.0] if task == "regression" else ["a", "b"]  # so that the target varies
    features = chosen(task)
    inputs = {"c": pa.array(levels, pa.string()), "x0": np.arange(rows, dtype=np.float64)}
    table = pa.table({**inputs, "y": before})
    folds = folds_of(features, table)
    one = folds[data.draw(st.integers(0, rows - 1))]
    changed = [new if fold == one else old for old, new, fold in zip(before, after, folds, strict=True)]
    changed[:2] = before[:2]
    _, first = features.fit_transform(table)
    _, second = features.fit_transform(pa.table({**inputs, "y": changed}))
    assert np.array_equal(first[folds == one], second[folds == one])


@pytest.mark.parametrize("task", TASKS)
def test_chance_is_encoded_as_chance(task: Task) -> None:
    rows, chance = 20_000, np.random.default_rng(11)
    levels = chance.integers(0, 7_000, rows).astype(str)
    answers = chance.normal(5, 3, rows) if task == "regression" else chance.choice(list(CLASSES[task]), rows)
    table = pa.table({"c": levels, "x0": chance.normal(size=rows), "y": answers})
    setting = CategoricalConfig(encode="target", max_levels=100_000, smoothing=1.0)
    fitted, training = chosen(task, setting).fit_transform(table)
    served = fitted.transform(table)
    truth = answers if task == "regression" else answers == "b"
    place = 1 if task == "multiclass" else 0
    assert np.corrcoef(served[:, place], truth)[0, 1] > 0.4, "without cross-fitting it is told"
    assert abs(np.corrcoef(training[:, place], truth)[0, 1]) < 4 / np.sqrt(rows)


def test_equal_rows_do_not_tell_each_other_their_class() -> None:
    rows, chance = 20_000, np.random.default_rng(12)
    levels, numbers = chance.integers(0, 10, rows).astype(str), chance.integers(0, 12, rows).astype(np.float64)
    answers = chance.choice(["a", "b"], rows)
    _, training = chosen("binary").fit_transform(pa.table({"c": levels, "x0": numbers, "y": answers}))
    # The inputs tell nothing: the best that a model can learn by heart from 120 kinds of rows is noise.
    assert abs(np.corrcoef(training[:, 0], answers == "b")[0, 1]) < 4 / np.sqrt(rows) + 120 / rows


def test_a_level_that_tells_the_target_is_encoded_by_it() -> None:
    rows, chance = 5_000, np.random.default_rng(13)
    levels = chance.integers(0, 20, rows)
    answers = levels * 2.0 + chance.normal(size=rows)
    table = pa.table({"c": levels.astype(str), "x0": chance.normal(size=rows), "y": answers})
    fitted, training = chosen("regression").fit_transform(table)
    assert np.corrcoef(training[:, 0], answers)[0, 1] > 0.99
    assert np.abs(training - fitted.transform(table)).max() < 0.05
    assert training.std() == pytest.approx(1.0, abs=0.1)


def test_rows_that_nothing_tells_apart_cannot_be_cross_fitted() -> None:
    table = pa.table({"c": ["u", "v", "w"] * 40, "x0": [1.0] * 120, "y": ["a", "b"] * 60})
    with pytest.raises(DataError, match=r"features\.columns\.c.*120 of 120 training rows.*encode: one_hot"):
        chosen("binary").fit(table)


def test_rows_without_a_target_are_left_out_of_its_mean() -> None:
    table = pa.table({"c": ["u"] * 4, "x0": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 3.0, None, None]})
    features = chosen("regression")
    whole, sound = (features.observe(each).extras for each in (table, table.slice(0, 2)))
    assert whole == sound


def test_an_unknown_encoding_in_a_state_is_refused() -> None:
    fitted = chosen("binary", CategoricalConfig()).fit(pa.table({"c": ["u", "v"], "x0": [1.0, 2.0], "y": ["a", "b"]}))
    raw = fitted.to_json()
    raw["columns"][0]["encode"] = "one_hott"
    with pytest.raises(SchemaError, match="Did you mean 'one_hot'"):
        FittedFeatureSet.from_json(raw)


def test_digits_that_are_no_number_are_levels_of_their_own() -> None:
    strange = ["٣", "1" * 50, "9" * 5_000, "0" * 44 + "7"]
    for encode in ("one_hot", "ordinal"):
        fitted = chosen("binary", CategoricalConfig(encode=encode)).fit(  # type: ignore[arg-type]
            pa.table({"c": strange, "x0": [1.0] * 4, "y": ["a", "b", "a", "b"]})
        )
        for value in (3, 7, "٣", "1" * 50):
            table = pa.table({"c": pa.array([value]), "x0": [1.0]})
            assert np.array_equal(fitted.rows([{"c": value}]), fitted.transform(table))


def test_a_bucket_is_the_same_everywhere() -> None:
    assert [bucket_of(text, 64) for text in ("red", "green", "日本", "", "\ud800")] == [59, 63, 5, 0, 44]


@pytest.mark.parametrize("texts", [[f"user-{n}" for n in range(20_000)], [f"{n}" for n in range(20_000)]])
@pytest.mark.parametrize("buckets", [2, 64, 100])
def test_texts_are_spread_evenly(texts: list[str], buckets: int) -> None:
    counts = np.bincount([bucket_of(text, buckets) for text in texts], minlength=buckets)
    expected = len(texts) / buckets
    chi = float(((counts - expected) ** 2 / expected).sum())
    assert chi < buckets - 1 + 5 * np.sqrt(2 * (buckets - 1))


@pytest.mark.parametrize(("analyzer", "span"), [("word", (1, 1)), ("word", (1, 3)), ("char", (1, 1)), ("char", (2, 4))])
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40) | st.lists(st.sampled_from(["Red", "car", "a", " ", "\n", "ß"])).map(" ".join))
def test_n_grams_are_those_of_scikit_learn(analyzer: Any, span: tuple[int, int], text: str) -> None:
    from sklearn.feature_extraction.text import CountVectorizer

    theirs = CountVectorizer(analyzer=analyzer, ngram_range=span).build_analyzer()
    assert sorted(Grams(analyzer, *span, 8, True).of(text)) == sorted(theirs(text))


@pytest.mark.parametrize("idf", [True, False])
@pytest.mark.parametrize("analyzer", ["word", "char"])
def test_weights_are_those_of_scikit_learn(analyzer: Any, idf: bool) -> None:
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    chance = np.random.default_rng(17)
    vocabulary = ["the", "a", "red", "car", "Naïve", "日本", "road", "of", "gold", "fish", "sing"]
    texts = [" ".join(chance.choice(vocabulary, chance.integers(1, 20))) for _ in range(300)]
    setting = TextConfig(analyzer=analyzer, ngrams=(1, 2), buckets=32, idf=idf)
    table = pa.table({"c": texts, "x0": [0.0] * 300, "y": ["a", "b"] * 150})
    _, found = chosen("binary", setting, "text").fit_transform(table)
    grams = CountVectorizer(analyzer=analyzer, ngram_range=(1, 2)).build_analyzer()
    counts = np.zeros((300, 32))
    for row, text in enumerate(texts):
        for gram in grams(text):
            counts[row, bucket_of(gram, 32)] += 1
    expected = TfidfTransformer(use_idf=idf).fit_transform(counts).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
