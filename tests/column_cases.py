"""Every kind of column with every setting, and what each must answer: the cases of the conformance suite.

A new kind adds its cases to ``CASES``; all tests of ``contracts/test_column_kinds.py`` then run over them. ``EXAMPLES``
counts the property-based examples that really ran.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from rayline.config import (
    BooleanConfig,
    CategoricalConfig,
    ColumnConfig,
    ColumnKind,
    DatetimeConfig,
    FeaturesConfig,
    ImageConfig,
    NumericConfig,
    Task,
    TextConfig,
    VectorConfig,
)
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.features.transform import FittedFeatureSet

EXAMPLES: Counter[str] = Counter()

REFUSED = "refused"
Expected = list[float] | str | Callable[[np.ndarray], bool]
Row = Mapping[str, Any]

CLASSES: dict[Task, tuple[str, ...]] = {"binary": ("a", "b"), "multiclass": ("a", "b", "c"), "regression": ()}


@dataclass(frozen=True)
class Case:
    """One kind with one setting.

    Attributes:
        setting: of a feature ``f`` of the one raw column ``c``, or of ``inputs``.
        edges: values of ``c`` and the outputs that they must give after a fit on ``KNOWN``.
        exact: the paths agree to the last bit; else to 1e-6.
        inputs: the raw columns, where it is not ``c`` alone.
        shape: of an array column.
    """

    name: str
    setting: ColumnConfig
    kind: ColumnKind
    edges: tuple[tuple[Any, Expected], ...] = ()
    task: Task = "binary"
    exact: bool = True
    inputs: tuple[str, ...] = ("c",)
    shape: tuple[int, ...] | None = None
    known: Sequence[Any] = field(default=())

    @property
    def schema(self) -> Schema:
        """The raw columns, and an ``id`` that tells rows apart which are otherwise equal."""
        columns = (ColumnSchema(name, self.kind, shape=self.shape) for name in self.inputs)
        return Schema((*columns, ColumnSchema("id", "numeric")), "y", self.task, CLASSES[self.task])

    @property
    def feature_set(self) -> FeatureSet:
        """The one feature."""
        return FeatureSet.from_config(FeaturesConfig(target="y", columns={"f": self.setting}), self.schema)

    def fitted(self, rows: Sequence[Row] = ()) -> FittedFeatureSet:
        """Return the feature fitted on rows, and on the known ones, so that there is always something to fit."""
        return self.feature_set.fit(self.table([*rows, *self.known_rows(len(rows))]))

    def known_rows(self, first: int = 0) -> list[Row]:
        """Return the rows of ``KNOWN``, numbered from ``first``."""
        values = list(self.known or KNOWN[self.kind])
        return [
            {**dict.fromkeys(self.inputs, value), "id": first + place, "y": self.answers[place % len(self.answers)]}
            for place, value in enumerate(values)
        ]

    @property
    def answers(self) -> Sequence[Any]:
        """Targets to take turns."""
        return CLASSES[self.task] or tuple(float(each) for each in range(7))

    def rows(self) -> st.SearchStrategy[list[dict[str, Any]]]:
        """Draw some rows."""
        answers = st.sampled_from(CLASSES[self.task]) if CLASSES[self.task] else st.floats(-1e12, 1e12)
        columns = {name: st.none() | VALUES[self.kind] for name in self.inputs}
        rows = st.lists(st.fixed_dictionaries({**columns, "y": answers}), min_size=2, max_size=20)
        return rows.map(lambda found: [{**row, "id": place} for place, row in enumerate(found)])

    def table(self, rows: Sequence[Row]) -> pa.Table:
        """Return rows as a table."""
        types = dict.fromkeys(self.inputs, TYPES[self.kind])
        types |= {"id": pa.float64(), "y": pa.string() if CLASSES[self.task] else pa.float64()}
        return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


KNOWN: dict[ColumnKind, list[Any]] = {
    "numeric": [0.0, 1.0, 2.0, 3.0, 4.0, None],
    "categorical": ["red", "red", "red", "green", "green", "1", None],
    "boolean": [True, True, True, False, None],
    "datetime": [datetime(2011, 1, 1), datetime(2011, 1, 3), datetime(2012, 7, 9, 10, 30, 5), None],
    "text": ["the red car", "a blue car", "The car, the car!", "", None],
    "vector": [[0.0, 1.0, 5.0], [2.0, 1.0, 7.0], [4.0, 1.0, 9.0], None],
    "image": [[[[0, 10], [255, 20]]], [[[100, 10], [155, 20]]], None],
}

WORDS = st.sampled_from(["red", "car", "The", "naïve", "x", "a1", "日本", "ÄÖ", "  ", "\n", "-", "don't"])
ELEMENTS = st.floats(-1e99, 1e99) | st.integers(-300, 300).map(float)

VALUES: dict[ColumnKind, st.SearchStrategy[Any]] = {
    "numeric": st.floats(-1e99, 1e99) | st.integers(-(2**62), 2**62).map(float) | st.integers(-3, 5).map(float),
    "categorical": st.sampled_from(["red", "green", "1", "1.0", "01", "", "-3", "x=y", "<unknown>", "<missing>"])
    | st.text(max_size=3),
    "boolean": st.booleans(),
    "datetime": st.datetimes(),
    "text": st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=12),
    "vector": st.lists(ELEMENTS, min_size=3, max_size=3),
    "image": st.lists(st.integers(0, 255) | ELEMENTS, min_size=4, max_size=4).map(
        lambda found: [[found[:2], found[2:]]]
    ),
}

TYPES: dict[ColumnKind, pa.DataType] = {
    "numeric": pa.float64(),
    "categorical": pa.string(),
    "boolean": pa.bool_(),
    "datetime": pa.timestamp("us"),
    "text": pa.string(),
    "vector": pa.list_(pa.float64()),
    "image": pa.list_(pa.list_(pa.list_(pa.float64()))),
}

WRONG: dict[ColumnKind, list[object]] = {
    "numeric": ["12", "a", math.inf, -math.inf, 1e101, 10**400, [1.0], {"a": 1}],
    "categorical": [math.inf, ["a"], {"a": 1}],
    "boolean": [2, -1, 0.5, "yes", [True]],
    "datetime": ["2011-13-01", "soon", 5, True, ["2011-01-01"]],
    "text": [5, 1.5, True, ["a"], {"a": 1}],
    "vector": [
        [1.0, 2.0],
        [1.0, 2.0, 3.0, 4.0],
        [],
        [1.0, math.nan, 3.0],
        [1.0, math.inf, 3.0],
        [1.0, 1e101, 3.0],
        [1.0, None, 3.0],
        [1.0, "2", 3.0],
        [[1.0, 2.0, 3.0]],
        [[1.0], 2.0, 3.0],
        [1.0, 10**400, 3.0],
        "1,2,3",
        5,
        {"a": 1},
    ],
    "image": [[[0, 10], [255, 20]], [[[0, 10, 255, 20]]], [[[0, 10], [255]]], [[[0, 10], [255, math.nan]]], [], "x", 5],
}
"""Values that a request may send and that must be refused."""

WRONG_ARRAYS: dict[ColumnKind, list[pa.Array]] = {
    "numeric": [pa.array(["1", "a"]), pa.array([1.0, math.inf]), pa.array([1.0, 1e101]), pa.array([None, [1.0]])],
    "categorical": [pa.array([1.0, math.inf]), pa.array([None, ["a"]]), pa.array([None, b"a"])],
    "boolean": [pa.array([1, 2]), pa.array(["true", "yes"]), pa.array([0.0, 0.5])],
    "datetime": [pa.array(["2011-01-01", "soon"]), pa.array([None, 5]), pa.array([None, True])],
    "text": [pa.array([None, 5]), pa.array([None, b"a"]), pa.array([None, ["a"]])],
    "vector": [
        pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]]),
        pa.array([[1.0, 2.0, 3.0], []]),
        pa.array([[1.0, 2.0, 3.0], [1.0, None, 3.0]]),
        pa.array([[1.0, 2.0, 3.0], [1.0, math.nan, 3.0]]),
        pa.array([[1.0, 2.0, 3.0], [1.0, math.inf, 3.0]], pa.list_(pa.float32(), 3)),
        pa.array([[1.0, 2.0, 3.0], [1.0, 1e101, 3.0]]),
        pa.array([None, ["1", "2", "3"]]),
        pa.array([None, [[1.0, 2.0, 3.0]]]),
        pa.array([None, [None, None, None]]),
        pa.array([None, [1.0, 2.0]], pa.list_(pa.float64(), 2)),
        pa.array([None, 5.0]),
    ],
    "image": [
        pa.array([None, [[0.0, 10.0], [255.0, 20.0]]]),
        pa.array([[[[0.0, 10.0], [255.0, 20.0]]], [[[0.0, 10.0], [255.0]]]]),
        pa.array([[[[0.0, 10.0], [255.0, 20.0]]], [[[0.0, 10.0], None]]]),
        pa.array([[0.0, 10.0, 255.0, 20.0], [0.0, 10.0, 255.0]]),
    ],
}
"""Columns whose row 1 is wrong."""


def _images(flat: list[list[float]], kind: pa.DataType) -> list[pa.Array]:
    typed = np.array(flat).astype(kind.to_pandas_dtype())
    return [
        pa.array(typed.reshape(-1, 1, 2, 2).tolist(), pa.list_(pa.list_(pa.list_(kind)))),
        pa.array(typed.reshape(-1, 1, 2, 2).tolist(), pa.list_(pa.list_(pa.list_(kind, 2), 2), 1)),
        pa.FixedShapeTensorArray.from_numpy_ndarray(typed.reshape(-1, 1, 2, 2)),
        pa.array(typed.tolist(), pa.large_list(kind)),
    ]


SAME: dict[ColumnKind, list[pa.Array]] = {
    "numeric": [
        pa.array([1, 0]),
        pa.array([1, 0], pa.uint8()),
        pa.array([1.0, 0.0], pa.float16()),
        pa.array([1.0, 0.0], pa.float32()),
        pa.array(["1", "0"]).cast(pa.decimal128(5, 2)),
        pa.array(["1", "0.0"]),
        pa.array(["1", "0.0"], pa.large_string()),
        pa.array([True, False]),
    ],
    "categorical": [
        pa.array(["1", "2"]),
        pa.array(["1", "2"], pa.large_string()),
        pa.array(["1", "2"], pa.string_view()),
        pa.array([1, 2]),
        pa.array([1, 2], pa.uint8()),
        pa.array([1.0, 2.0], pa.float32()),
        pa.array(["1.0", "02"]),
    ],
    "boolean": [pa.array([True, False]), pa.array([1, 0]), pa.array([1.0, 0.0]), pa.array(["true", "False"])],
    "datetime": [
        pa.array(["2011-01-02", "2012-03-04"]),
        pa.array(["2011-01-02T00:00:00Z", "2012-03-04T01:00:00+01:00"]),
        pa.array(["2011-01-02", "2012-03-04"]).cast(pa.date32()),
        pa.array(["2011-01-02", "2012-03-04"]).cast(pa.timestamp("ms")).cast(pa.date64()),
        pa.array(["2011-01-02", "2012-03-04"]).cast(pa.timestamp("s")),
        pa.array(["2011-01-02", "2012-03-04"]).cast(pa.timestamp("ns")),
        pa.array(["2011-01-02", "2012-03-04"]).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
    ],
    "text": [
        pa.array(["a red car", "The 日本"]),
        pa.array(["a red car", "The 日本"], pa.large_string()),
        pa.array(["a red car", "The 日本"], pa.string_view()),
    ],
    "vector": [
        pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 60.0]]),
        pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 60.0]], pa.large_list(pa.float32())),
        pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 60.0]], pa.list_(pa.float64(), 3)),
        pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 60.0]], pa.list_(pa.float16(), 3)),
        pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 60.0]], pa.list_view(pa.float64())),
        pa.array([[1, 2, 3], [4, 5, 60]], pa.list_(pa.uint8())),
        pa.array([[1, 2, 3], [4, 5, 60]]),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 60.0]], np.float32)),
        pa.array([{"data": [1.0, 2.0, 3.0], "shape": [3]}, {"data": [4.0, 5.0, 60.0], "shape": [3]}]),
    ],
    "image": [
        array
        for kind in (pa.float64(), pa.uint8(), pa.float32())
        for array in _images([[0, 10, 255, 20], [3, 4, 5, 6]], kind)
    ],
}
"""Two rows, as every type that may hold them."""


def _numeric(name: str, *edges: tuple[Any, Expected], exact: bool = True, **settings: Any) -> Case:
    return Case(f"numeric {name}", NumericConfig(source="c", **settings), "numeric", edges, exact=exact)


def _levels(name: str, *edges: tuple[Any, Expected], task: Task = "binary", **settings: Any) -> Case:
    setting = CategoricalConfig(source="c", **settings)
    return Case(f"categorical {name}", setting, "categorical", edges, task)


def _text(name: str, **settings: Any) -> Case:
    nothing: Expected = [0.0] * 8
    edges = (None, nothing), ("", nothing), ("!", _unit if name == "single chars" else nothing)
    setting = TextConfig(source="c", buckets=8, **settings)
    return Case(f"text {name}", setting, "text", (*edges, ("new words", _unit), ("wow " * 5_000, _unit)))


def _unit(outputs: np.ndarray) -> bool:
    return bool(math.isclose(float(np.linalg.norm(outputs)), 1, rel_tol=1e-6) and (outputs >= 0).all())


DEVIATION = math.sqrt(2)
EXTREME = (1e99, [1e6]), (-1e99, [-1e6])
DEV = math.sqrt(8 / 3)
RED, GAP, PRIOR = (1 + 10 * 3 / 7) / 13, (10 * 3 / 7) / 11, 3 / 7
ALL_PARTS = ("year", "month", "day", "weekday", "hour", "minute", "elapsed")
NEW_YEAR = [0.0, 1.0]  # sine and cosine of the first month, day, hour or minute

CASES: tuple[Case, ...] = (
    _numeric("mean", (None, [0]), (math.nan, [0]), (4, [2 / DEVIATION]), (math.inf, REFUSED), *EXTREME),
    _numeric("median", (None, lambda out: abs(out[0]) < 0.01), *EXTREME, impute="median"),
    _numeric("zero", (None, [-2 / DEVIATION]), *EXTREME, impute="zero"),
    _numeric("constant", (None, [5 / DEVIATION]), impute=7.0),
    _numeric("flag", (None, [0, 1]), (2, [0, 0]), (1e99, [1e6, 0]), flag=True),
    _numeric("clip", (None, [0]), (1e99, [math.sqrt(1.25)]), (-5, [-math.sqrt(1.25)]), clip=(1, 3)),
    _numeric("log", (0, [-1.679]), (1e99, lambda out: 300 < out[0] < 500), log=True, exact=False),
    _numeric("log and clip", (1e99, lambda out: 0 < out[0] < 3), log=True, clip=(-1, 5), exact=False),
    _numeric("minmax", (None, [0.5]), (0, [0]), (4, [1]), (1e99, [1e6]), scale="minmax"),
    _numeric("robust", (2, lambda out: abs(out[0]) < 0.01), *EXTREME, scale="robust"),
    _numeric("quantile", (-1, [0]), (0, [0]), (4, [1]), (1e99, [1]), (None, [0.5]), scale="quantile"),
    _numeric("quantile and log", (-1, [0]), (1e99, [1]), scale="quantile", log=True),
    _numeric("unscaled", (None, [2]), (7, [7]), (1e99, [3e38]), (-1e99, [-3e38]), scale="none"),
    _numeric("bins", (-9, [1, 0, 0, 0]), (1e99, [0, 0, 0, 1]), bins=4),
    _numeric("bins and flag", (1e99, [0, 0, 1, 0]), (None, [0, 1, 0, 1]), bins=3, flag=True),
    _numeric("bins of logs", (-9, [1, 0, 0, 0]), (1e99, [0, 0, 0, 1]), bins=4, log=True),
    _levels(
        "one_hot", ("1", [1, 0, 0, 0, 0]), ("new", [0, 0, 0, 1, 0]), (None, [0, 0, 0, 0, 1]), ("", [0, 0, 0, 0, 1])
    ),
    _levels("rare", ("red", [0, 1, 0, 0]), ("1", [0, 0, 1, 0]), (None, [0, 0, 0, 1]), max_levels=2, min_count=2),
    _levels("ordinal", ("1", [0]), (1.0, [0]), ("green", [1]), ("new", [-1]), (None, [-2]), encode="ordinal"),
    _levels("index", (None, [0]), ("new", [1]), ("red", [2]), ("green", [3]), (1, [4]), encode="index"),
    _levels("index of two", ("1", [1]), ("green", [3]), encode="index", max_levels=2),
    _levels("frequency", ("red", [3 / 7]), ("new", [0]), (None, [1 / 7]), (math.nan, [1 / 7]), encode="frequency"),
    _levels("hashing", (None, [0] * 5), ("new", lambda out: out.sum() == 1), encode="hashing", buckets=5),
    _levels("target", ("red", [RED]), ("new", [PRIOR]), (None, [GAP]), (math.inf, REFUSED), encode="target"),
    _levels("target, unsmoothed", ("red", [1 / 3]), (None, [0]), ("x", [PRIOR]), encode="target", smoothing=0.0),
    _levels(
        "target of classes", ("new", [3 / 7, 2 / 7, 2 / 7]), task="multiclass", encode="target", folds=2, max_levels=2
    ),
    _levels(
        "target of numbers", ("red", [-3 / 13]), ("new", [0]), (None, [1.5 / 11]), task="regression", encode="target"
    ),
    Case("boolean", BooleanConfig(source="c"), "boolean", ((None, [0.75]), (True, [1]), (0, [0]), (0.5, REFUSED))),
    Case("datetime", DatetimeConfig(source="c"), "datetime", ((None, [0] * 9), ("soon", REFUSED))),
    Case(
        "datetime parts",
        DatetimeConfig(source="c", parts=ALL_PARTS),
        "datetime",
        (
            (None, [0] * 12),
            ("9999-12-31T23:59:59", lambda out: out[0] > 100),
            ("0001-01-01", lambda out: out[0] < -100),
        ),
    ),
    Case(
        "datetime age",
        DatetimeConfig(source="c", parts=("month",), reference="2011-01-02"),
        "datetime",
        ((None, [0, 0, 0]), ("2011-01-02", lambda out: list(out[:2]) == NEW_YEAR and -1 < out[2] < 0)),
    ),
    _text("words"),
    _text("word pairs", ngrams=(1, 2), lowercase=False),
    _text("chars", analyzer="char", ngrams=(2, 3)),
    _text("single chars", analyzer="char"),
    _text("counts", idf=False),
    Case(
        "vector",
        VectorConfig(source="c"),
        "vector",
        (
            (None, [0, 0, 0]),
            (math.nan, [0, 0, 0]),
            ([2, 2, 9], [0, 1, 2 / DEV]),
            ([1e99, 1, -1e99], [1e6, 0, -1e6]),
            ([1.0, math.nan, 1.0], REFUSED),
            ([1.0], REFUSED),
        ),
        shape=(3,),
    ),
    Case(
        "vector unscaled",
        VectorConfig(source="c", scale="none"),
        "vector",
        ((None, [0, 0, 0]), ([1.5, -2, 1e99], [1.5, -2, 3e38]), (np.array([1, 2, 3], np.uint8), [1, 2, 3])),
        shape=(3,),
    ),
    Case(
        "image",
        ImageConfig(source="c"),
        "image",
        ((None, [0] * 4), ([[[0, 51], [255, 1e99]]], [0, 0.2, 1, 3e38]), ([0, 51, 255, 0], [0, 0.2, 1, 0])),
        shape=(1, 2, 2),
    ),
    Case(
        "image by channel",
        ImageConfig(source="c", scale="standard"),
        "image",
        ((None, [0] * 4), ([[[127.5, 15], [1e99, 20]]], [0, 0, 1e6, 1])),
        shape=(1, 2, 2),
    ),
    Case(
        "image in grey, unscaled",
        ImageConfig(source="c", scale="none"),
        "image",
        ((None, [0] * 4), ([1, 2, 3, 4], [1, 2, 3, 4])),
        shape=(1, 2, 2),
    ),
)
"""The cases of ``function`` and ``sklearn`` go here: with ``inputs``, and ``kind`` for what these are read as."""
