"""Fitted features as a fitted scikit-learn transformer of equal output, made of scikit-learn's own elements.

``FunctionTransformer`` stands only where scikit-learn has no element: the signed logarithm, the cut of far values, the
canonical text of a level, a table of numbers by level, and the plan of a function. Dates, texts, vectors and images
have neither: they are refused, or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.errors import ConfigError
from rayline.features.bridges import wrapped
from rayline.features.kinds.seam import LARGEST, FittedColumn
from rayline.features.schemas.schema import Schema

if TYPE_CHECKING:
    from rayline.features.transform import FittedFeatureSet

Raw = Mapping[str, Any]


def to_sklearn(features: FittedFeatureSet, *, partial: bool = False) -> Any:
    """Return a fitted ``sklearn.pipeline.Pipeline`` that gives the same numbers on a pandas frame.

    Its first step is a ``ColumnTransformer``, whose elements are frozen: fitting it again, as a pipeline with an
    estimator does, changes nothing. Its second step casts to float32 and names the outputs.

    Args:
        features: fitted.
        partial: leave out what cannot be expressed, instead of refusing.

    Returns:
        A transformer of frames that have the features' input columns: float32 (n, width), with
        ``get_feature_names_out`` equal to ``output_names``.

    Raises:
        ConfigError: a column cannot be expressed; the message lists them all.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    members: list[tuple[str, Any, list[str]]] = []
    names: list[str] = []
    left_out = []
    for column in features.columns:
        raw = column.to_json()
        maker = _MAKERS.get(_way(raw))
        if maker is None:
            left_out.append(f"'{column.name}' ({_way(raw)})")
            continue
        names += column.output_names
        for suffix, element in maker(column, raw, features.schema):
            frozen = FrozenEstimator(element)
            members.append((f"{len(members)}{suffix}", frozen, list(column.inputs)))
    if left_out and not (partial and members):
        raise ConfigError(
            f"scikit-learn has no element for {', '.join(left_out)}. to_sklearn(partial=True) leaves them out; known: "
            f"{', '.join(sorted(_MAKERS))}."
        )
    casting = FunctionTransformer(
        np.asarray, kw_args={"dtype": np.float32}, feature_names_out=wrapped.Named(tuple(names))
    )
    columns = ColumnTransformer(members, sparse_threshold=0.0, verbose_feature_names_out=True)
    return Pipeline([("columns", columns), ("float32", casting)]).fit(_frame(features))


def _way(raw: Raw) -> str:
    return f"{raw['kind']}, {raw['encode']}" if "encode" in raw else str(raw["kind"])


