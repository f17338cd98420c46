"""Fitted scikit-learn transformers of numbers as plans: the same arithmetic in the same order, without scikit-learn.

Each function here restates the ``transform`` of one class of scikit-learn 1.9 over stand-ins for its columns; the tests
compare every one with the original to 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rayline.errors import ConfigError
from rayline.features.recorded import Recorded, record

Columns = list[Any]


class NoPlan(Exception):
    """A transformer, or a setting of one, that has no plan; ``what`` names it."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


def plan_of(transformer: Any, inputs: int, blanks: Sequence[float] = ()) -> Recorded:
    """Return what a fitted transformer does to so many columns of numbers. Raises ``NoPlan``.

    ``blanks`` stand for missing numbers, one for each column, where there are any.
    """

    def function(*arrays: Any) -> tuple[Any, ...]:
        columns = [np.where(np.isnan(each), blank, each) for each, blank in zip(arrays, blanks, strict=False)]
        return tuple(after(transformer, columns or list(arrays)))

    try:
        return record(function, inputs, f"the transformer {type(transformer).__name__}")
    except ConfigError as error:
        raise error.__cause__ if isinstance(error.__cause__, NoPlan) else NoPlan(str(error)) from error


def known() -> tuple[str, ...]:
    """Return the names of the classes that have a plan."""
    return tuple(sorted({*_MEMBERS, "Pipeline", "FeatureUnion", "FrozenEstimator"}))


def after(transformer: Any, columns: Columns) -> Columns:
    """Return the columns that a fitted transformer makes of some. Raises ``NoPlan``."""
    if isinstance(transformer, str):
        return columns if transformer == "passthrough" else []
    name = type(transformer).__name__
    if not type(transformer).__module__.startswith("sklearn."):
        raise NoPlan(f"{type(transformer).__module__}.{name}")
    if name == "FrozenEstimator":
        return after(transformer.estimator, columns)
    if name == "Pipeline":
        for _, step in transformer.steps:
            columns = columns if step is None else after(step, columns)
        return columns
    if name == "FeatureUnion":
        if transformer.transformer_weights:
            raise NoPlan("FeatureUnion(transformer_weights=...)")
        return [column for _, each in transformer.transformer_list for column in after(each, columns)]
    if name not in _MEMBERS:
        raise NoPlan(name)
    return _MEMBERS[name](transformer, columns)


def _each(columns: Columns, *parameters: Any) -> Any:
    """Pair each column with its own parameters; None stands for the same None in every column."""
    return zip(columns, *([None] * len(columns) if each is None else each for each in parameters), strict=True)


def _standard(fitted: Any, columns: Columns) -> Columns:
    return [
        _over(column if mean is None else column - float(mean), scale)
        for column, mean, scale in _each(columns, fitted.mean_ if fitted.with_mean else None, fitted.scale_)
    ]


def _over(column: Any, scale: Any) -> Any:
    return column if scale is None else column / float(scale)


def _minmax(fitted: Any, columns: Columns) -> Columns:
    scaled = [column * float(scale) + float(low) for column, scale, low in _each(columns, fitted.scale_, fitted.min_)]
    least, most = (float(each) for each in fitted.feature_range)
    return [np.clip(column, least, most) for column in scaled] if fitted.clip else scaled


def _max_abs(fitted: Any, columns: Columns) -> Columns:
    scaled = [column / float(scale) for column, scale in _each(columns, fitted.scale_)]
    return [np.clip(column, -1.0, 1.0) for column in scaled] if getattr(fitted, "clip", False) else scaled


def _robust(fitted: Any, columns: Columns) -> Columns:
    center = fitted.center_ if fitted.with_centering else None
    scale = fitted.scale_ if fitted.with_scaling else None
    return [
        _over(column if middle is None else column - float(middle), spread)
        for column, middle, spread in _each(columns, center, scale)
    ]


def _impute(fitted: Any, columns: Columns) -> Columns:
    if not _is_nan(fitted.missing_values):
        raise NoPlan(f"SimpleImputer(missing_values={fitted.missing_values!r})")
    if any(_is_nan(each) for each in fitted.statistics_):
        raise NoPlan("SimpleImputer of a column without values")
    filled = [np.where(np.isnan(column), float(each), column) for column, each in _each(columns, fitted.statistics_)]
    return filled + (_missing(fitted.indicator_, columns) if fitted.add_indicator else [])


