"""A user's function becomes a plan that gives the same numbers without it, or is refused with a reason."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import FeaturesConfig, FunctionConfig
from rayline.errors import ConfigError, DataError, RowError, SchemaError
from rayline.features.feature_set import FeatureSet
from rayline.features.kinds.function import source_of, sources_of
from rayline.features.recorded import Plan, prove, record
from rayline.features.recorded.operations import OPERATIONS
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet

Function = Callable[..., Any]

NUMBERS = st.sampled_from([math.nan, 0.0, 1.0, -1.0, 0.5, 1e99, -1e99, 2.0, 1e-300]) | st.floats(-1e6, 1e6)
ONE = ["absolute", "negative", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "cbrt", "square", "sin", "cos"]
ONE += ["tan", "tanh", "arctan", "arcsin", "floor", "ceil", "trunc", "rint", "sign", "reciprocal", "deg2rad", "exp2"]
TWO = ["add", "subtract", "multiply", "divide", "power", "remainder", "floor_divide", "hypot", "fmod", "heaviside"]
COMPARED = ["greater", "greater_equal", "less", "less_equal", "equal", "not_equal"]


def of_one(name: str, inner: Function) -> Function:
    return lambda a, b: getattr(np, name)(inner(a, b))


def of_two(name: str, first: Function, second: Function) -> Function:
    return lambda a, b: getattr(np, name)(first(a, b), second(a, b))


def one_zero(name: str, first: Function, second: Function) -> Function:
    """NumPy does not say which zero is the larger; adding 0 makes them one."""
    return lambda a, b: getattr(np, name)(first(a, b), second(a, b)) + 0.0


def chosen(name: str, first: Function, second: Function, third: Function) -> Function:
    return lambda a, b: np.where(getattr(np, name)(first(a, b), second(a, b)), third(a, b), second(a, b))


def joined(first: Function, second: Function, third: Function) -> Function:
    return lambda a, b: np.where((first(a, b) > 0) & ~(second(a, b) > 1) | np.isnan(first(a, b)), third(a, b), 2)


def counted(first: Function, second: Function) -> Function:
    return lambda a, b: (first(a, b) > second(a, b)).astype(int) + (second(a, b) > 0) * 2 - np.where(a > 0, 1, 0)


def clipped(inner: Function, low: float, high: float) -> Function:
    return lambda a, b: np.clip(inner(a, b), min(low, high), max(low, high)) + 0.0


def masked(inner: Function, value: float) -> Function:
    def function(a: Any, b: Any) -> Any:
        result = inner(a, b) * 1.0
        result[b > 0] = value
        result += a
        return result

    return function


LEAVES = st.sampled_from([lambda a, b: a, lambda a, b: b]) | st.floats(-100, 100).map(lambda c: lambda a, b: a * 0 + c)
FUNCTIONS: st.SearchStrategy[Function] = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(of_one, st.sampled_from(ONE), inner)
        | st.builds(of_two, st.sampled_from(TWO), inner, inner)
        | st.builds(one_zero, st.sampled_from(["maximum", "minimum", "fmax", "fmin"]), inner, inner)
        | st.builds(chosen, st.sampled_from(COMPARED), inner, inner, inner)
        | st.builds(joined, inner, inner, inner)
        | st.builds(counted, inner, inner)
        | st.builds(clipped, inner, st.floats(-9, 9), st.floats(-9, 9))
        | st.builds(masked, inner, st.floats(-9, 9))
        | inner.map(lambda f: lambda a, b: f(a, b) ** 2 - f(b, a) ** 0.5 + np.nan_to_num(np.round(f(a, b), 2)))
        | inner.map(lambda f: lambda a, b: np.interp(f(a, b), [0, 1, 5], [1.0, -1.0, 9.0]) + np.digitize(a, [0, 1]))
        | inner.map(lambda f: lambda a, b: np.select([a > 1, f(a, b) > b], [b, f(a, b)], -1))
    ),
    max_leaves=12,
)


@given(function=FUNCTIONS, rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=20))
def test_a_recording_gives_what_the_function_gives_for_many_rows_and_for_one(
    function: Function, rows: list[tuple[float, float]]
) -> None:
    a, b = (np.array(column) for column in zip(*rows, strict=True))
    plan = Plan.from_json(json.loads(json.dumps(record(function, 2, "f").plan.to_json())))
    with np.errstate(all="ignore"):
        expected = np.asarray(function(a.copy(), b.copy()), dtype=np.float64)
    (many,) = plan.many([a, b])
    assert np.array_equal(many, expected, equal_nan=True)
    one = plan.one()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = [one(row)[0] for row in rows]
    assert np.array_equal(single, many, equal_nan=True)
    prove(function, plan, [a, b], ["a", "b"], "f")


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"interp", "bins"}))
@settings(max_examples=25)
@given(data=st.data())
def test_every_operation_gives_one_row_what_it_gives_many(name: str, data: st.DataObject) -> None:
    operation = OPERATIONS[name]
    rows = data.draw(st.lists(st.tuples(*[NUMBERS] * operation.arity), min_size=1, max_size=20))
    plan = Plan(operation.arity, (), ((name, tuple(range(operation.arity))),), (operation.arity,))
    (many,) = plan.many([np.array(column) for column in zip(*rows, strict=True)])
    one = plan.one()
    assert np.array_equal([one(row)[0] for row in rows], many, equal_nan=True)


REFUSED: dict[str, tuple[Function, str]] = {
    "mean": (lambda x: x - x.mean(), r"x\.mean"),
    "numpy mean": (lambda x: x - np.mean(x), r"numpy\.mean"),
    "if": (lambda x: x if x > 0 else -x, r"numpy\.where\(condition, this, that\)"),
    "max": (lambda x: max(x, 0), r"numpy\.maximum"),
    "sort": (lambda x: np.sort(x), r"numpy\.sort"),
    "reduce": (lambda x: np.add.reduce(x), r"numpy\.add\.reduce"),
    "accumulate": (lambda x: np.cumsum(x), r"numpy\.cumsum"),
    "loop": (lambda x: np.array([value for value in x]), "a loop over rows"),  # noqa: C416
    "part": (lambda x: x[1:] - x[:-1], r"x\[\.\.\.\]"),
    "place": (lambda x: x.__setitem__(0, 1.0), r"x\[mask\] = number"),
    "vectorize": (lambda x: np.vectorize(lambda v: v)(x), r"numpy\.array\(x\)"),
    "math": (lambda x: math.log(x), "module math"),
    "length": (lambda x: np.zeros(len(x)), r"numpy\.zeros_like"),
    "shape": (lambda x: x.reshape(-1), r"x\.reshape"),
    "whole": (lambda x: x.astype(int), r"numpy\.trunc"),
    "single": (lambda x: x.astype(np.float32), "float64 throughout"),
    "whole powers": (lambda x: (x > 0).astype(int) // (x > 1).astype(int), r"\.astype\(float\)"),
    "table": (lambda x: x + np.arange(7), "Constants are single numbers"),
    "product": (lambda x: x @ x, r"numpy\.matmul"),
    "argument": (lambda x: np.add(x, 1, where=[True] * 7), "Leave that argument out"),
    "number": (lambda x: 3, r"returns int.*numpy\.full_like"),
    "nothing": (lambda x: (), "returns no array"),
    "arguments": (lambda x, y: x, r"raises TypeError.*called with 1 arrays"),
    "its own": (lambda x: {}["a"], r"raises KeyError.*test_feature_functions\.py, line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_take_each_row_by_itself_is_refused_with_the_way_out(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message) as caught:
        record(function, 1, "features.columns.c: function 'm:f'")
    assert "features.columns.c: function 'm:f'" in str(caught.value)


def test_the_message_names_the_line_and_the_rule() -> None:
    with pytest.raises(ConfigError, match=r"test_feature_functions\.py, line \d+\).*each row by itself"):
        record(REFUSED["mean"][0], 1, "f")


def test_a_function_that_looks_at_the_type_of_its_inputs_is_found_out_with_the_row() -> None:
    def double_dealing(x: Any) -> Any:
        return x + 1 if isinstance(x, np.ndarray) else x

    plan = record(double_dealing, 1, "f").plan
    with pytest.raises(ConfigError, match=r"f gives .*3\.0.* for x=2, and its recording gives .*2\.0"):
        prove(double_dealing, plan, [np.array([2.0])], ["x"], "f")


def test_a_function_that_treats_rows_together_is_found_out() -> None:
    def crowd(x: Any) -> Any:
        return x + (len(x) > 1) if isinstance(x, np.ndarray) else x + 1

    with pytest.raises(ConfigError, match="for the row alone"):
        prove(crowd, record(crowd, 1, "f").plan, [np.array([2.0, 3.0])], ["x"], "f")


def test_a_plan_holds_nothing_that_its_outputs_do_not_need() -> None:
    def wasteful(x: Any, y: Any) -> Any:
        np.exp(y)
        return np.log1p(x) + np.log1p(x)

    assert record(wasteful, 2, "f").plan.steps == (("log1p", (0,)), ("add", (2, 2)))


@pytest.mark.parametrize(
    "damage",
    [
        {"steps": [["system", 0]]},
        {"steps": [["log", 5]]},
        {"steps": [["log", 0, 0]]},
        {"steps": [["add"]]},
        {"outputs": [9]},
        {"outputs": []},
    ],
)
def test_a_damaged_plan_is_refused(damage: dict[str, Any]) -> None:
    good = {"inputs": 1, "constants": [], "steps": [["log", 0]], "outputs": [1]}
    assert Plan.from_json(good).one()([1.0]) == [0.0]
    with pytest.raises(SchemaError, match="recorded"):
        Plan.from_json({**good, **damage})


TABLE = pa.table(
    {
        "price": [100.0, 200.0, None, 50.0],
        "area": [10.0, 0.0, 5.0, 25.0],
        "sold": [True, False, None, True],
        "day": ["1970-01-02", "1970-01-03", None, "1970-01-05"],
        "code": [1, 2, 1, 2],
        "colour": ["red", "blue", "red", "blue"],
        "y": [1.5, 2.0, 0.5, 4.0],
    }
)


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    made = types.ModuleType("users_features")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def fit(setting: FunctionConfig, table: pa.Table = TABLE) -> FittedFeatureSet:
    features = FeaturesConfig(target="y", columns={"f": setting})
    return FeatureSet.from_config(features, schema_for(features, table)).fit(table)


def test_a_result_without_a_value_is_the_training_mean(module: types.ModuleType) -> None:
    module.ratio = lambda price, area: price / area
    fitted = fit(FunctionConfig(function="users_features:ratio", inputs=("price", "area"), scale="none"))
    assert fitted.transform(TABLE)[:, 0].tolist() == [10.0, 6.0, 6.0, 2.0]
    standard = fit(FunctionConfig(function="users_features:ratio", inputs=("price", "area")))
    assert standard.transform(TABLE)[:, 0].tolist() == [1.0, 0.0, 0.0, -1.0]
    assert fitted.row({"price": 1e99, "area": 1e-99}).tolist() == [np.float32(3e38)]


def test_what_serves_needs_none_of_the_users_code(module: types.ModuleType) -> None:
    module.pair = lambda price, area: {"log": np.log1p(price), "large": area > 10}
    fitted = fit(FunctionConfig(function="users_features:pair", inputs=("price", "area"), scale="none"))
    assert fitted.output_names == ("f.log", "f.large")
    code = (
        "import json, sys; from rayline.features.transform import FittedFeatureSet; "
        "fitted = FittedFeatureSet.from_json(json.loads(sys.stdin.read())); "
        "print(fitted.row({'price': 0, 'area': 11}).tolist(), 'users_features' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(fitted.to_json()), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[0.0, 1.0] False"


def test_booleans_dates_and_codes_are_numbers() -> None:
    setting = FunctionConfig(function="sold + 10 * day + 100 * code", inputs=("sold", "day", "code"), scale="none")
    fitted = fit(setting)
    assert fitted.transform(TABLE)[[0, 1, 3], 0].tolist() == [111.0, 220.0, 241.0]
    assert fitted.row({"sold": 1, "day": "1970-01-02", "code": 1}).tolist() == [111.0]


def test_an_input_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"f\.inputs names 'colour'.*level 'blue'"):
        fit(FunctionConfig(function="colour * 2", inputs=("colour",)))
    many = pa.table({"code": ["1", "2"] * 20, "y": [1.5, 2.5] * 20})
    fitted = fit(FunctionConfig(function="code * 2", inputs=("code",)), many)
    with pytest.raises(RowError, match="row 0, column 'code': 'x' is no number"):
        fitted.row({"code": "x"})
    with pytest.raises(RowError, match="row 1, column 'code': 'x' is no number"):
        fitted.transform(pa.table({"code": ["1", "x"]}))


def test_the_content_address_follows_what_the_function_does(module: types.ModuleType) -> None:
    setting = FunctionConfig(function="users_features:f", inputs=("a",))
    module.f = lambda a: a * 2
    first = source_of("f", setting)
    module.f = lambda value: value * 2.0
    assert source_of("f", setting) == first
    module.f = lambda a: a * 3
    assert source_of("f", setting) != first
    features = FeaturesConfig(target="y", columns={"f": setting, "g": "numeric"})
    assert list(sources_of(features)) == ["f"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("users_features:missing", "has no 'missing'"),
        ("users_features:ratios", "Did you mean 'ratio'"),
        ("no_such_module:f", "cannot be imported"),
        ("users_features:number", "cannot be called"),
        ("users_features:broken", "raises ZeroDivisionError on the training rows|raises ZeroDivisionError"),
    ],
)
def test_a_function_that_cannot_be_found_or_called_is_told(path: str, message: str, module: types.ModuleType) -> None:
    module.ratio, module.number = (lambda price: price), 3
    module.broken = lambda price: 1 / 0
    with pytest.raises(ConfigError, match=message):
        fit(FunctionConfig(function=path, inputs=("price",)))


FORMULAS = {
    "log1p(price / area)": lambda p, a: np.log1p(p / a),
    "price if area > 10 else -price ** 2": lambda p, a: np.where(a > 10, p, -(p**2)),
    "maximum(price, 60) % 7 // 2 + pi": lambda p, a: np.maximum(p, 60) % 7 // 2 + np.pi,
    "1 < area <= 10 and not price > 150 or isnan(price)": lambda p, a: (a > 1) & (a <= 10) & ~(p > 150) | np.isnan(p),
    "clip(price, 60, 150) + where(area == 0, 1, 0)": lambda p, a: np.clip(p, 60, 150) + np.where(a == 0, 1, 0),
    "min(price, area) - abs(-area) + round(price)": lambda p, a: np.minimum(p, a) - np.abs(-a) + np.round(p),
}


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_means_what_numpy_means(text: str) -> None:
    fitted = fit(FunctionConfig(function=text, inputs=("price", "area"), scale="none"))
    price, area = (TABLE.column(name).to_numpy() for name in ("price", "area"))
    with np.errstate(all="ignore"):
        expected = np.asarray(FORMULAS[text](price, area), dtype=np.float64)
    valued = np.isfinite(expected)
    assert np.array_equal(fitted.transform(TABLE)[valued, 0], expected[valued].astype(np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price +", "neither my_package.my_module:name nor a formula"),
        ("prices + 1", "names 'prices'.*Did you mean 'price'"),
        ("__import__('os')", "names '__import__'"),
        ("price.mean()", r"calls 'price\.mean\(\)'"),
        ("[price]", "no formula may have"),
        ("(lambda x: x)(price)", "names 'x'|no formula may"),
        ("price[0]", "no formula may have"),
        ("'a'", "no number"),
        ("price @ price", "operator"),
        ("price in price", "comparison"),
        ("log", "without calling"),
        ("log(price, out=price)", "calls"),
        ("2 + 2", "returns float"),
    ],
)
def test_anything_else_is_no_formula(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(FunctionConfig(function=text, inputs=("price",)))


def test_no_rows_are_no_training_part(module: types.ModuleType) -> None:
    module.f = lambda price: price
    features = FeaturesConfig(target="y", columns={"f": FunctionConfig(function="users_features:f", inputs=("price",))})
    with pytest.raises(DataError, match="no rows"):
        FeatureSet.from_config(features, schema_for(features, TABLE)).fit(TABLE.slice(0, 0))