def _numeric(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    from sklearn.impute import MissingIndicator

    number = _chain(
        _imputer(raw["fill"], _one_column(column)),
        None if raw["clip"] is None else _cut(*raw["clip"]),
        _wrap(wrapped.signed_log) if raw["log"] else None,
        *_scaler(raw),
    )
    if not raw["flag"]:
        return [("number", number)]
    flag = MissingIndicator(features="all").fit(_one_column(column))
    return [("number", number), ("missing", flag)]


def _scaler(raw: Raw) -> list[Any]:
    from sklearn.preprocessing import KBinsDiscretizer, QuantileTransformer, StandardScaler

    if raw["edges"]:
        edges = np.array([-np.inf, *raw["edges"], np.inf])
        bins = KBinsDiscretizer(len(edges) - 1, encode="onehot-dense", strategy="uniform")
        bins.fit(np.arange(len(edges), dtype=np.float64).reshape(-1, 1))
        bins.bin_edges_[0] = edges
        return [bins]
    if raw["knots"]:
        knots, shares = np.array(raw["knots"]), np.linspace(0, 1, len(raw["knots"]))
        if len(knots) < 2 or (np.diff(knots) <= 0).any():
            return [_wrap(np.interp, xp=knots, fp=shares)]
        quantiles = QuantileTransformer(n_quantiles=len(knots), subsample=None).fit(knots.reshape(-1, 1))
        quantiles.quantiles_, quantiles.references_ = knots.reshape(-1, 1), shares
        return [quantiles]
    if (raw["mean"], raw["std"], raw["bound"]) == (0.0, 1.0, LARGEST):
        return [_cut(-LARGEST, LARGEST)]
    scaler = StandardScaler().fit(_BLANK)
    scaler.mean_, scaler.scale_ = np.array([raw["mean"]]), np.array([raw["std"]])
    scaler.var_ = scaler.scale_**2
    return [scaler, _cut(-raw["bound"], raw["bound"])]


def _boolean(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    return [("truth", _chain(_wrap(wrapped.numbers), _imputer(raw["fill"], _BLANK)))]


def _one_hot(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    from sklearn.preprocessing import OneHotEncoder

    places = np.arange(len(raw["levels"]) + 2)
    encoder = OneHotEncoder(categories=[places], sparse_output=False).fit(places.reshape(-1, 1))
    return [("level", _chain(_wrap(wrapped.slots, levels=tuple(raw["levels"])), encoder))]


def _ordinal(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    from sklearn.preprocessing import OrdinalEncoder

    known = np.array([*raw["levels"], np.nan], dtype=object)
    encoder = OrdinalEncoder(
        categories=[known],
        handle_unknown="use_encoded_value",
        unknown_value=int(raw["unknown"]),
        encoded_missing_value=int(raw["missing"]),
    )
    return [("level", _chain(_wrap(wrapped.texts), encoder.fit(known.reshape(-1, 1))))]


def _level_number(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    table = tuple((each,) for each in (*raw["numbers"], raw["unknown"], raw["missing"]))
    return [("level", _looked_up(raw["levels"], table))]


def _target(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    return [("level", _looked_up(raw["levels"], tuple(tuple(each) for each in raw["means"])))]


def _lookup(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    refused = (np.nan,) * len(raw["suffixes"])
    rows = [tuple(each or refused) for each in (*raw["numbers"], raw["unknown"], raw["missing"])]
    return [("level", _looked_up(raw["levels"], tuple(rows)))]


def _by_column(column: FittedColumn, raw: Raw, schema: Schema) -> list[tuple[str, Any]]:
    wrapper = _wrap(wrapped.by_column, column=column, schema=schema)
    wrapper.feature_names_out = wrapped.Named(tuple(column.output_names))
    return [("function", wrapper)]


def _looked_up(levels: Any, table: tuple[tuple[float, ...], ...]) -> Any:
    wrapper = _wrap(wrapped.looked_up, levels=tuple(levels), table=table)
    wrapper.feature_names_out = wrapped.Named(tuple(f"number{place}" for place in range(len(table[0]))))
    return wrapper


def _imputer(fill: float, rows: Any) -> Any:
    from sklearn.impute import SimpleImputer

    imputer = SimpleImputer(strategy="mean", keep_empty_features=True).fit(rows)  # which takes whole numbers too
    imputer.statistics_ = np.array([fill])
    return imputer


def _one_column(column: FittedColumn) -> Any:
    """Return rows that give an element the name of its column, which scikit-learn compares later."""
    import pandas as pd

    return pd.DataFrame(_BLANK, columns=list(column.inputs))


def _cut(low: float, high: float) -> Any:
    return _wrap(np.clip, a_min=low, a_max=high)


def _wrap(function: Callable[..., Any], **settings: Any) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(function, kw_args=settings, feature_names_out="one-to-one", check_inverse=False)


def _chain(*elements: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*(each for each in elements if each is not None))


def _frame(features: FittedFeatureSet) -> Any:
    """Return two rows without values, on which nothing is learned: they give the columns' names."""
    import pandas as pd

    numbers = ("numeric", "vector")
    kinds = {column.name: column.kind for column in features.schema.columns}
    blank = {
        name: np.array([np.nan, np.nan], dtype=np.float64 if kinds.get(name) in numbers else object)
        for name in features.input_columns
    }
    return pd.DataFrame(blank)


_BLANK = np.array([[0.0], [1.0]])
_MAKERS: dict[str, Callable[[FittedColumn, Raw, Schema], list[tuple[str, Any]]]] = {
    "numeric": _numeric,
    "boolean": _boolean,
    "categorical, one_hot": _one_hot,
    "categorical, ordinal": _ordinal,
    "categorical, index": _level_number,
    "categorical, frequency": _level_number,
    "categorical, target": _target,
    "lookup": _lookup,
    "function": _by_column,
    "sklearn": _by_column,
}