def _missing(fitted: Any, columns: Columns) -> Columns:
    return [np.isnan(columns[place]).astype(float) for place in fitted.features_.tolist()]


def _power(fitted: Any, columns: Columns) -> Columns:
    curve = _yeo_johnson if fitted.method == "yeo-johnson" else _box_cox
    curved = [curve(column, float(power)) for column, power in _each(columns, fitted.lambdas_)]
    return _standard(fitted._scaler, curved) if fitted.standardize else curved


def _yeo_johnson(column: Any, power: float) -> Any:
    """See Yeo and Johnson (2000), in the form of SciPy's ``yeojohnson``."""
    above = np.log1p(np.maximum(column, 0.0))
    below = np.log1p(np.maximum(-column, 0.0))
    rest = 2.0 - power
    high = above if abs(power) < np.spacing(1.0) else np.expm1(power * above) / power
    low = -below if abs(rest) < np.spacing(1.0) else -np.expm1(rest * below) / rest
    return np.where(column >= 0, high, low)


def _box_cox(column: Any, power: float) -> Any:
    """See Box and Cox (1964), in the form of SciPy's ``boxcox``."""
    return np.log(column) if abs(power) < 1e-19 else np.expm1(power * np.log(column)) / power


def _quantile(fitted: Any, columns: Columns) -> Columns:
    if fitted.output_distribution != "uniform":
        raise NoPlan(f"QuantileTransformer(output_distribution='{fitted.output_distribution}')")
    shares = fitted.references_
    return [_share(column, np.asarray(each), shares) for column, each in _each(columns, fitted.quantiles_.T)]


def _share(column: Any, values: Any, shares: Any) -> Any:
    up = np.interp(column, values, shares)
    down = np.interp(-column, -values[::-1], -shares[::-1])
    inside = 0.5 * (up - down)
    return np.where(column == float(values[0]), 0.0, np.where(column == float(values[-1]), 1.0, inside))


def _bins(fitted: Any, columns: Columns) -> Columns:
    places = [np.digitize(column, edges[1:-1]) for column, edges in _each(columns, fitted.bin_edges_)]
    if fitted.encode == "ordinal":
        return places
    return [
        (column == place).astype(float)
        for column, count in _each(places, fitted.n_bins_.tolist())
        for place in range(count)
    ]


def _polynomial(fitted: Any, columns: Columns) -> Columns:
    return [_product(columns, powers) for powers in fitted.powers_.tolist()]


def _product(columns: Columns, powers: Sequence[int]) -> Any:
    factors = [column for column, power in zip(columns, powers, strict=True) for _ in range(power)]
    return math.prod(factors[1:], start=factors[0]) if factors else np.ones_like(columns[0])


def _binarize(fitted: Any, columns: Columns) -> Columns:
    return [(column > float(fitted.threshold)).astype(float) for column in columns]


def _normalize(fitted: Any, columns: Columns) -> Columns:
    sizes = {
        "l1": lambda: sum(np.abs(column) for column in columns),
        "l2": lambda: np.sqrt(sum(np.square(column) for column in columns)),
        "max": lambda: _largest([np.abs(column) for column in columns]),
    }
    size = sizes[fitted.norm]()
    return [column / np.where(size == 0, 1.0, size) for column in columns]


def _largest(columns: Columns) -> Any:
    largest = columns[0]
    for column in columns[1:]:
        largest = np.maximum(largest, column)
    return largest


def _function(fitted: Any, columns: Columns) -> Columns:
    if fitted.func is None:
        return columns
    if not isinstance(fitted.func, np.ufunc) or fitted.func.nin != 1 or fitted.kw_args:
        raise NoPlan("FunctionTransformer of another function than NumPy's element-wise ones of one array")
    return [fitted.func(column) for column in columns]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


_MEMBERS: dict[str, Callable[[Any, Columns], Columns]] = {
    "Binarizer": _binarize,
    "FunctionTransformer": _function,
    "KBinsDiscretizer": _bins,
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _minmax,
    "MissingIndicator": _missing,
    "Normalizer": _normalize,
    "PolynomialFeatures": _polynomial,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantile,
    "RobustScaler": _robust,
    "SimpleImputer": _impute,
    "StandardScaler": _standard,
}
