"""Vectors, images and texts on their way in: how they are inferred, read, observed and described."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rayline.config import FeaturesConfig, ImageConfig, VectorConfig
from rayline.errors import DataError, RowError
from rayline.features.feature_set import FeatureSet
from rayline.features.reading.tensor_values import arrays, shape_of
from rayline.features.reference import reference_of
from rayline.features.schemas.inference import infer, schema_for
from rayline.features.schemas.schema import Schema

N = 60
CHANCE = np.random.default_rng(23)
VECTORS = CHANCE.normal(size=(N, 4))
IMAGES = CHANCE.integers(0, 256, (N, 3, 2, 3)).astype(np.uint8)
Y = CHANCE.normal(size=N)


def table_of(**columns: Any) -> pa.Table:
    return pa.table({**columns, "y": Y})


def ray_tensors(numbers: np.ndarray) -> pa.Array:
    from ray.data.extensions import ArrowTensorArray

    with warnings.catch_warnings():  # Ray sets deprecated options of its own when it makes its first context
        warnings.simplefilter("ignore", DeprecationWarning)
        return ArrowTensorArray.from_numpy(numbers)


def test_arrays_of_one_shape_are_inferred_with_it() -> None:
    found = infer(
        table_of(
            embedding=VECTORS.tolist(),
            picture=IMAGES.tolist(),
            tensor=pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES[..., 0].copy()),
            ragged=[[1.0] * (1 + place % 2) for place in range(N)],
            words=[["a"]] * N,
            gone=[[1.0, float("nan")]] * N,
        ),
        "y",
    )
    kinds = {column.name: (column.kind, column.shape) for column in found.schema.columns}
    assert kinds == {"embedding": ("vector", (4,)), "picture": ("image", (3, 2, 3)), "tensor": ("image", (3, 2))}
    assert {each.column for each in found.dropped} == {"ragged", "words", "gone"}
    assert Schema.from_json(found.schema.to_json()) == found.schema


@pytest.mark.parametrize("numbers", [VECTORS, VECTORS.astype(np.float32), IMAGES, IMAGES[..., 0].copy()])
def test_tensors_of_ray_data_are_read_without_ray(numbers: np.ndarray) -> None:
    array = ray_tensors(numbers)
    assert shape_of(array) == numbers.shape[1:]
    for each in (array, array.storage, pa.chunked_array([array[:5], array[5:]])):
        found = arrays(each, numbers.shape[1:])
        assert not found.missing.any()
        assert not found.wrong.any()
        assert found.data.tolist() == numbers.reshape(N, -1).tolist()
    assert arrays(array.slice(7, 3), numbers.shape[1:]).data.tolist() == numbers[7:10].reshape(3, -1).tolist()


def test_tensors_of_many_shapes_are_told_apart() -> None:
    from ray.data.extensions import ArrowVariableShapedTensorArray

    shapes = [(2, 3), (3, 2), (2, 3), (2, 3), (6,)]
    tensors = np.empty(4, dtype=object)
    tensors[:] = [np.arange(6.0).reshape(shape) for shape in shapes[:4]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        array = ArrowVariableShapedTensorArray.from_numpy(tensors)
    assert shape_of(array) is None
    found = arrays(array, (2, 3))
    assert found.wrong.tolist() == [False, True, False, False]
    assert arrays(array[2:], (2, 3)).data.tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert not arrays(array[2:], (2, 3)).wrong.any()
    declared = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 2)))
    assert arrays(declared, (2, 3)).wrong.all(), "turned by a right angle it is another image"


def test_a_column_of_another_length_than_the_schema_is_refused_by_name() -> None:
    features = FeaturesConfig(target="y", columns={"e": VectorConfig()})
    table = table_of(e=VECTORS.tolist())
    fitted = FeatureSet.from_config(features, schema_for(features, table)).fit(table)
    with pytest.raises(RowError, match=r"row 0, column 'e'.*is not an array of 4 finite numbers"):
        fitted.transform(pa.table({"e": VECTORS[:, :3].tolist()}))


def test_vectors_are_standardised_element_by_element() -> None:
    features = FeaturesConfig(target="y", columns={"e": "vector"})
    gaps = [None if place == 5 else each for place, each in enumerate(VECTORS.tolist())]
    table = table_of(e=gaps)
    schema = schema_for(features, table)
    assert schema.column("e").nullable
    fitted, found = FeatureSet.from_config(features, schema).fit_transform(table)
    assert fitted.output_names == ("e[0]", "e[1]", "e[2]", "e[3]")
    present = np.delete(VECTORS, 5, axis=0)
    expected = (present - present.mean(axis=0)) / present.std(axis=0)
    np.testing.assert_allclose(np.delete(found, 5, axis=0), expected, rtol=1e-6, atol=1e-7)
    assert not found[5].any()


def test_images_are_scaled_by_channel_or_to_one() -> None:
    table = table_of(i=IMAGES.tolist(), j=ray_tensors(IMAGES))
    features = FeaturesConfig(target="y", columns={"i": "image", "j": ImageConfig(scale="standard")})
    fitted, found = FeatureSet.from_config(features, schema_for(features, table)).fit_transform(table)
    assert fitted.output_names[:4] == ("i[0,0,0]", "i[0,0,1]", "i[0,0,2]", "i[0,1,0]")
    np.testing.assert_allclose(found[:, :18], IMAGES.reshape(N, -1) / 255, rtol=1e-6)
    scaled = (IMAGES - IMAGES.mean(axis=(0, 1, 2))) / IMAGES.std(axis=(0, 1, 2))
    np.testing.assert_allclose(found[:, 18:], scaled.reshape(N, -1), rtol=1e-5, atol=1e-6)


def test_what_is_no_image_is_refused_with_the_way_out() -> None:
    features = FeaturesConfig(target="y", columns={"e": "image"})
    table = table_of(e=VECTORS.tolist())
    with pytest.raises(DataError, match=r"image column 'e' has arrays of 4.*Declare the column as a vector"):
        FeatureSet.from_config(features, schema_for(features, table)).fit(table)
    features = FeaturesConfig(target="y", columns={"e": "vector"})
    table = table_of(e=pa.nulls(N, pa.list_(pa.float64())))
    with pytest.raises(DataError, match=r"no length for vector column 'e'"):
        FeatureSet.from_config(features, schema_for(features, table)).fit(table)


def test_the_reference_describes_texts_by_words_and_arrays_by_norm() -> None:
    texts = ["one two three", "", None, "four"] * (N // 4)
    table = table_of(t=texts, e=VECTORS.tolist(), i=IMAGES.tolist())
    features = FeaturesConfig(target="y", columns={"t": "text", "e": "vector", "i": "image"})
    schema = schema_for(features, table)
    state = FeatureSet.from_config(features, schema).observe(table)
    found = reference_of(schema, state)["columns"]
    assert found["t"] == {"kind": "text", "missing": 0.5, "mean": 2.0, "std": 1.0, "min": 1.0, "max": 3.0}
    assert found["e"]["mean"] == pytest.approx(np.linalg.norm(VECTORS, axis=1).mean())
    assert found["i"]["max"] == pytest.approx(np.linalg.norm(IMAGES.reshape(N, -1).astype(float), axis=1).max())
